"""Folders of diffusers' save_pretrained as models: what their configs say, and their weights.

A pipeline (model_index.json) has a scheduler, a U-Net, and where it is latent a decoder, where it reads text one or two
encoders. A folder of a network alone (config.json) has at least the U-Net. Nothing in them is run.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archive import load_checkpoint
from download import sha256_of
from safe_load import some

INDEX, CONFIG = "model_index.json", "config.json"
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # of a component's weights
ENDINGS = (".safetensors", ".bin")
ADAPTERS = ("adapter_config.json", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
REFUSED = {  # part of a class's name -> what it is
    "ControlNet": "a control network, no model of its own",
    "Inpaint": "an inpainting model, which sees an image",
    "Upscale": "an upscaler, which sees an image",
    "Img2Img": "the second stage of another model, which sees an image",
    "Adapter": "an adapter to another model",
    "MotionModel": "a part of a video model",
}


def is_folder_source(path: Path) -> bool:
    """Whether a source is a diffusers folder, or the config that stands for one."""
    return path.is_dir() or path.name in (INDEX, CONFIG)


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


def refuse_kind(name: str, path: Path) -> None:
    for part, what in REFUSED.items():
        if part in name:
            raise ValueError(f"{path} is of class {name}: {what}; not supported")


class Component:
    """One network of a folder: its config, and its weights when asked for."""

    def __init__(self, folder: Path, root: Path, variant: str | None):
        self.folder, self.root, self.variant = folder, root, variant
        self.config = read_json(folder / CONFIG)
        self.files: list[Path] = []  # that the weights were read from

    @property
    def class_name(self) -> str:
        """The class in the config: diffusers' name, or transformers'."""
        named = self.config.get("_class_name") or (self.config.get("architectures") or [None])[0]
        return str(named or "")

    def expect(self, *classes: str, default: str = "") -> str:
        """The component's class, one of these; an old config without a class is `default`."""
        name = self.class_name or default
        refuse_kind(name, self.folder / CONFIG)
        if name not in classes:
            raise ValueError(
                f"{self.folder / CONFIG} names the class {name or 'none'}: supported here are {', '.join(classes)}"
            )
        return name

    def weights_file(self) -> Path:
        """The file of the weights, or the index of its shards; safetensors before .bin, the plain variant first."""
        infix = f".{self.variant}" if self.variant else ""
        for stem in STEMS:
            for ending in ENDINGS:
                for name in (f"{stem}{infix}{ending}", f"{stem}{ending}.index{infix}.json"):
                    if (self.folder / name).exists():
                        return self.folder / name
        if not self.variant and (others := self.variants()):
            if len(others) > 1:
                raise ValueError(f"{self.folder} holds the variants {', '.join(others)} alone: give --variant")
            self.variant = others[0]
            return self.weights_file()
        wanted = f"{STEMS[0]}{infix}.safetensors"
        adapters = [name for name in ADAPTERS if (self.folder / name).exists()]
        if adapters:
            raise ValueError(f"{self.folder} holds {adapters[0]}: an adapter (LoRA) to another model, not supported")
        found = some(sorted(path.name for path in self.folder.iterdir()))
        raise ValueError(f"{self.folder} holds no weights ({wanted} or another of these names); it holds {found}")

    def variants(self) -> list[str]:
        """The variants of the weights in the folder, such as fp16."""
        names = {
            path.name[len(stem) + 1 : -len(ending)].split("-")[0]
            for stem in STEMS
            for ending in ENDINGS
            for path in self.folder.glob(f"{stem}.*{ending}")
        }
        return sorted(names)

    def weights(self) -> dict[str, Tensor]:
        """The state dict, put together from its shards."""
        file = self.weights_file()
        state = self.sharded(file) if file.suffix == ".json" else self.load(file)
        adapters = [name for name in state if "lora" in name.lower() or ".adapter" in name]
        if adapters:
            raise ValueError(f"{file} holds the weights of an adapter (LoRA): {some(adapters, 2)}; not supported")
        return state

    def load(self, file: Path) -> dict[str, Tensor]:
        self.files.append(file)
        return load_checkpoint(file)

    def sharded(self, index: Path) -> dict[str, Tensor]:
        """The shards that an index names; what it says of each weight must be so."""
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise ValueError(f"{index} has no weight_map")
        state: dict[str, Tensor] = {}
        shards = sorted({str(place) for place in places.values()})
        for shard in shards:
            if Path(shard).name != shard or shard in ("", ".", ".."):
                raise ValueError(f"{index} names the shard {shard!r} outside its folder")
            if not (self.folder / shard).exists():
                raise ValueError(f"{index} names the shard {shard}, which is missing")
        for shard in shards:
            content = self.load(self.folder / shard)
            wanted = {name for name, place in places.items() if place == shard}
            if wanted != set(content):
                raise ValueError(
                    f"{index} does not fit {shard}: not there {some(wanted - set(content)) or 'none'}, "
                    f"not in the index {some(set(content) - wanted) or 'none'}"
                )
            state |= content
        return state

    def sources(self) -> dict[str, str]:
        """The SHA-256 of each file read, by its path in the folder."""
        return {str(file.relative_to(self.root)): sha256_of(file) for file in self.files}


class Folder:
    """A pipeline's folder, or that of a network alone."""

    def __init__(self, source: Path, variant: str | None = None):
        root = source.parent if source.name in (INDEX, CONFIG) else source
        if not root.is_dir():
            raise ValueError(f"{root} is not a folder")
        snapshots = sorted((root / "snapshots").glob("*")) if (root / "refs").is_dir() else []
        if len(snapshots) > 1:
            raise ValueError(f"{root} holds {len(snapshots)} snapshots: give one of them, such as {snapshots[-1]}")
        self.root, self.variant = (snapshots[0] if snapshots else root), variant
        if not (self.root / INDEX).exists() and not (self.root / CONFIG).exists():
            adapters = [name for name in ADAPTERS if (self.root / name).exists()]
            what = f": {adapters[0]} is an adapter (LoRA) to another model" if adapters else ""
            raise ValueError(f"{self.root} has neither {INDEX} nor {CONFIG}: not a diffusers folder{what}")
        self.index = read_json(self.root / INDEX) if (self.root / INDEX).exists() else {}
        refuse_kind(str(self.index.get("_class_name", "")), self.root / INDEX)

    def has(self, name: str) -> bool:
        """Whether the index names the component; one that it sets to nothing is not there."""
        entry = self.index.get(name)
        if entry is None or entry == [None, None]:
            return False
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(part, str) for part in entry):
            raise ValueError(f"{self.root / INDEX}: {name} should be [library, class]")
        return True

    def place(self, name: str) -> Path:
        """The component's folder; that of the whole where there is none, as in the oldest pipelines."""
        return self.root / name if (self.root / name).is_dir() else self.root

    def component(self, name: str) -> Component:
        component = Component(self.place(name), self.root, self.variant)
        expected = self.index.get(name, [None, None])[1]
        if expected and component.class_name and component.class_name != expected:
            raise ValueError(
                f"{self.root / INDEX} says that {name} is a {expected}, but {component.folder / CONFIG} names the "
                f"class {component.class_name}"
            )
        return component

    def network(self) -> Component:
        """The denoising network."""
        names = [name for name in ("unet", "transformer") if self.has(name)] if self.index else ["unet"]
        if not names:
            raise ValueError(f"{self.root / INDEX}: a {self.index.get('_class_name')} has no unet and no transformer")
        return self.component(names[0])

    def scheduler(self) -> dict[str, Any]:
        """scheduler_config.json; diffusers' defaults, which is said, where a network stands alone."""
        for folder in (self.root / "scheduler", self.root, self.root.parent / "scheduler", self.root.parent):
            path = folder / "scheduler_config.json"
            if path.exists() and (folder in (self.root / "scheduler", self.root) or not self.index):
                return read_json(path)
        if self.index:
            raise ValueError(f"{self.root / 'scheduler/scheduler_config.json'} is missing")
        print(
            f"export: {self.root} has no scheduler_config.json: the noise levels are taken as DDPMScheduler's defaults "
            "(linear betas from 0.0001 to 0.02, the noise is predicted)",
            file=sys.stderr,
        )
        return {}


def half_precision(state: dict[str, Tensor]) -> str | None:
    """The half precision that weights were saved in, if any."""
    dtypes = {value.dtype for value in state.values()}
    return "bfloat16" if torch.bfloat16 in dtypes else "float16" if torch.float16 in dtypes else None
