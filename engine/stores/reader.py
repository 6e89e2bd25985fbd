"""Reading a complete map store: single images or all in order, by many threads or processes at once."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from camshaft.engine.errors import StoreError
from camshaft.engine.stores.layout import FORMAT, Layout
from camshaft.engine.stores.manifest import check_digests, check_sizes, read_manifest, remedy
from camshaft.engine.stores.shard import Shard, shard_path

OPEN_SHARDS = 256
"""Files that a store keeps open at most."""


@dataclass(frozen=True, eq=False)
class Maps:
    """The stored maps of one image.

    Attributes:
        values: float32 (K, h, w) in [0, 1], at the store's grid.
        classes: int64 (K,), indices into the store's classes.
        image_size: (H, W) of the image.
    """

    values: np.ndarray
    classes: np.ndarray
    image_size: tuple[int, int]


class MapStore:
    """A complete map store, open for reading.

    Attributes:
        path: its folder.
        layout: where everything stands.
        provenance: what was given to `finalize`.
    """

    def __init__(self, path: Path, layout: Layout, manifest: dict[str, Any]) -> None:
        """Use `open`."""
        self.path = path
        self.layout = layout
        self.provenance: dict[str, Any] = manifest["provenance"]
        self._manifest = manifest
        self._codec = layout.codec
        self._index_of: dict[str, int] = {}
        self._shards: dict[int, Shard] = {}
        self._scratch = threading.local()

    @classmethod
    def open(cls, path: Path) -> "MapStore":
        """Open a store after cheap checks: the manifest, every file's size, and the tables' SHA-256.

        Raises:
            StoreError: the store is not complete, or a file of it is missing, truncated or altered.
        """
        manifest = read_manifest(path, FORMAT)
        check_sizes(path, manifest)
        check_digests(path, manifest, [name for name in manifest["files"] if not name.startswith("values/c/")])
        return cls(path, Layout.load(path), manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the files itself."""
        return type(self).open, (self.path,)

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the images, in order."""
        return self.layout.ids

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, without background."""
        return self.layout.classes

    def __len__(self) -> int:
        """Number of images."""
        return len(self.layout.ids)

    def index(self, name: str) -> int:
        """The place of an image in `ids`.

        Raises:
            StoreError: the store has no such image.
        """
        if not self._index_of:
            self._index_of = {name: index for index, name in enumerate(self.ids)}
        try:
            return self._index_of[name]
        except KeyError:
            raise StoreError(f"{self.path}: has no image {name!r}") from None

    def read(self, index: int, out: np.ndarray | None = None) -> Maps:
        """The maps of one image.

        Args:
            index: its place in `ids`.
            out: a float32 (≥ K·h·w,) buffer that the values are written to; else they get memory of their own.

        Raises:
            StoreError: the shard that holds them is damaged; the message names its file.
        """
        start, count, height, width, image_height, image_width = self.layout.images[index].tolist()
        size = count * height * width
        values = np.empty(size, np.float32) if out is None else out[:size]
        chunk_values = self.layout.chunk_values
        block, position = divmod(start, self.layout.shard_values)
        done = 0
        while done < size:
            chunk, first = divmod(position + done, chunk_values)
            length = min(chunk_values - first, size - done)
            codes = self._decoded(block, chunk)
            self._codec.to_values(codes[first : first + length], values[done : done + length])
            done += length
        classes = self.layout.classes_of(index)
        return Maps(values.reshape(count, height, width), classes, (image_height, image_width))

    def _decoded(self, block: int, chunk: int) -> np.ndarray:
        """The codes of a chunk, in a buffer of this thread, where the last chunk stays until another is asked for."""
        scratch = self._scratch
        if not hasattr(scratch, "codes"):
            scratch.codes = np.empty(self.layout.chunk_values, self._codec.dtype)
            scratch.holds = None
        codes: np.ndarray = scratch.codes
        if scratch.holds != (block, chunk):
            scratch.holds = None
            try:
                self._shard(block).read_chunk(chunk, self._codec, codes)
            except StoreError as error:
                raise StoreError(f"{error}; {remedy(self.path)}") from error
            scratch.holds = (block, chunk)
        return codes

    def _shard(self, block: int) -> Shard:
        shard = self._shards.get(block)
        if shard is None:
            shard = Shard(shard_path(self.path, block), self.layout.shard_values // self.layout.chunk_values)
            # Other threads come and go meanwhile: each step below is one that they can't break into.
            for oldest in list(self._shards)[: -(OPEN_SHARDS - 1)]:
                self._shards.pop(oldest, None)
            self._shards[block] = shard
        return shard

    def __iter__(self) -> Iterator[Maps]:
        """The maps of all images, in order."""
        return (self.read(index) for index in range(len(self)))

    def verify(self) -> None:
        """Read every file whole.

        Raises:
            StoreError: one line for each file that is missing, truncated or altered.
        """
        manifest = read_manifest(self.path, FORMAT)
        check_sizes(self.path, manifest)
        check_digests(self.path, manifest, manifest["files"])
