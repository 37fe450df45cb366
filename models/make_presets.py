"""Write the presets: python models/make_presets.py [--dest exp/presets]

A preset is a JSON file of options, for --config or for ./launch.sh's --preset. They come from data alone:
  - each published run exp/NNNNN-*: NAME samples with its predictor, train-NAME trains again with its released options;
  - the recipes of the public README and launch script (BeierZhu/EPD at 94c00d0), in the table below.
Equal data give equal files. Needs nothing but Python.
"""

import argparse
import json
from pathlib import Path
from typing import Any

Options = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
NUM_PUBLISHED = 32

# Images at a time. How many go through the network at once is --chunk's business, so this costs no memory to speak of.
BATCH = {"cifar10": 128, "ffhq": 128, "imagenet64": 128, "lsun_bedroom_ldm": 64}

EPD = {"sampler_stu": "epd", "num_steps": 4, "afs": True}
FROM_DPM = EPD | {"sampler_tea": "dpm", "M": 3, "scale_dir": 0.05, "scale_time": 0.05}
UNIFORM, DISCRETE = ({"schedule_type": kind, "schedule_rho": 1} for kind in ("time_uniform", "discrete"))
FAST = {"lr": 0.2, "coslr": True, "seed": 0}


def trained(dataset_name: str, batch: int, total_kimg: int = 10) -> Options:
    return {"dataset_name": dataset_name, "batch": batch, "total_kimg": total_kimg}


RECIPES: dict[str, Options] = {
    # The README's example. It names no learning rate; train's default is that of the launch script.
    "train-cifar10-epd-readme": trained("cifar10", 128)
    | EPD
    | {"sampler_tea": "heun", "M": 1, "scale_dir": 0.01, "scale_time": 0}
    | UNIFORM,
    # Section A of the launch script: training.
    "train-cifar10-epd": trained("cifar10", 128) | FROM_DPM | UNIFORM | FAST,
    "train-cifar10-ipndm": trained("cifar10", 128)
    | FROM_DPM
    | {"sampler_stu": "ipndm", "sampler_tea": "ipndm", "scale_time": 0.2, "max_order": 4}
    | {"schedule_type": "polynomial", "schedule_rho": 7}
    | FAST,
    "train-ffhq-epd": trained("ffhq", 64) | FROM_DPM | UNIFORM | FAST,
    "train-imagenet64-epd": trained("imagenet64", 64) | FROM_DPM | {"M": 1} | UNIFORM | FAST,
    "train-lsun_bedroom_ldm-epd": trained("lsun_bedroom_ldm", 64)
    | FROM_DPM
    | {"scale_dir": 0.1, "scale_time": 0, "max_order": 3, "predict_x0": False, "lower_order_final": True}
    | {"guidance_type": "uncond", "guidance_rate": 1}
    | DISCRETE
    | FAST
    | {"lr": 0.02},
    "train-ms_coco-epd": trained("ms_coco", 32, total_kimg=5)
    | FROM_DPM
    | {"scale_time": 0.2, "max_order": 2, "predict_x0": False, "lower_order_final": True}
    | {"guidance_type": "cfg", "guidance_rate": 7.5}
    | DISCRETE
    | {"lr": 0.01, "seed": 0},
    # Section B: images for the Frechet distance, with the first predictor that was trained.
    "sample-fid": {"predictor_path": 0, "batch": 128, "seeds": "0-49999"},
    "sample-fid-ms_coco": {"predictor_path": 0, "batch": 8, "seeds": "0-29999"},
}


def published_presets(exp: Path) -> dict[str, Options]:
    """Two presets for each published run in the folder."""
    presets: dict[str, Options] = {}
    for number in range(1, NUM_PUBLISHED + 1):
        (folder,) = exp.glob(f"{number:05}-*")
        predictor, options = (
            json.loads((folder / file).read_text()) for file in ("predictor.json", "training_options.json")
        )
        dataset, num_steps = predictor["dataset_name"], predictor["num_steps"]
        nfe = 2 * (num_steps - 1) - predictor["afs"]
        name = f"{dataset}-{predictor['kind']}-nfe{nfe}"
        presets[name] = {
            "predictor_path": number,
            "dataset_name": dataset,  # these two hold off a run of the user's own under the same number
            "num_steps": num_steps,
            "batch": BATCH[dataset],
        }
        presets[f"train-{name}"] = options
    return presets


def presets(exp: Path) -> dict[str, str]:
    """The text of every preset, by its name."""
    made = published_presets(exp) | RECIPES
    return {name: json.dumps(options, indent=2) + "\n" for name, options in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dest", type=Path, default=ROOT / "exp" / "presets", help="(default: %(default)s)")
    dest = parser.parse_args().dest
    dest.mkdir(parents=True, exist_ok=True)
    for name, text in presets(ROOT / "exp").items():
        (dest / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
