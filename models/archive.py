"""Checkpoints as they are published: a file of tensors, or one inside a zip archive."""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

import safe_load
from scratch import scratch_folder

SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")


def packed_checkpoint(path: Path) -> str | None:
    """The name of the one checkpoint in an archive; None for what is no archive (torch's own format is a zip, too)."""
    if not safe_load.is_zip(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f"{path}: damaged or not a checkpoint (a zip archive: {error})") from error
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return None
    checkpoints = [name for name in names if name.endswith(SUFFIXES)]
    if not checkpoints:
        raise ValueError(
            f"{path}: expected one checkpoint in the archive, found none: a zip without data.pkl and without "
            f"{', '.join(SUFFIXES)}; it holds {safe_load.some(names) or 'nothing'}"
        )
    if len(checkpoints) > 1:
        raise ValueError(f"{path}: expected one checkpoint in the archive, found {safe_load.some(checkpoints)}")
    return checkpoints[0]


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The path of the checkpoint itself; taken out of its archive beside it, for as long as the context lasts."""
    member = packed_checkpoint(path)
    if member is None:
        yield path
        return
    with scratch_folder(".unpacked-", path.parent) as folder:
        target = folder / "checkpoint"
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{path}: cannot take {member} out of the archive: {error}") from error
        yield target


@contextmanager
def blamed(path: Path) -> Iterator[None]:
    """What is wrong in here is a fault of this file, and says so."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a model of this family ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from error


def load_content(path: Path, weights: bool = True) -> object:
    """What a file holds, also inside an archive; of a training run's its `state_dict`. `weights`: as in load."""
    with unpacked(path) as file:
        try:
            content = safe_load.load(file, weights)
        except ValueError as error:
            raise type(error)(str(error).replace(str(file), str(path))) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    return content


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint file, also of a training run's (below `state_dict`) and inside an archive."""
    content = load_content(path)
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: expected a state dict (names and tensors), found {found_in(content)}")
    return content


def found_in(content: object) -> str:
    """A few words on what a file holds in place of a state dict."""
    if isinstance(content, safe_load.Record):
        return f"a pickled {content.class_name[:80]}"
    if isinstance(content, dict):
        others = [name for name, value in content.items() if not isinstance(value, Tensor)]
        return f"other than tensors in {safe_load.some(others)}" if content else "an empty dict"
    return f"a {type(content).__name__}"
