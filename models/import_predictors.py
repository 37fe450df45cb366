"""Bring released predictors into the product's own JSON, without running code from their files.

    ./launch.sh import RUN_FOLDER|FILE... [--dest exp] [--source TEXT]

EPD: a run folder holds network-snapshot-*.pkl (the last one counts, unless it is named itself) and, where released,
training_options.json. For each, DEST/<name of the run folder>/ gets predictor.json, and training_options.json with the
options in the names of `train`.

DyWeight (run folders, and .pt for FLUX), AdaSDE (run folders), EPD-Solver++ (NAME-best.pkl) and NeuralSolver (the .py
files that hold its tables): DEST/zoo/PROJECT/DATASET-NFE.json.

Grids are written out as the public code computes them, in float32: the numbers were learned on those.
"""

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import grids
import safe_load
import zoo
from state_dict import state_of
from zoo import STATES, grid_of

PARAMETERS = {"r": "r_params", "weight": "weight_s", "scale_dir": "scale_dir_params", "scale_time": "scale_time_params"}
# Options of the run that have the same name here.
TRAINING_OPTIONS = """
    dataset_name num_steps num_points sampler_stu sampler_tea M guidance_rate schedule_type schedule_rho afs scale_dir
    scale_time max_order predict_x0 lower_order_final fcn alpha""".split()
SOURCE = "github.com/BeierZhu/EPD at 94c00d0, exps/{name} (Zhu et al., ICCV 2025, arXiv 2507.14797)"


def predictor_json(pickled: safe_load.Record, source: str) -> dict[str, Any]:
    """The product's predictor.json of a pickled predictor."""
    options, raw = pickled.state, state_of(pickled)
    name, num_steps, rho = state_name(options), options["num_steps"], options["schedule_rho"]
    if name not in STATES:
        raise ValueError(f"a predictor for {name!r}; known are {', '.join(STATES)}")
    channels, resolution, label_dim, sigma_min, sigma_max = STATES[name]
    if options["schedule_type"] == "flowmatch":
        rho = flow_shift(options)
        t_steps = grids.flow_above_zero(num_steps, options["backend_config"]["sigma_min"], rho)
    else:
        t_steps = grid_of(options["schedule_type"], name, num_steps, rho)
    schedule = {"type": options["schedule_type"], "rho": rho, "sigma_min": sigma_min, "sigma_max": sigma_max}
    if options["schedule_type"] != "polynomial":
        schedule["t_steps"] = t_steps.tolist()
    guided = options["guidance_type"] is not None and not name.startswith("flux")  # which is told its guidance
    return {
        "format": "epd-predictor",
        "version": 1,
        "kind": options["sampler_stu"],
        "dataset_name": name,
        "resolution": resolution,
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
        "guidance_type": options["guidance_type"] if guided else None,
        "guidance_rate": options["guidance_rate"] if guided else None,
        "parameters": {ours: raw[theirs].tolist() for ours, theirs in PARAMETERS.items()},
        "source": source,
    }


def state_name(options: dict[str, Any]) -> str:
    """The model of a predictor: EPD-Solver++ has the prompts' dataset for all, and flow models as its backends."""
    backend = options.get("backend", "ldm")
    if backend == "ldm":
        return options["dataset_name"]
    return backend + ("-512" if options["backend_config"]["resolution"] == 512 else "")


def flow_shift(options: dict[str, Any]) -> float:
    """The shift of a flow's levels: exp(mu), or that of SD3's scheduler."""
    mu = options["backend_config"].get("flowmatch_mu")
    return 3.0 if mu is None else math.exp(mu)


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
    """JSON with one field a line; rows of a list, and the points of a plan, on one line each."""
    if isinstance(value, dict) and "weights" not in value:
        lines = [f"{indent}  {json.dumps(key)}: {to_text(item, indent + '  ')}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return "[\n" + ",\n".join(f"{indent}  {json.dumps(row)}" for row in value) + f"\n{indent}]"
    return json.dumps(value)


def sealed(text: str) -> str:
    """The file of an object's text: with the SHA-256 of what stands before as its last field, which programs check."""
    text = text.removesuffix("\n}")
    return f'{text},\n  "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'


def epdpp(learned: safe_load.Record, file: Path, source: str) -> zoo.Entries:
    """A snapshot of EPD-Solver++: FILE-best.pkl, or FILE-distilled.pkl before its second training."""
    content, variant = predictor_json(learned, source), file.stem.split("-")[-1]
    nfe = (2 * (content["num_steps"] - 1) - content["afs"]) * (2 if content["guidance_type"] == "cfg" else 1)
    return {f"epdpp/{content['dataset_name']}-{nfe}{'' if variant == 'best' else '-' + variant}": content}


def read_zoo(file: Path, source: str) -> zoo.Entries:
    """The learned tables of another project's file; none for a run of the ICCV paper's code."""
    source = source.format(name=file.parent.name if file.stem.startswith("network-snapshot") else file.name)
    if file.suffix == ".py":
        return zoo.neuralsolver_source(file.read_text(), source)
    content = safe_load.load(file)
    names = (
        {key: getattr(value, "class_name", "") for key, value in content.items()} if isinstance(content, dict) else {}
    )
    if names.get("predictor") == "DyWeight_predictor":
        return zoo.dyweight_pickle(content, source)
    if "dyweight_weights_raw" in names:
        return zoo.dyweight_flux(content, source)
    if names.get("model") == "adasde_predictor":
        return zoo.adasde_pickle(content["model"], source)
    if names.get("model") == "EPD_predictor" and "backend" in content["model"].state:
        return epdpp(content["model"], file, source)
    return {}


def import_zoo(file: Path, dest: Path, source: str, seen: set[str]) -> list[Path]:
    """Write each table to DEST/zoo/PROJECT/DATASET-NFE.json; a second one of a name in the same call gets a b."""
    written = []
    for name, content in read_zoo(file, source).items():
        name += "b" if name in seen else ""
        seen.add(name)
        path = dest / "zoo" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sealed(to_text(content)))
        written.append(path)
    return written


def newest(path: Path) -> Path:
    """The file itself, or the last snapshot of a run folder."""
    snapshots = [path] if path.is_file() else sorted(path.glob("network-snapshot-*.pkl"))
    if not snapshots:
        raise ValueError(f"{path}: no network-snapshot-*.pkl in it")
    return snapshots[-1]


def import_run(folder: Path, dest: Path, source: str) -> Path:
    """Import one run folder; returns the folder written."""
    file = newest(folder)
    folder = file.parent.resolve()
    content = safe_load.load(file)
    pickled = content.get("model") if isinstance(content, dict) else None
    if not isinstance(pickled, safe_load.Record) or pickled.class_name != "EPD_predictor":
        raise ValueError(f"{file}: holds no EPD predictor")
    options_file = folder / "training_options.json"
    released = json.loads(options_file.read_text()) if options_file.exists() else {}
    predictor = to_text(predictor_json(pickled, source.format(name=folder.name)))
    options = to_text(training_options(pickled, released))
    out = dest / folder.name
    out.mkdir(parents=True, exist_ok=True)
    (out / "predictor.json").write_text(sealed(predictor))
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
        seen: set[str] = set()
        for path in arguments.folders:
            written = import_zoo(newest(path), arguments.dest, arguments.source, seen)
            print("\n".join(map(str, written or [import_run(path, arguments.dest, arguments.source)])))
    except (ValueError, KeyError, OSError) as error:
        print(f"import_predictors: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
