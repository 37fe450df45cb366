"""Bring released EPD predictors into the product's own JSON, without running code from their pickles.

    ./launch.sh import RUN_FOLDER|FILE.pkl... [--dest exp] [--source TEXT]

A run folder holds network-snapshot-*.pkl (the last one counts, unless it is named itself) and, where released,
training_options.json. For each, DEST/<name of the run folder>/ gets predictor.json, and training_options.json with the
options in the names of `train`.

The public code computes its time_uniform grid in float32, which ends at 0.0020132 instead of 0.002. The numbers were
learned on that grid, so it is written out as explicit `t_steps`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import safe_load
from state_dict import state_of

# The state that each dataset's model denoises: channels, labels, and the sigma range of its schedules.
MODELS = {
    "cifar10": (3, 0, 0.002, 80.0),
    "ffhq": (3, 0, 0.002, 80.0),
    "afhqv2": (3, 0, 0.002, 80.0),
    "imagenet64": (3, 1000, 0.002, 80.0),
    "lsun_bedroom": (3, 0, 0.002, 80.0),
    "lsun_bedroom_ldm": (3, 0, 0.03875904902815819, 83.82247924804688),
}
PARAMETERS = {"r": "r_params", "weight": "weight_s", "scale_dir": "scale_dir_params", "scale_time": "scale_time_params"}
# Options of the run that have the same name here.
TRAINING_OPTIONS = """
    dataset_name num_steps num_points sampler_stu sampler_tea M guidance_rate schedule_type schedule_rho afs scale_dir
    scale_time max_order predict_x0 lower_order_final fcn alpha""".split()
SOURCE = "github.com/BeierZhu/EPD at 94c00d0, exps/{name} (Zhu et al., ICCV 2025, arXiv 2507.14797)"


def time_uniform_in_float32(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """Uniform steps in the time of a VP process, in float32 and in the public code's order of operations."""
    log_variance = [torch.as_tensor(np.log((torch.tensor(sigma) ** 2 + 1).numpy())) for sigma in (sigma_min, sigma_max)]
    end = 1e-3
    beta_d = 2 * (log_variance[0] / end - log_variance[1]) / (end - 1)
    beta_min = log_variance[1] - 0.5 * beta_d
    u = (1 + torch.arange(num_steps) / (num_steps - 1) * (end ** (1 / rho) - 1)) ** rho
    return ((np.e ** (0.5 * beta_d * u**2 + beta_min * u) - 1) ** 0.5).tolist()


def predictor_json(pickled: safe_load.Record, source: str) -> dict[str, Any]:
    """The product's predictor.json of a pickled predictor."""
    options, raw = pickled.state, state_of(pickled)
    name = options["dataset_name"]
    if name not in MODELS:
        raise ValueError(f"a predictor for {name!r}; known are {', '.join(MODELS)}")
    if options["schedule_type"] not in ("time_uniform", "polynomial"):
        raise ValueError(f"schedule {options['schedule_type']!r}: time_uniform and polynomial are known")
    channels, label_dim, sigma_min, sigma_max = MODELS[name]
    num_steps, rho = options["num_steps"], options["schedule_rho"]
    schedule = {"type": options["schedule_type"], "rho": rho, "sigma_min": sigma_min, "sigma_max": sigma_max}
    if options["schedule_type"] == "time_uniform":
        schedule["t_steps"] = time_uniform_in_float32(num_steps, sigma_min, sigma_max, rho)
    guided = options["guidance_type"] is not None
    return {
        "format": "epd-predictor",
        "version": 1,
        "kind": options["sampler_stu"],
        "dataset_name": name,
        "resolution": options["img_resolution"],
        "channels": channels,
        "label_dim": label_dim,
        "num_steps": num_steps,
        "num_points": options["num_points"],
        "schedule": schedule,
        "afs": options["afs"],
        "max_order": options["max_order"] if options["sampler_stu"] == "ipndm" else None,
        "scale_dir": options["scale_dir"],
        "scale_time": options["scale_time"],
        "fcn": options["fcn"],
        "guidance_type": options["guidance_type"],
        "guidance_rate": options["guidance_rate"] if guided else None,
        "parameters": {ours: raw[theirs].tolist() for ours, theirs in PARAMETERS.items()},
        "source": source,
    }


def training_options(pickled: safe_load.Record, released: dict[str, Any]) -> dict[str, Any]:
    """The options of the run, named as those of `train`."""
    options = pickled.state
    result = {key: options[key] for key in TRAINING_OPTIONS}
    result["guidance_type"] = options["guidance_type"] or "none"
    if released:
        result["lr"] = released["optimizer_kwargs"]["lr"]
        result["coslr"] = released["cos_lr_schedule"]
        result["batch"] = released["batch_size"]
        result["total_kimg"] = released["total_kimg"]
        result["seed"] = released["seed"]
    return result


def to_text(value: Any, indent: str = "") -> str:
    """JSON with one field a line and innermost lists on one line."""
    if isinstance(value, dict):
        lines = [f"{indent}  {json.dumps(key)}: {to_text(item, indent + '  ')}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(f"{indent}  {json.dumps(row)}" for row in value) + f"\n{indent}]"
    return json.dumps(value)


def import_run(folder: Path, dest: Path, source: str) -> Path:
    """Import one run folder; returns the folder written."""
    snapshots = [folder] if folder.is_file() else sorted(folder.glob("network-snapshot-*.pkl"))
    folder = folder.parent.resolve() if folder.is_file() else folder.resolve()
    if not snapshots:
        raise ValueError(f"{folder}: no network-snapshot-*.pkl in it")
    content = safe_load.load(snapshots[-1])
    pickled = content.get("model") if isinstance(content, dict) else None
    if not isinstance(pickled, safe_load.Record) or pickled.class_name != "EPD_predictor":
        raise ValueError(f"{snapshots[-1]}: holds no EPD predictor")
    options_file = folder / "training_options.json"
    released = json.loads(options_file.read_text()) if options_file.exists() else {}
    predictor = to_text(predictor_json(pickled, source.format(name=folder.name)))
    options = to_text(training_options(pickled, released))
    out = dest / folder.name
    out.mkdir(parents=True, exist_ok=True)
    (out / "predictor.json").write_text(predictor + "\n")
    (out / "training_options.json").write_text(options + "\n")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--dest", type=Path, default=Path("exp"))
    parser.add_argument(
        "--source", default=SOURCE, help="where the numbers come from; {name} is the folder's (default: %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        for folder in arguments.folders:
            print(import_run(folder, arguments.dest, arguments.source))
    except (ValueError, KeyError, OSError) as error:
        print(f"import_predictors: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
