"""Export a model file from original checkpoints: python models/export.py NAME [--source FILE...] [--dest FILE]

NAME is a dataset name of registry.json; the files stand in the order that it lists them (imagenet256: the diffusion
model, then the classifier; *_ldm: the latent diffusion model, then the first stage where the former lacks it). A zip
archive with the checkpoint serves as well. Without --source they are fetched. Nothing in a checkpoint is run. Any other
NAME with --source is a model of your own: a checkpoint of these families, or a folder of diffusers' save_pretrained.

    ./launch.sh model my-folder --source FOLDER                     a diffusers folder
    ./launch.sh model my-file   --source FILE.safetensors           Stable Diffusion in one file
    ./launch.sh model my-edm2   --source NET.pkl [GUIDE.pkl] [VAE]  EDM2; VAE of latent models: a file or a folder
    ./launch.sh model my-dit    --source NET.pt VAE --family dit    DiT (or sit)
    ./launch.sh sample --dataset_name my-dit --solver unipc         images of it

The detectors inception and inception-pytorch (inception.py) are made in the same way.
"""

import argparse
import importlib
import os
import signal
import sys
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

import contract
import fetch
import inception
import registry
from archive import found_in, load_content
from clip_vocabulary import write_tokenizer
from diffusers_folder import is_folder_source
from diffusers_schedule import PREDICTIONS
from safe_load import Record

# Each family is a module with read_model(name, files, sizes) -> (the contract's module, its facts).
FAMILIES = {name: name for name in ("edm", "edm2", "dit", "sit", "consistency", "adm", "ldm", "sd")} | {
    "diffusers": "diffusers_model"
}

AUTOENCODER = "Stable Diffusion's autoencoder (a file or a folder of diffusers)"
TAKES = {  # the number of sources, where it is not one, and what they are
    "adm": ((2,), "the diffusion model, then its classifier"),
    "ldm": ((1, 2), "the diffusion model, then the first stage where the former lacks it"),
    "dit": ((2,), f"the transformer's checkpoint, then {AUTOENCODER}"),
    "sit": ((2,), f"the transformer's checkpoint, then {AUTOENCODER}"),
    "diffusers": ((1, 2), "one folder, then an autoencoder's for a network that stands alone"),
    "edm2": ((1, 2, 3), f"the network's pickle, then those of its guide and {AUTOENCODER} where there are some"),
}


FOREIGN = {  # part of the names in a file -> what it is
    "lora": "an adapter (LoRA) to another model: not supported",
    "control_model.": "a control network, no model of its own: not supported",
    "down_blocks.": "a network of diffusers: give its folder, where config.json says what it is",
}


@dataclass(frozen=True)
class Sizes:
    """What the weights do not tell; None means as published."""

    resolution: int | None = None
    head_channels: int | None = None
    num_heads: int | None = None
    new_attention_order: bool | None = None
    num_heads_upsample: int | None = None
    condition_head_channels: int | None = None
    scale_factor: float | None = None
    prediction_type: str | None = None
    variant: str | None = None
    family: str | None = None


def family_of(file: Path) -> str:
    """The family of a user's own source, by what it holds."""
    if is_folder_source(file):
        return "diffusers"
    content = load_content(file, weights=False)
    names = list(content) if isinstance(content, dict) else []
    starts = {name.partition(".")[0] for name in names if isinstance(name, str)}
    for part, what in FOREIGN.items():
        if any(part in name.lower() for name in names if isinstance(name, str)):
            raise ValueError(f"{file} holds {what}")
    if isinstance(ema := content.get("ema") if names else None, Record):
        return "edm2" if ema.class_name == "Precond" else "edm"
    if starts & {"cond_stage_model", "conditioner"}:
        return "sd"
    if "model" in starts and any(name.startswith("model.diffusion_model.") for name in names):
        return "ldm"
    if "x_embedder" in starts or (isinstance(ema, dict) and "x_embedder.proj.weight" in ema):
        raise ValueError(f"{file}: a transformer on latents: give --family dit|sit")
    if "input_blocks" in starts:
        raise ValueError(f"{file}: a U-Net of guided diffusion or of Consistency Models: give --family adm|consistency")
    raise ValueError(f"{file} tells no family ({found_in(content)}): give --family {'|'.join(FAMILIES)}")


def check_options(family: str, sizes: Sizes) -> None:
    """Refuses what only the folders of diffusers, or Stable Diffusion, have a use for."""
    for option, families in (("prediction_type", ("diffusers", "sd")), ("variant", ("diffusers",))):
        if getattr(sizes, option) and family not in families:
            raise ValueError(f"--{option} is for folders of diffusers: the family {family} has no use for it")


def read_model(name: str, files: list[Path], sizes: Sizes = Sizes()) -> tuple[nn.Module, dict[str, Any]]:
    """The module of a dataset name, with its weights, and its facts. Raises ValueError or OSError with the reason.

    A name that the registry lacks is a user's own model; its family, where it is not given, shows in its source.
    """
    known = registry.load()
    for file in files:
        if not file.exists():
            raise ValueError(f"--source {file}: there is no such file or folder")
    if files and (sizes.family or name not in known or is_folder_source(files[0])):
        family = sizes.family or family_of(files[0])
        counts, takes = TAKES.get(family, ((1,), "one file or folder"))
        if len(files) not in counts:
            raise ValueError(f"--source of the family {family} is {takes}; {len(files)} given")
        check_options(family, sizes)
        return importlib.import_module(FAMILIES[family]).read_model(name, files, sizes)
    entry = registry.find(name)
    check_options(entry.family, sizes)
    required = sum(not file.optional for file in entry.files)
    if not required <= len(files) <= len(entry.files):
        names = ", ".join(file.name + (" if needed" if file.optional else "") for file in entry.files)
        raise ValueError(f"{name} is made from {names}; {len(files)} file{'' if len(files) == 1 else 's'} given")
    return importlib.import_module(FAMILIES[entry.family]).read_model(name, files, sizes)


def export(name: str, files: list[Path], dest: Path | None = None, sizes: Sizes = Sizes()) -> Path:
    """Read, verify and write the model file of a dataset name; returns its path."""
    if name in inception.NAMES:
        return inception.export(name, files[0] if files else None, dest)
    in_cache = dest is None
    dest = dest or registry.model_path(name)
    if name == "demo":
        from demo.export import WEIGHTS
        from demo.export import export as export_demo

        return export_demo(files[0] if files else WEIGHTS, dest)
    module, facts = read_model(name, files, sizes)
    if in_cache and dest.exists():
        check_replaced(dest, facts)
    return contract.write_model(module, facts, dest, write_tokenizer if facts["text"] else None)


KIND = ("resolution", "channels", "label_dim", "condition", "latent", "text", "classifier")


def check_replaced(path: Path, facts: dict[str, Any]) -> None:
    """Says that the cache's model is replaced by one of other checkpoints; refuses one of another kind."""
    try:
        old = contract.read_facts(path)
    except (ValueError, OSError, zipfile.BadZipFile):
        return  # not a model file
    others = [f"{key} {old.get(key)!r}, here {facts[key]!r}" for key in KIND if old.get(key) != facts[key]]
    if others:
        raise ValueError(f"{path} is a model of another kind ({'; '.join(others)}): give --dest FILE, or remove it")
    if old.get("source") != facts["source"]:
        print(f"export: replaces {path}, made from {', '.join(old.get('source') or ['?'])}", file=sys.stderr)


def positive(text: str) -> int:
    """A whole number from 1. argparse reports the ValueError, with this function's name."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def checkpoint_file(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text} is an address: fetch the file first and name it, or leave this out")
    return Path(text)


def one_line(text: object) -> str:
    """A message as one line of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= 1000 else line[:1000] + " ..."


def truth(text: str) -> bool:
    """True or False, in any case of letters."""
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def optimize(model: Path, arguments: argparse.Namespace) -> None:
    """Compiles the model file; prints where the result lies, and on stderr what it is worth."""
    from optimize import optimize as compile_model

    if arguments.name in inception.NAMES:
        raise ValueError(f"--optimize compiles models, not detectors such as {arguments.name}")
    print(f"export: compiling {model}; this takes minutes", file=sys.stderr)
    path, worth = compile_model(model, arguments.precision, arguments.chunk or 0, arguments.device)
    print(path)
    print(f"export: {worth}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help=", ".join([*registry.load(), *inception.NAMES]))
    parser.add_argument(
        "--source",
        nargs="+",
        type=checkpoint_file,
        default=[],
        metavar="FILE",
        help="the original checkpoint files (default: fetched)",
    )
    parser.add_argument("--family", choices=FAMILIES, help="of a model of your own, where its source does not tell")
    parser.add_argument(
        "--prediction_type",
        choices=(*PREDICTIONS, "flow_prediction"),
        help="what a network of diffusers or Stable Diffusion predicts (default: as its config says, or as published)",
    )
    parser.add_argument(
        "--variant", metavar="NAME", help="of a diffusers folder's weights, such as fp16 (default: the plain ones)"
    )
    parser.add_argument("--dest", metavar="FILE", help="the model file to write, or its folder (default: the cache's)")
    parser.add_argument(
        "--resolution", type=positive, metavar="INT", help="height and width of the state, if not in the checkpoint"
    )
    parser.add_argument(
        "--head_channels", type=positive, metavar="INT", help="channels per attention head (default: as published)"
    )
    parser.add_argument(
        "--condition_head_channels",
        type=positive,
        metavar="INT",
        help="the same of the classifier or text encoder beside the U-Net (default: --head_channels)",
    )
    parser.add_argument(
        "--num_heads", type=positive, metavar="INT", help="attention heads, where that is fixed instead"
    )
    parser.add_argument(
        "--num_heads_upsample",
        type=positive,
        metavar="INT",
        help="attention heads on the way up (default: --num_heads)",
    )
    parser.add_argument(
        "--use_new_attention_order",
        dest="new_attention_order",
        type=truth,
        metavar="BOOL",
        help="guided diffusion's option of that name, where a U-Net was trained with another than the published ones",
    )
    parser.add_argument(
        "--scale_factor",
        type=float,
        metavar="FLOAT",
        help="of latents, where neither the checkpoint nor a YAML file beside it says it",
    )
    parser.add_argument(
        "--optimize",
        action="store_true",
        help="compile the model file (made first if it is missing) for this machine; the programs use it where it fits",
    )
    parser.add_argument(
        "--precision", choices=("fp32", "tf32", "fp16", "bf16"), help="with --optimize (default: as the programs' auto)"
    )
    parser.add_argument(
        "--chunk", type=positive, metavar="INT", help="with --optimize: the programs' --chunk (default: 16; GPU 64)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="with --optimize (default: a GPU if there is one)")
    arguments = parser.parse_args()
    dest = Path(arguments.dest) if arguments.dest else None
    if dest and (dest.is_dir() or arguments.dest.endswith("/")):
        dest /= f"{arguments.name}.ts" if arguments.name in inception.NAMES else "denoiser.ts"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that half-written files are taken away
    sizes = Sizes(**{field.name: getattr(arguments, field.name) for field in fields(Sizes)})
    try:
        if arguments.optimize and (path := dest or registry.model_path(arguments.name)).exists():
            optimize(path, arguments)
            return 0
        fetched = arguments.name not in inception.NAMES  # the detectors' module fetches its own
        files = arguments.source or (fetch.checkpoints(arguments.name) if fetched else [])
        path = export(arguments.name, files, dest, sizes)
        print(path)
        if arguments.optimize:
            optimize(path, arguments)
    except (ValueError, OSError) as error:
        if os.environ.get("EPD_DEBUG"):
            raise
        print(f"export: {one_line(error)}", file=sys.stderr)
        return 1
    except Exception as error:
        if os.environ.get("EPD_DEBUG"):
            raise
        print(f"export: {one_line(f'{type(error).__name__}: {error}')} (EPD_DEBUG=1 shows where)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export: stopped; a download goes on from here at the next call", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
