"""CLIP's byte-pair vocabulary, as the two files that stand beside a model with a text condition."""

import json
import shutil
from pathlib import Path

from download import note_sums

MERGES = Path(__file__).resolve().parent / "vocabulary/merges.txt"


def byte_symbols() -> list[str]:
    """How the vocabulary writes the 256 bytes, in order: visible Latin-1 characters, then U+0100 and on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in visible] + [chr(0x100 + n) for n in range(256 - len(visible))]


def vocabulary(merges: list[str]) -> dict[str, int]:
    """Token to number: bytes, bytes that end a word, what each merge gives, start and end."""
    symbols = byte_symbols()
    tokens = symbols + [symbol + "</w>" for symbol in symbols]
    tokens += [merge.replace(" ", "") for merge in merges]
    return {token: number for number, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}


def write_tokenizer(folder: Path | str) -> None:
    """Write vocab.json and merges.txt into `folder`: the same for every model with CLIP's text encoder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    merges = MERGES.read_text(encoding="utf-8").splitlines()[1:]
    shutil.copyfile(MERGES, folder / "merges.txt")
    (folder / "vocab.json").write_text(json.dumps(vocabulary(merges), ensure_ascii=False), encoding="utf-8")
    note_sums(folder / "merges.txt", folder / "vocab.json")
