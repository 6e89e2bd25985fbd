"""Writing a map store: whole blocks, by any rank, in any order; complete once `finalize` has written the manifest."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.files import remove_leftovers, replacing_folder
from camshaft.engine.stores.encoding import TOLERANCE
from camshaft.engine.stores.layout import FORMAT, Layout
from camshaft.engine.stores.manifest import write_manifest
from camshaft.engine.stores.shard import Shard, shard_path, write_shard


class MapStoreWriter:
    """One rank's way into a store that others write too; no two of them need to know of each other."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Use `create`, `open` or `open_or_create`."""
        self.path = path
        self.layout = layout
        self._codes = np.zeros(0, layout.codec.dtype)
        self._scratch = np.zeros(0, np.float32)

    @classmethod
    def create(cls, path: Path, layout: Layout) -> "MapStoreWriter":
        """Make an empty store at `path`, which must not exist.

        Raises:
            StoreError: `path` exists.
            DiskFullError: no space was left; `path` does not exist.
        """
        if path.exists():
            raise StoreError(f"{path}: exists already")
        with replacing_folder(path) as temporary:
            layout.save(temporary)
            shard_path(temporary, 0).parent.mkdir(parents=True, exist_ok=True)
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb") as opened:
                        os.fsync(opened.fileno())
        return cls(path, layout)

    @classmethod
    def open(cls, path: Path) -> "MapStoreWriter":
        """Go on with the store at `path`.

        Raises:
            StoreError: there is none, or its tables are damaged.
        """
        return cls(path, Layout.load(path))

    @classmethod
    def open_or_create(cls, path: Path, layout: Layout) -> "MapStoreWriter":
        """Go on with the store at `path` if there is one, else make it; all ranks may call this at once.

        Raises:
            StoreError: the store that is there has another layout, or its tables are damaged.
        """
        if not path.exists():
            try:
                return cls.create(path, layout)
            except (OSError, StoreError):
                if not path.exists():
                    raise
        writer = cls.open(path)
        if writer.layout.digest() != layout.digest():
            raise StoreError(
                f"{path}: holds maps of other images, classes, sizes or encoding; remove it, or write to another folder"
            )
        return writer

    def blocks_missing(self) -> list[int]:
        """The blocks that have no whole shard yet."""
        return [block for block in range(self.layout.block_count) if not self._is_whole(block)]

    def _is_whole(self, block: int) -> bool:
        try:
            _open_shard(self.path, self.layout, block).check_chunks()
        except StoreError:
            return False
        return True

    def write_block(self, block: int, maps: Sequence[np.ndarray]) -> None:
        """Write all maps of a block; the shard is there whole afterwards, or not at all.

        Args:
            block: its number.
            maps: for each image of `layout.block(block)`, in order, float32 (K, h, w) normalised to [0, 1].

        Raises:
            ValueError: a map has another shape than the layout's, or a value outside [0, 1] or not finite.
            DiskFullError: no space was left.
        """
        indices = self.layout.block(block)
        if len(maps) != len(indices):
            raise ValueError(f"block {block} has {len(indices)} images, got maps of {len(maps)}")
        codec = self.layout.codec
        first = block * self.layout.shard_values
        starts = (self.layout.images[indices.start : indices.stop, 0] - first).tolist()
        used = starts[-1] + maps[-1].size
        codes = self._cleared(-(-used // codec.chunk_values) * codec.chunk_values)
        for index, start, values in zip(indices, starts, maps, strict=True):
            flat = self._checked(index, values)
            codec.to_codes(flat, codes[start : start + flat.size], self._scratch_of(flat.size))
        write_shard(shard_path(self.path, block), codes, self.layout.shard_values, codec)

    def _cleared(self, size: int) -> np.ndarray:
        if self._codes.size < size:
            self._codes = np.zeros(size, self.layout.codec.dtype)
        codes = self._codes[:size]
        codes.fill(0)
        return codes

    def _scratch_of(self, size: int) -> np.ndarray:
        if self._scratch.size < size:
            self._scratch = np.zeros(size, np.float32)
        return self._scratch

    def _checked(self, index: int, values: np.ndarray) -> np.ndarray:
        name = self.layout.ids[index]
        if values.shape != self.layout.shape(index) or values.dtype != np.float32:
            expected = f"float32 {self.layout.shape(index)}"
            raise ValueError(f"{name!r}: maps of {values.dtype} {values.shape}, the layout has {expected}")
        flat = values.reshape(-1)
        if flat.size and not (flat.min() >= -TOLERANCE and flat.max() <= 1 + TOLERANCE):
            raise ValueError(f"{name!r}: maps from {flat.min()} to {flat.max()}; they must be normalised to [0, 1]")
        return flat


def finalize(path: Path, provenance: Mapping[str, Any]) -> None:
    """Check every shard and write the manifest: the store is complete. To be called once, after all ranks are done.

    Args:
        path: the store.
        provenance: where the maps came from, kept in the manifest; JSON values.

    Raises:
        StoreError: blocks are missing, or a shard is damaged (it is removed, so that a further run writes it again).
    """
    layout = Layout.load(path)
    missing = []
    for block in range(layout.block_count):
        try:
            _open_shard(path, layout, block).check_chunks()
        except StoreError:
            shard_path(path, block).unlink(missing_ok=True)
            missing.append(block)
    if missing:
        raise StoreError(f"{path}: {len(missing)} of {layout.block_count} blocks are missing or damaged: {missing[:8]}")
    for folder in (path, shard_path(path, 0).parent):
        remove_leftovers(folder)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "manifest.json")
    facts = {"images": len(layout.ids), "blocks": layout.block_count, "provenance": dict(provenance)}
    write_manifest(path, FORMAT, files, facts)


def _open_shard(path: Path, layout: Layout, block: int) -> Shard:
    return Shard(shard_path(path, block), layout.shard_values // layout.chunk_values)
