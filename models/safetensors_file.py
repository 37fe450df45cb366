"""The safetensors format: the length of a JSON header, the header with each tensor's place, and the tensors' bytes."""

import json
import math
import struct
from typing import BinaryIO

import torch
from torch import Tensor

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def _tensor(content: bytes, dtype: torch.dtype, shape: list[int]) -> Tensor:
    return (
        torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape) if content else torch.empty(shape, dtype=dtype)
    )


def read_header(file: BinaryIO, size: int) -> dict | None:
    """The header of a file of `size` bytes: nothing where it does not begin with a whole one, a JSON object."""
    file.seek(0)
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if start[8:] != b"{" or length > size - 8:
        return None
    file.seek(8)
    try:
        header = json.loads(file.read(length))
    except ValueError:
        return None
    return header if isinstance(header, dict) else None


def read_safetensors(file: BinaryIO, size: int, weights: bool = True) -> dict[str, Tensor]:
    """The tensors of a file of `size` bytes, on the meta device without `weights`.

    Raises ValueError, LookupError or TypeError for a damaged one.
    """
    header = read_header(file, size)
    if header is None:
        raise ValueError("the safetensors header is damaged or longer than the file")
    file.seek(0)
    start, tensors = 8 + struct.unpack("<Q", file.read(8))[0], {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise ValueError(
                f"{name} is of {entry['dtype']}, of which no weights are made: expected {', '.join(_DTYPES)}"
            )
        dtype, (begin, end) = _DTYPES[entry["dtype"]], entry["data_offsets"]
        if not 0 <= begin <= end <= size - start or end - begin != math.prod(entry["shape"]) * dtype.itemsize:
            raise ValueError(f"the place of {name} in the file does not fit its shape")
        if not weights:
            tensors[name] = torch.empty(entry["shape"], dtype=dtype, device="meta")
            continue
        file.seek(start + begin)
        tensors[name] = _tensor(file.read(end - begin), dtype, entry["shape"])
    return tensors
