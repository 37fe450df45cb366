"""The dataset names: where each one's checkpoint and statistics come from, which family reads it (registry.json)."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REGISTRY = Path(__file__).resolve().parent / "registry.json"


@dataclass(frozen=True)
class SourceFile:
    """A file to fetch: a checkpoint, or a zip with one. An optional one serves those without their first stage."""

    name: str
    url: str
    sha256: str | None = None
    bytes: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class Entry:
    """One dataset name. `family` names the exporter (export.py); `files` stand in the order that it expects.

    `model` and `detector` are paths in this repository, of what ships with it; `end_to_end` is a default of training.
    """

    name: str
    family: str
    summary: str
    files: list[SourceFile] = field(default_factory=list)
    statistics: dict[str, Any] | None = None
    captions: dict[str, Any] | None = None
    model: str | None = None
    detector: str | None = None
    end_to_end: bool = False


def load() -> dict[str, Entry]:
    """Every entry, by dataset name: those of the product, then those of the user's own registry.json in the cache."""
    content, own = json.loads(REGISTRY.read_text()), cache_folder() / "registry.json"
    if own.exists():
        content |= read_own(own)
    return {
        name: Entry(name, **(item | {"files": [SourceFile(**file) for file in item.get("files", [])]}))
        for name, item in content.items()
    }


def read_own(path: Path) -> dict[str, Any]:
    """The user's entries, checked: families and files are named as in this file."""
    try:
        content = json.loads(path.read_text())
        for name, item in content.items():
            files = [SourceFile(**file) for file in item.get("files", [])]
            Entry(name, **({"family": "", "summary": ""} | item | {"files": files}))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no registry: {error}") from None
    return {name: {"family": "", "summary": "a user's own"} | item for name, item in content.items()}


def find(name: str) -> Entry:
    """The entry of a dataset name; ValueError with the known names."""
    entries = load()
    if name not in entries:
        raise ValueError(f"unknown dataset name {name!r}; known are {', '.join(entries)}")
    return entries[name]


def cache_folder() -> Path:
    """$EPD_CACHE, or ~/.cache/epd."""
    return Path(os.environ.get("EPD_CACHE") or Path.home() / ".cache" / "epd")


def model_path(name: str) -> Path:
    """Where the exported model of a dataset name lives: in this repository where it ships with it, or in the cache."""
    shipped = load()[name].model if name in load() else None
    return REGISTRY.parents[1] / shipped if shipped else cache_folder() / "models" / name / "denoiser.ts"
