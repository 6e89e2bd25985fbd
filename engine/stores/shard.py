"""One shard file of zarr v3: chunks one after the other, then the index (offset and length of each), then its CRC-32C.

zarr-python reads the same files; it takes about a millisecond a call, and writes a shard again for each piece of it.
"""

import os
from pathlib import Path

import numpy as np

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.files import write_bytes
from camshaft.engine.stores.encoding import Codec, checked_crc32c, crc32c

ABSENT = 2**64 - 1
"""What zarr writes for offset and length of a chunk that is not there."""
_ENTRY_BYTES = 16
_CRC_BYTES = 4


def shard_path(store: Path, block: int) -> Path:
    """The file of a block's shard."""
    return store / "values" / "c" / str(block)


def write_shard(path: Path, codes: np.ndarray, shard_values: int, codec: Codec) -> None:
    """Compress codes into a whole shard file under its final name.

    Args:
        path: the shard's file.
        codes: (n,) with n a multiple of the chunk, n ≤ shard_values; what lies behind reads as zero.
        shard_values: values of a full shard.
        codec: values ↔ bytes.

    Raises:
        DiskFullError: no space was left; the file is as it was before.
    """
    index = np.full((shard_values // codec.chunk_values, 2), ABSENT, "<u8")
    parts = []
    position = 0
    for chunk in range(codes.size // codec.chunk_values):
        packed = codec.pack(codes[chunk * codec.chunk_values : (chunk + 1) * codec.chunk_values])
        index[chunk] = position, len(packed)
        position += len(packed)
        parts.append(packed)
    encoded = index.tobytes()
    write_bytes(path, b"".join([*parts, encoded, crc32c(encoded)]))


class Shard:
    """A shard file that is open for reading; its reads keep no position, so that threads can share it.

    Attributes:
        path: its file.
        index: uint64 (chunks, 2), offset and length of each chunk; `ABSENT` twice for one that was never written.
    """

    def __init__(self, path: Path, chunk_count: int) -> None:
        """Open the file and read its index.

        Raises:
            StoreError: the file is missing, or its index is damaged or doesn't fit the file.
        """
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StoreError(f"{path}: this shard is missing") from error
        self.size = os.fstat(self._file).st_size
        self.index = self._read_index(chunk_count)

    def __del__(self) -> None:
        """Close the file once nobody reads from it any more."""
        if hasattr(self, "_file"):
            os.close(self._file)

    def _read_index(self, chunk_count: int) -> np.ndarray:
        length = chunk_count * _ENTRY_BYTES + _CRC_BYTES
        if self.size < length:
            raise self.damaged("it is truncated")
        tail = self._read(self.size - length, length)
        try:
            encoded = checked_crc32c(tail)
        except ValueError as error:
            raise self.damaged(f"the index at its end: {error}") from error
        entries = np.frombuffer(encoded, "<u8").reshape(-1, 2)
        written = entries[entries[:, 0] != ABSENT]
        ends = np.cumsum(written[:, 1])
        if self.size != length + int(written[:, 1].sum()) or (written[:, 0] != ends - written[:, 1]).any():
            raise self.damaged("its index doesn't fit its length")
        return entries

    def _read(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._file, length, offset)
        except OSError as error:
            raise self.damaged(str(error)) from error
        if len(data) != length:
            raise self.damaged("it is truncated")
        return data

    def read_chunk(self, chunk: int, codec: Codec, out: np.ndarray) -> None:
        """Decode one chunk.

        Args:
            chunk: its number in the shard.
            codec: values ↔ bytes.
            out: (chunk_values,) codes, written.

        Raises:
            StoreError: the chunk is damaged, missing or truncated.
        """
        offset, length = self.index[chunk].tolist()
        if offset == ABSENT:
            raise self.damaged(f"chunk {chunk} was never written")
        try:
            codec.unpack(self._read(offset, length), out)
        except ValueError as error:
            raise self.damaged(f"chunk {chunk}: {error}") from error

    def check_chunks(self) -> None:
        """Raise StoreError unless every chunk's checksum is right."""
        for chunk, (offset, length) in enumerate(self.index.tolist()):
            if offset == ABSENT:
                continue
            try:
                checked_crc32c(self._read(offset, length))
            except ValueError as error:
                raise self.damaged(f"chunk {chunk}: {error}") from error

    def damaged(self, why: str) -> StoreError:
        """The error that names this file."""
        return StoreError(f"{self.path}: damaged: {why}")
