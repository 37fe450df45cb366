"""What Pillow makes of a picture at other sizes, and CIFAR-10's archive in small: python3 make_prepare_goldens.py

Writes resized.npz (the picture `source`, and Pillow's Lanczos results by their height and width) and two archives with
the same pictures: cifar.tar.gz as Python 2 pickled the published one (written opcode by opcode, as pickletools shows that
file), and cifar-python3.tar.gz as Python 3 pickles, by protocols 2 and 4. Made with Pillow 12, NumPy 2.2.
"""

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
SIZES = [(16, 16), (8, 31), (23, 10), (40, 50), (5, 3), (1, 1), (23, 31)]


def resized():
    y, x = np.mgrid[:23, :31]
    source = np.stack([(x // 3 + y // 2) % 2 * 255, 8 * x, (37 * x + 91 * y * y) % 256], axis=2).astype(np.uint8)
    arrays = {"source": source}
    for height, width in SIZES:
        picture = Image.fromarray(source).resize((width, height), Image.Resampling.LANCZOS)
        arrays[f"{height}x{width}"] = np.asarray(picture)
    np.savez_compressed(HERE / "resized.npz", **arrays)


def batch(number: int) -> tuple[np.ndarray, list[int]]:
    """Two pictures and their labels."""
    data = (np.arange(2 * 3072).reshape(2, 3072) * (2 * number + 1) // 7 % 256).astype(np.uint8)
    return data, [number, 9 - number]


def python2_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    text = lambda value: b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING
    number = lambda value: b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09" + text(b"b") + b"\x87Rq\x0a("
        b"K\x01"
        + number(data.shape[0])
        + number(data.shape[1])
        + b"\x86cnumpy\ndtype\nq\x0b"
        + text(b"u1")
        + b"K\x00K\x01\x87Rq\x0c(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T"
        + struct.pack("<I", data.nbytes)
        + data.tobytes()
        + b"tb"
    )
    return (
        b"\x80\x02}q\x01("
        + text(b"batch_label")
        + b"q\x02"
        + text(b"training batch")
        + b"q\x03"
        + text(b"labels")
        + b"q\x04]q\x05("
        + b"".join(map(number, labels))
        + b"e"
        + text(b"data")
        + b"q\x06"
        + array
        + text(b"filenames")
        + b"q\x0d]q\x0e("
        + text(b"a.png")
        + b"q\x0f"
        + text(b"b.png")
        + b"q\x10eu."
    )


def archive(name: str, batches: dict[str, bytes]):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for path, content in batches.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{path}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    (HERE / name).write_bytes(gzip.compress(plain.getvalue(), mtime=0))


def cifar():
    python2, python3 = {}, {}
    for number in (2, 1):  # the order in the archive is not that of the names
        data, labels = batch(number)
        python2[f"data_batch_{number}"] = python2_pickle(data, labels)
        content = {"labels": labels, "data": data, "filenames": ["a.png", "b.png"]}
        python3[f"data_batch_{number}"] = pickle.dumps(content, protocol=2 * number)
    read = pickle.loads(python2["data_batch_1"], encoding="latin1")
    assert read["labels"] == batch(1)[1] and (read["data"] == batch(1)[0]).all()
    python2["batches.meta"] = pickle.dumps({"label_names": ["plane"]}, protocol=2)
    archive("cifar.tar.gz", python2)
    archive("cifar-python3.tar.gz", python3)


resized()
cifar()
