"""Read tensors from checkpoint files without running anything that the files bring.

    load(path)    EDM .pkl, torch .pt/.pth/.ckpt (zip and legacy), .safetensors: told apart by content, not by name

A pickle is a program: it names functions and calls them. Here it may only make tensors and plain containers. A class
that it names becomes an inert Record, which holds what the pickle put in and does nothing. A call of anything else is
refused with UnsafePickle. Source code inside a file is never looked at.
"""

import codecs
import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from safetensors_file import read_header, read_safetensors

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def some(names: Iterable[Any], count: int = 5) -> str:
    """The first names in one short line, and how many more there are."""
    names = [str(name) for name in names]
    shown = [repr(name[:90] + "...") if len(name) > 100 else name for name in names[:count]]
    return ", ".join(shown) + (f" and {len(names) - count} more" if len(names) > count else "")


class UnsafePickle(ValueError):
    """The pickle asks for a call that reading tensors does not need."""


class _Uncallable(type):
    """The class of stand-in classes. An empty instance is data (NEWOBJ); calling the class would run its code."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise UnsafePickle(f"it calls {cls.class_name}, which is no part of reading tensors: refused")


class Record(metaclass=_Uncallable):
    """An object of a class that is not run: its name, constructor arguments, state, and the items put into it."""

    class_name = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Record":
        record = object.__new__(cls)
        record.args, record.state, record.items, record.mapping = args, {}, [], {}
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mapping[key] = value

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: Any) -> None:
        self.items.extend(items)

    def __repr__(self) -> str:
        return f"<{self.class_name} record>"


def make_record(class_name: str, *args: Any, state: Any = None) -> Record:
    """A Record of the class with that name."""
    record = Record.__new__(_stand_in(class_name), *args)
    record.state = {} if state is None else state
    return record


def _stand_in(class_name: str) -> type:
    return _Uncallable(class_name.rpartition(".")[2], (Record,), {"class_name": class_name})


# What stands for the functions that a pickle may call. Each is ours: none is looked up by a name from the file.


class _StorageType:
    """torch.FloatStorage and its like: names a dtype."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_unused: Any) -> Tensor:
    if not isinstance(storage, Tensor) or storage.dim() != 1:
        raise UnsafePickle("it rebuilds a tensor from something that is no storage: refused")
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)  # checks the bounds


def _rebuild_parameter(data: Tensor, *_unused: Any) -> Tensor:
    return data


def _rebuild_from_type(function: Any, _type: Any, args: tuple, _state: Any) -> Any:
    if function not in _CALLS.values():
        raise UnsafePickle(f"it calls {getattr(function, 'class_name', function)!r} to rebuild a tensor: refused")
    return function(*args)


def _persistent_object(meta: dict) -> Record:
    """EDM's pickled objects: class name, state, and module source, which stays unread."""
    return make_record(str(meta["class_name"]), state=meta["state"])


def _storage_from_bytes(content: bytes) -> Any:
    return _load_legacy(io.BytesIO(content), len(content))


def _plain_object(cls: Any, _base: Any, _state: Any) -> Record:
    if not isinstance(cls, _Uncallable):
        raise UnsafePickle(f"it makes an object of {cls!r}: refused")
    return Record.__new__(cls)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if codecs.lookup(encoding).name not in ("iso8859-1", "utf-8", "ascii"):
        raise UnsafePickle(f"it encodes text as {encoding!r}: refused")
    return text.encode(encoding)


def _byte_array(content: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    """Of given bytes: a number would ask for as much memory."""
    return bytearray(_encode(content, encoding) if isinstance(content, str) else bytes(memoryview(content)))


def _numpy_scalar(dtype: Any, content: Any = b"") -> Any:
    """A number saved by NumPy; any other kind of scalar stays a Record."""
    code = dtype.args[0] if isinstance(dtype, Record) and dtype.args else ""
    kind = dict(f2="e", f4="f", f8="d", i1="b", i2="h", i4="i", i8="q", u1="B", u2="H", u4="I", u8="Q", b1="?")
    if code in kind and isinstance(content, bytes) and len(content) == struct.calcsize("<" + kind[code]):
        return struct.unpack("<" + kind[code], content)[0]
    return make_record("numpy.scalar", dtype, content)


def _inert_call(class_name: str) -> Any:
    return lambda *args: make_record(class_name, *args)


_DTYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
}  # fmt: skip
_DTYPE_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES.values()}

_CALLS: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch.storage._load_from_bytes": _storage_from_bytes,
    "torch.Size": tuple,
    "torch.device": _inert_call("torch.device"),
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": lambda *_factory: {},
    "copyreg._reconstructor": _plain_object,
    "copy_reg._reconstructor": _plain_object,
    "_codecs.encode": _encode,
    "pathlib.PosixPath": _inert_call("pathlib.PosixPath"),
    "pathlib.WindowsPath": _inert_call("pathlib.WindowsPath"),
    **{f"{module}.{name}": kind for module in ("builtins", "__builtin__") for name, kind in
       {"set": set, "frozenset": frozenset, "complex": complex, "bytearray": _byte_array}.items()},
    **{f"numpy.{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _inert_call("numpy.ndarray") for core in ("core", "_core")},
    "numpy.dtype": _inert_call("numpy.dtype"),
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    """Resolves every name to one of _CALLS, a dtype, or a stand-in class. Imports nothing."""

    def __init__(self, file: BinaryIO, storage: Any = None):
        super().__init__(file, encoding="latin1")
        self.storage = storage  # (dtype, key, numel) -> flat tensor
        self.stand_ins: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _CALLS:
            return _CALLS[full]
        if module in ("torch", "torch.cuda") and name.removesuffix("Storage") in _DTYPES:
            return _StorageType(_DTYPES[name.removesuffix("Storage")])
        if full in ("torch.storage.UntypedStorage", "torch.storage._UntypedStorage"):
            return _StorageType(torch.uint8)
        if module == "torch" and name in _DTYPE_NAMES:
            return _DTYPE_NAMES[name]
        return self.stand_ins.setdefault(full, _stand_in(full))

    def persistent_load(self, saved: Any) -> Any:
        kind = saved[0] if isinstance(saved, tuple) and saved else None
        if kind == "module":
            return saved[1]
        if kind != "storage" or self.storage is None or not isinstance(saved[1], _StorageType):
            raise UnsafePickle(f"it refers to {kind!r}, which is no storage: refused")
        return self.storage(saved[1].dtype, str(saved[2]), int(saved[4]))


# What reading a damaged file may raise.
_DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, LookupError, TypeError, AttributeError,
    ValueError, RuntimeError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip


def load(path: Path | str, weights: bool = True) -> Any:
    """What the file holds: containers, tensors (CPU) and Records. Raises ValueError with the file and the reason.

    Without `weights` tensors are on the meta device where the format allows it: names and shapes alone are read.
    """
    with open(path, "rb") as file:
        return _load(file, Path(path).stat().st_size, str(path), weights)


def loads(content: bytes, name: str = "checkpoint") -> Any:
    """The same from a file's bytes; `name` stands for it in messages."""
    return _load(io.BytesIO(content), len(content), name)


def kind_of(file: BinaryIO, size: int) -> str:
    """ "safetensors", "zip", "pickle" (also torch's format before zips) or "". Strong marks come before weak ones.

    A whole safetensors header cannot be anything else. A zip and a pickle begin with marks of four and two bytes, which
    the length of a safetensors header may contain. A zip behind foreign bytes has its directory at the end of the file.
    """
    if read_header(file, size) is not None:
        return "safetensors"
    file.seek(0)
    start = file.read(9)
    file.seek(0)
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    if start[:1] == b"\x80" and 2 <= start[1] <= pickle.HIGHEST_PROTOCOL:
        return "pickle"
    if start[8:] == b"{":
        return "safetensors"  # a damaged one
    directory = zipfile.is_zipfile(file)
    file.seek(0)
    return "zip" if directory else ""


def is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return kind_of(file, path.stat().st_size) == "zip"


# How files begin that are given for checkpoints by mistake.
_FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer: the file itself was not fetched",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "gzip data: unpack it first",
    b"BZh": "bzip2 data: unpack it first",
    b"\xfd7zXZ": "xz data: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"GGUF": "a GGUF file",
    b"%PDF": "a PDF document",
}


def what_it_is(start: bytes) -> str:
    """The kind of a file that is no checkpoint, by its first bytes."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for mark, name in _FOREIGN.items():
        if start.startswith(mark):
            return name
    if not text:
        return "an empty file" if not start else "blank text"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it first, or save a checkpoint of that age anew with torch.save"
    if text[:1] == b"<":
        return "a web page (HTML or XML): the download gave a page in place of the file"
    if text[:1] in b"{[":
        return "JSON text"
    return "text" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in text) else "of no kind known here"


def _load(file: BinaryIO, size: int, name: str, weights: bool = True) -> Any:
    try:
        kind = kind_of(file, size)
        file.seek(0)
        if kind == "zip":
            return _load_zip(file, weights)
        if kind == "pickle":
            return _load_legacy(file, size)
        if kind == "safetensors":
            return read_safetensors(file, size, weights)
    except UnsafePickle as error:
        raise UnsafePickle(f"{name}: {error}") from None
    except _DAMAGE as error:
        raise ValueError(f"{name}: damaged or not a checkpoint ({type(error).__name__}: {error})") from error
    start = file.read(512)
    raise ValueError(f"{name}: neither a pickle, a torch checkpoint nor safetensors; it is {what_it_is(start)}")


def _flat(content: bytes | bytearray, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _load_zip(file: BinaryIO, weights: bool) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        record = next((name for name in names if name == "data.pkl" or name.endswith("/data.pkl")), None)
        if record is None:
            raise ValueError(f"a zip without data.pkl; it holds {some(names) or 'nothing'}")
        root = record.removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("saved on a big-endian machine")
        storages: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, numel: int) -> Tensor:
            if not weights:
                return torch.empty(numel, dtype=dtype, device="meta")
            if key not in storages:
                storages[key] = _flat(archive.read(f"{root}data/{key}"), dtype)
            found = storages[key].view(dtype)
            if found.numel() < numel:
                raise ValueError(f"storage {key} has {found.numel()} elements where {numel} are named")
            return found

        return _Unpickler(io.BytesIO(archive.read(record)), storage).load()


def _load_legacy(file: BinaryIO, size: int) -> Any:
    """Torch's format before zips (magic, version, system, object, keys, then raw storages), or else a plain pickle."""
    first = _Unpickler(file).load()
    if first != LEGACY_MAGIC:
        return first
    if _Unpickler(file).load() != LEGACY_PROTOCOL or not _Unpickler(file).load().get("little_endian", False):
        raise ValueError("a torch file of an unknown version or byte order")
    storages: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, numel: int) -> Tensor:
        if key not in storages:
            if not 0 <= numel * dtype.itemsize <= size:
                raise ValueError(f"storage {key} is larger than the file")
            storages[key] = torch.zeros(numel, dtype=dtype)
        return storages[key]

    result = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        numel = struct.unpack("<q", file.read(8))[0]
        target = storages[str(key)]
        content = file.read(target.numel() * target.dtype.itemsize)
        if numel != target.numel() or len(content) != target.numel() * target.dtype.itemsize:
            raise ValueError(f"storage {key} is cut short")
        target.copy_(_flat(content, target.dtype))
    return result
