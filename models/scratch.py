"""Folders for unfinished work: a process that is killed leaves one behind, the next removes it."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

YOUNG = 2.0  # seconds: a folder that is as new as that may be about to be locked


def _lock(folder: Path | str, mode: int) -> int:
    """A descriptor that holds the folder's lock. Raises OSError where another process does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):  # in use, or gone
        if time.time() - folder.stat().st_mtime > YOUNG:
            descriptor = _lock(folder, fcntl.LOCK_EX)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


@contextmanager
def scratch_folder(prefix: str, beside: Path) -> Iterator[Path]:
    """A new folder in `beside`, gone with the context; those that killed processes left under this prefix go now."""
    for left in beside.glob(prefix + "*"):
        _remove_abandoned(left)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=beside) as folder:
        descriptor = None
        with suppress(OSError):  # a file system without locks
            descriptor = _lock(folder, fcntl.LOCK_SH)
        try:
            yield Path(folder)
        finally:
            if descriptor is not None:
                os.close(descriptor)
