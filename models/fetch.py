"""Fetch what belongs to a dataset name into the cache: models/fetch.py NAME [checkpoints | statistics | captions]

Prints the paths, one a line. A file that is in its place already, put there by hand for example, is not fetched again.
"""

import argparse
import sys
import zipfile
import zlib
from pathlib import Path

import registry
from download import Download, DownloadError, note_sums
from progress import DownloadProgress


def _fetch(file: registry.SourceFile, folder: Path) -> Path:
    progress = DownloadProgress(file.name)
    return Download(file.url, folder / file.name, file.sha256, file.bytes, progress).run()


def checkpoints(name: str) -> list[Path]:
    """The checkpoint files of a dataset name, fetched where they are missing; in the order that export.py expects."""
    folder = registry.cache_folder() / "checkpoints" / name
    return [_fetch(file, folder) for file in registry.find(name).files if not file.optional]


def _extra(name: str, kind: str, file: dict | None, folder: Path) -> Path:
    if file is None:
        raise ValueError(f"{name} has no published {kind}")
    dest = folder / file["name"]
    if file.get("url") is None and not dest.exists():
        raise ValueError(
            f"the {kind} of {name} have no direct address: get {file['name']} from {file['page']} "
            f"and put it into {folder}"
        )
    if not dest.exists():
        _fetch(registry.SourceFile(file["name"], file["url"], file.get("sha256"), file.get("bytes")), folder)
        note_sums(dest)
    return dest


def statistics(name: str) -> Path:
    """The reference statistics (.npz) of a dataset name for the Frechet distance; ValueError where they are none."""
    path = _extra(name, "statistics", registry.find(name).statistics, registry.cache_folder() / "statistics")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged, missing = archive.testzip(), {"mu.npy", "sigma.npy"} - set(archive.namelist())
    except (zipfile.BadZipFile, zlib.error) as error:
        damaged, missing = str(error), set()
    if damaged or missing:
        reason = f"damaged: {damaged}" if damaged else f"without {', '.join(sorted(missing))}"
        raise ValueError(f"{path} holds no statistics ({reason}); remove it and call again")
    return path


def captions(name: str) -> Path:
    """The captions (.csv, column `text`) that a text model is sampled with where no prompt is given."""
    return _extra(name, "captions", registry.find(name).captions, registry.model_path(name).parent)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help=", ".join(registry.load()))
    parser.add_argument("what", nargs="?", default="checkpoints", choices=("checkpoints", "statistics", "captions"))
    arguments = parser.parse_args()
    try:
        if arguments.what == "checkpoints":
            paths = checkpoints(arguments.name)
        else:
            paths = [(statistics if arguments.what == "statistics" else captions)(arguments.name)]
    except (ValueError, DownloadError) as error:
        print(f"fetch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fetch: stopped; the next call goes on from here", file=sys.stderr)
        return 130
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
