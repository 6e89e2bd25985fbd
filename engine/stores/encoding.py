"""How the values of a map are stored: normalised floats ↔ codes, and codes ↔ one checksummed, compressed chunk.

A chunk is what zarr v3's codecs `bytes`, `blosc` (zstd level 1 over bit-shuffled codes) and `crc32c` make of it. With
n-bit codes the planes of the unused bits are zero and cost nothing, so 10 bits in a uint16 take 10 bits' room.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import google_crc32c
import numpy as np
from numcodecs import blosc

Encoding = Literal["uint10", "uint8", "uint12", "float16"]
"""How a value in [0, 1] is stored; the first is the default: at stride 8 about 270 times smaller than full-size
float32 maps, with 99.97 % of the labels the same (benchmarks/store.py)."""

TOLERANCE = 1e-4
"""Rounding of earlier arithmetic may take a normalised value this far outside [0, 1]; it is stored as 0 or 1. It is
less than half a step of the finest codes, so that rounding to the nearest code sees to it."""

_BITS: dict[Encoding, int] = {"uint8": 8, "uint10": 10, "uint12": 12}
_CRC_BYTES = 4


@dataclass(frozen=True)
class Codec:
    """Values ↔ codes ↔ chunks of one encoding."""

    encoding: Encoding
    chunk_values: int

    def __post_init__(self) -> None:
        """Check the encoding's name."""
        if self.encoding not in get_args(Encoding):
            raise ValueError(f"no encoding {self.encoding!r}; there are {', '.join(get_args(Encoding))}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The codes' dtype, little-endian."""
        return np.dtype({"uint8": "u1", "float16": "<f2"}.get(self.encoding, "<u2"))

    @property
    def largest(self) -> int:
        """The code of the value 1."""
        return (1 << _BITS[self.encoding]) - 1 if self.encoding in _BITS else 1

    @property
    def error_bound(self) -> float:
        """The largest difference between a value in [0, 1] and what is read back."""
        return 2.0**-12 if self.encoding == "float16" else 0.5 / self.largest + 2.0**-24

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk's codes; Blosc's block is as large, so that its number of threads can't alter the bytes."""
        return self.chunk_values * self.dtype.itemsize

    def to_codes(self, values: np.ndarray, out: np.ndarray, scratch: np.ndarray) -> None:
        """Round float32 values in [0, 1], give or take `TOLERANCE`, to the nearest codes.

        Args:
            values: (n,) float32.
            out: (n,) of `dtype`, written.
            scratch: (≥ n,) float32, overwritten.
        """
        scaled = scratch[: values.size]
        if self.encoding == "float16":
            np.clip(values, 0.0, 1.0, out=scaled)
        else:
            np.multiply(values, np.float32(self.largest), out=scaled)
            np.rint(scaled, out=scaled)
        out[:] = scaled

    def to_values(self, codes: np.ndarray, out: np.ndarray) -> None:
        """The float32 values of codes; 0 and 1 come back exactly.

        Args:
            codes: (n,) of `dtype`.
            out: (n,) float32, written.
        """
        if self.encoding == "float16":
            out[:] = codes
        else:
            np.divide(codes, np.float32(self.largest), out=out)

    def pack(self, codes: np.ndarray) -> bytes:
        """One chunk of codes, compressed, with its CRC-32C behind it."""
        packed: bytes = blosc.compress(codes, b"zstd", 1, blosc.BITSHUFFLE, self.chunk_bytes)
        return packed + crc32c(packed)

    def unpack(self, packed: bytes, out: np.ndarray) -> None:
        """Undo `pack`.

        Args:
            packed: the chunk's bytes.
            out: (chunk_values,) of `dtype`, written.

        Raises:
            ValueError: the chunk is not what was written.
        """
        body = checked_crc32c(packed)
        try:
            blosc.decompress(body, out)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"not a Blosc chunk: {error}") from error

    def zarr_codecs(self) -> dict[str, Any]:
        """The arguments of `zarr.create_array` that describe `pack`."""
        blosc_codec = {
            "name": "blosc",
            "configuration": {
                "cname": "zstd",
                "clevel": 1,
                "shuffle": "bitshuffle",
                "typesize": self.dtype.itemsize,
                "blocksize": self.chunk_bytes,
            },
        }
        return {"dtype": self.dtype, "compressors": [blosc_codec, {"name": "crc32c"}]}


def crc32c(data: bytes) -> bytes:
    """The CRC-32C of `data` as zarr stores it: four bytes, little-endian."""
    checksum: int = google_crc32c.value(data)
    return checksum.to_bytes(_CRC_BYTES, "little")


def checked_crc32c(data: bytes) -> bytes:
    """`data` without its last four bytes.

    Raises:
        ValueError: they are not the CRC-32C of what stands before them.
    """
    body = data[:-_CRC_BYTES]
    if crc32c(body) != data[-_CRC_BYTES:]:
        raise ValueError("its checksum is wrong")
    return body
