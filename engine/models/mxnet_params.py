"""Reading MXNet's .params files without MXNet, and without running any code of theirs.

The format, all numbers little-endian: uint64 0x112, uint64 reserved, uint64 n, n arrays, uint64 number of names, names
(uint64 length, UTF-8 text). An array starts with a uint32 that tells its version:

- 0xF993FAC9 (V2) and 0xF993FACA (V3, NumPy's shapes): int32 storage type, 0 for dense; uint32 ndim; ndim × int64;
- 0xF993FAC8 (V1): uint32 ndim; ndim × int64;
- anything else is the ndim of the oldest files: ndim × uint32;

then int32 kind and int32 number of the device, int32 type of the values, and the values, the last axis fastest. Arrays
without values end with their shape: it has ndim 0, or, in V3, an axis or ndim of -1. Names start with "arg:" for
parameters and with "aux:" for statistics.
"""

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from camshaft.engine.errors import WeightsError

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE = 0
SPARSE = {1: "row-sparse", 2: "compressed sparse row"}
MOST_AXES = 32
"""MXNet's own limit: what starts an array and is neither a version nor this small is no array."""

TYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.uint8,
    torch.int32,
    torch.int8,
    torch.int64,
    torch.bool,
    torch.int16,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bfloat16,
)
"""Types of values, by their numbers in a file."""


def read_params(path: Path) -> dict[str, Tensor]:
    """The named tensors of a .params file, on the CPU; names as in the file, with arg: or aux:.

    Memory is taken only for values that the file is long enough to hold.

    Raises:
        WeightsError: the file is missing, truncated, of another kind, or holds sparse or nameless arrays.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file).tensors()
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except OSError as error:
        raise WeightsError(f"{path}: can't be read: {error.strerror}") from None


class _Reader:
    """Reads one file from its start to its end; every length is checked against what is left of it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._left = path.stat().st_size

    def tensors(self) -> dict[str, Tensor]:
        """All that the file holds."""
        magic, _reserved = self._numbers("<QQ", "its first 16 bytes")
        if magic != LIST_MAGIC:
            raise WeightsError(f"{self._path}: not an MXNet parameters file: it starts with {magic:#x}, not 0x112")
        count = self._count("arrays", smallest=4)
        arrays = [self._array(f"array {number} of {count}") for number in range(1, count + 1)]
        names = self._names(count)
        if self._left:
            raise WeightsError(
                f"{self._path}: {self._left:,} bytes follow the last name; this is no MXNet file as known"
            )
        found: dict[str, Tensor] = {}
        for name, array in zip(names, arrays, strict=True):
            if name in found:
                raise WeightsError(f"{self._path}: the name {name!r} stands more than once")
            if array is None:
                raise WeightsError(f"{self._path}: {name} has no values")
            found[name] = array
        return found

    def _names(self, arrays: int) -> list[str]:
        count = self._count("names", smallest=8)
        if count != arrays:
            raise WeightsError(
                f"{self._path}: {arrays} arrays but {count} names; weights are found by name, so each needs one"
            )
        names = []
        for number in range(1, count + 1):
            what = f"name {number} of {count}"
            (length,) = self._numbers("<Q", f"the length of {what}")
            try:
                names.append(self._take(length, what).decode())
            except UnicodeDecodeError:
                raise WeightsError(f"{self._path}: {what} is not UTF-8 text") from None
        return names

    def _array(self, what: str) -> Tensor | None:
        """One array, or None where it has no values."""
        shape = self._shape(what)
        if shape is None:
            return None
        _device, _number, kind = self._numbers("<iii", f"{what}'s device and type")
        if not 0 <= kind < len(TYPES):
            raise WeightsError(f"{self._path}: {what} has values of the unknown type {kind}")
        dtype = TYPES[kind]
        length = math.prod(shape) * dtype.itemsize
        shown = f"{what}, {'×'.join(map(str, shape)) or 'a scalar'} of {str(dtype).removeprefix('torch.')}"
        values = bytearray(self._take(length, shown))
        if not values:
            return torch.empty(shape, dtype=dtype)
        if dtype is torch.bool:
            return (torch.frombuffer(values, dtype=torch.uint8) != 0).reshape(shape)
        return torch.frombuffer(values, dtype=dtype).reshape(shape)

    def _shape(self, what: str) -> tuple[int, ...] | None:
        """An array's shape, or None where it has no values."""
        (version,) = self._numbers("<I", f"the start of {what}")
        if version in (V2, V3):
            (storage,) = self._numbers("<i", f"{what}'s storage type")
            if storage != DENSE:
                named = SPARSE.get(storage, f"of storage type {storage}")
                raise WeightsError(f"{self._path}: {what} is {named}; only dense arrays can be read")
        axes = self._numbers("<i", f"{what}'s number of axes")[0] if version in (V1, V2, V3) else version
        if version == V3 and axes == -1:
            return None
        if not 0 <= axes <= MOST_AXES:
            shown = f"{axes} axes" if version in (V1, V2, V3) else f"neither a known version nor a shape: {axes:#x}"
            raise WeightsError(f"{self._path}: {what} has {shown}; not an MXNet parameters file, or not a whole one")
        if axes == 0 and version != V3:
            return None
        size = "q" if version in (V1, V2, V3) else "I"
        shape = self._numbers(f"<{axes}{size}", f"{what}'s shape")
        if version == V3 and -1 in shape:
            return None
        if any(side < 0 for side in shape):
            raise WeightsError(f"{self._path}: {what} has the impossible shape {'×'.join(map(str, shape))}")
        return shape

    def _count(self, what: str, *, smallest: int) -> int:
        """A number of things, each of which takes `smallest` bytes or more."""
        (count,) = self._numbers("<Q", f"the number of {what}")
        if count * smallest > self._left:
            raise self._truncated(f"{count:,} {what}", count * smallest, "or more")
        return int(count)

    def _numbers(self, layout: str, what: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._take(struct.calcsize(layout), what))

    def _take(self, length: int, what: str) -> bytes:
        if length > self._left:
            raise self._truncated(what, length)
        taken = self._file.read(length)
        self._left -= length
        if len(taken) < length:  # the file has become shorter since it was opened
            raise self._truncated(what, length)
        return taken

    def _truncated(self, what: str, length: int, more: str = "") -> WeightsError:
        needed = f"{length:,} bytes {more}".rstrip()
        return WeightsError(
            f"{self._path}: not a whole MXNet parameters file: {what} would take {needed}, but {self._left:,} are left"
        )
