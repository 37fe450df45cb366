"""Noto Emoji at 32x32 on white, with the Unicode group of each as its label, as an EDM-style dataset zip.

Usage: python dataset.py PNG_FOLDER EMOJI_TEST_TXT OUT.zip        (needs Pillow)
The zip holds stored PNGs and dataset.json: {"labels": [[name, label], ...], "label_names": [...]}.
"""

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SKIN_TONES = range(0x1F3FB, 0x1F400)
MERGED_GROUPS = {"Component": "People & Body", "Flags": "Symbols"}


def read_groups(path: Path | str) -> dict[tuple[int, ...], str]:
    """The group of each emoji of Unicode's emoji-test.txt, by its code points without variation selectors."""
    group, group_of = "", {}
    for line in Path(path).read_text().splitlines():
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip()
        elif line and not line.startswith("#"):
            points = tuple(int(p, 16) for p in line.split(";")[0].split() if p != "FE0F")
            group_of[points] = MERGED_GROUPS.get(group, group)
    return group_of


def draw(path: Path) -> Image.Image:
    """The emoji of a PNG file on white, 32x32."""
    emoji = Image.open(path).convert("RGBA")
    canvas = Image.new("RGBA", emoji.size, "white")
    canvas.alpha_composite(emoji)
    return canvas.convert("RGB").resize((32, 32), Image.LANCZOS)


def make(png_folder: Path | str, emoji_test: Path | str, out: Path | str) -> int:
    """Write the dataset zip; returns the number of images. Emoji with a skin tone or without a group are left out."""
    group_of = read_groups(emoji_test)
    names = list(dict.fromkeys(group_of.values()))
    chosen = []
    for path in sorted(Path(png_folder).glob("emoji_u*.png")):
        points = tuple(int(p, 16) for p in path.stem.removeprefix("emoji_u").split("_"))
        if points in group_of and not any(p in SKIN_TONES for p in points):
            chosen.append((path, group_of[points]))
    names = [name for name in names if any(group == name for _, group in chosen)]
    labels = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes | str) -> None:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)

        for index, (path, group) in enumerate(chosen):
            name, png = f"{index // 1000:05d}/img{index:08d}.png", io.BytesIO()
            draw(path).save(png, "png", optimize=True)
            add(name, png.getvalue())
            labels.append([name, names.index(group)])
        add("dataset.json", json.dumps({"labels": labels, "label_names": names}))
    return len(chosen)


def read(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N] of a dataset zip."""
    with zipfile.ZipFile(path) as archive:
        labels = json.loads(archive.read("dataset.json"))["labels"]
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name, _ in labels]
    return np.stack(images).transpose(0, 3, 1, 2), np.array([label for _, label in labels])


if __name__ == "__main__":
    print(make(*sys.argv[1:]), "images")
