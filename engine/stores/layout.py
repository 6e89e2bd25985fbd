"""Where every value of a map store stands, settled before the first one is computed.

The values of all images are one flat array. Which classes an image has and the size of its grid are known from tags
and image headers, so its place is known too. Consecutive images fill a **block**; a block is exactly one shard, so a
block can be written by any rank, at any time, in one go, and the bytes don't depend on who wrote it.
Inside a block an image that fits in what is left of a chunk goes there, else it starts the next chunk: reading one
image decodes one chunk unless the image is larger than that.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from camshaft.engine.errors import StoreError
from camshaft.engine.stores.encoding import Codec, Encoding
from camshaft.engine.stores.names import check_id

FORMAT = "camshaft map store 1"
COLUMNS = ("start", "maps", "height", "width", "image_height", "image_width")
CHUNK_VALUES = 8192
"""Values a chunk: about one image at stride 8; larger ones are slower to read at random, smaller ones compress less."""
SHARD_VALUES = 1 << 22
"""Values after which a block is closed: 8 MiB of codes, about 2 MB on disk."""
BLOCK_IMAGES = 16, 256
"""Bounds of a block's images: what a killed rank computes again at most, and what ranks share out among them."""
BLOCKS = 64
"""Blocks that a store is cut into at least, as far as `BLOCK_IMAGES` allow."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The plan of one store: N images in B blocks."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    encoding: Encoding
    chunk_values: int
    shard_values: int
    images: np.ndarray = field(repr=False)
    """int64 (N, 6), columns `COLUMNS`: place of the first value, number of maps K, their h and w, image H and W."""
    class_indices: np.ndarray = field(repr=False)
    """int64 (ΣK,): the classes of each image's maps, image after image."""
    blocks: np.ndarray = field(repr=False)
    """int64 (B + 1,): the first image of each block, then N."""

    @property
    def codec(self) -> Codec:
        """Values ↔ bytes of this store."""
        return Codec(self.encoding, self.chunk_values)

    @property
    def block_count(self) -> int:
        """B, also the number of shards."""
        return len(self.blocks) - 1

    def block(self, block: int) -> range:
        """The images of a block."""
        if not 0 <= block < self.block_count:
            raise IndexError(f"no block {block}; there are {self.block_count}")
        return range(int(self.blocks[block]), int(self.blocks[block + 1]))

    def shape(self, index: int) -> tuple[int, int, int]:
        """(K, h, w) of an image's maps."""
        _, maps, height, width, _, _ = self.images[index].tolist()
        return maps, height, width

    def classes_of(self, index: int) -> np.ndarray:
        """int64 (K,): the class indices of an image's maps."""
        first = int(self._first_classes[index])
        return self.class_indices[first : first + int(self.images[index, 1])]

    @cached_property
    def _first_classes(self) -> np.ndarray:
        return np.asarray(np.cumsum(self.images[:, 1]) - self.images[:, 1])

    def digest(self) -> str:
        """SHA-256 of everything that the layout says."""
        state = hashlib.sha256(repr((FORMAT, self.ids, self.classes, self.encoding)).encode())
        state.update(repr((self.chunk_values, self.shard_values)).encode())
        for table in (self.images, self.class_indices, self.blocks):
            state.update(np.ascontiguousarray(table, "<i8").tobytes())
        return state.hexdigest()

    def save(self, path: Path) -> None:
        """Write the store's zarr group, tables and empty array of values to the new folder `path`."""
        attributes = {"format": FORMAT, "encoding": self.encoding, "classes": list(self.classes), "columns": COLUMNS}
        group = zarr.create_group(path, attributes={"camshaft": attributes})
        codec = self.codec
        group.create_array(
            "values",
            shape=(self.block_count * self.shard_values,),
            chunks=(self.chunk_values,),
            shards=(self.shard_values,),
            fill_value=0,
            attributes={"scale_factor": 1 / codec.largest},
            **codec.zarr_codecs(),
        )
        tables = {"images": self.images, "class_indices": self.class_indices, "blocks": self.blocks}
        tables["ids"] = np.frombuffer("\n".join(self.ids).encode(), np.uint8)
        for name, table in tables.items():
            _save_table(group, name, table)

    @classmethod
    def load(cls, path: Path) -> "Layout":
        """Read what `save` wrote.

        Raises:
            StoreError: there is no store, or a table is damaged.
        """
        if not (path / "zarr.json").is_file():
            raise StoreError(f"{path}: not a map store (it has no zarr.json)")
        try:
            group = zarr.open_group(path, mode="r")
            attributes: Any = group.attrs["camshaft"]
            if attributes["format"] != FORMAT:
                raise StoreError(f"{path}: format {attributes['format']!r}; this program reads {FORMAT!r}")
            values = _array(group, "values")
            assert values.shards is not None
            text = np.asarray(_array(group, "ids")[:]).tobytes().decode()
            return cls(
                ids=tuple(text.split("\n")) if text else (),
                classes=tuple(attributes["classes"]),
                encoding=attributes["encoding"],
                chunk_values=values.chunks[0],
                shard_values=values.shards[0],
                images=np.asarray(_array(group, "images")[:]),
                class_indices=np.asarray(_array(group, "class_indices")[:]),
                blocks=np.asarray(_array(group, "blocks")[:]),
            )
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"{path}: its tables can't be read ({error}); remove the folder and run again") from error


def _save_table(group: zarr.Group, name: str, table: np.ndarray) -> None:
    chunks = tuple(max(1, length) for length in table.shape)
    codecs = ZstdCodec(level=3), Crc32cCodec()
    array = group.create_array(name, shape=table.shape, chunks=chunks, dtype=table.dtype, compressors=codecs)
    if table.size:
        array[...] = table


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def plan(
    ids: Sequence[str],
    class_lists: Sequence[Sequence[int]],
    grid_sizes: np.ndarray,
    image_sizes: np.ndarray,
    *,
    classes: Sequence[str],
    encoding: Encoding = "uint10",
    block_images: int | None = None,
    shard_values: int = SHARD_VALUES,
    chunk_values: int = CHUNK_VALUES,
) -> Layout:
    """Give every image its place.

    Args:
        ids: N different names, in the order in which blocks are made.
        class_lists: for each image the indices into `classes` of its maps, in the order of the maps; may be empty.
        grid_sizes: int (N, 2), h and w of each image's maps.
        image_sizes: int (N, 2), H and W of each image.
        classes: names of all classes, without background.
        encoding: how values are stored.
        block_images: images after which a block is closed; by default 1/64 of all, but at least 16 and at most 256.
        shard_values: values after which a block is closed.
        chunk_values: values of a chunk, the unit of compression.

    Raises:
        StoreError: an id is there twice, or can't be an id.
        ValueError: lengths differ, or an index or a size is out of range.
    """
    _check(ids, class_lists, grid_sizes, image_sizes, len(classes))
    counts = np.array([len(indices) for indices in class_lists], np.int64)
    sizes = counts * np.prod(np.asarray(grid_sizes, np.int64).reshape(-1, 2), axis=1)
    if block_images is None:
        block_images = min(max(len(ids) // BLOCKS, BLOCK_IMAGES[0]), BLOCK_IMAGES[1])
    local, blocks, longest = _pack(sizes.tolist(), block_images, shard_values, chunk_values)
    shard = max(1, -(-longest // chunk_values)) * chunk_values
    block_of = np.repeat(np.arange(len(blocks) - 1), np.diff(blocks))
    images = np.empty((len(ids), len(COLUMNS)), np.int64)
    images[:, 0] = block_of * shard + local
    images[:, 1] = counts
    images[:, 2:4] = np.reshape(grid_sizes, (-1, 2))
    images[:, 4:6] = np.reshape(image_sizes, (-1, 2))
    flat = [int(index) for indices in class_lists for index in indices]
    return Layout(tuple(ids), tuple(classes), encoding, chunk_values, shard, images, np.array(flat, np.int64), blocks)


def _pack(sizes: list[int], block_images: int, shard_values: int, chunk: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Place images in blocks: starts in their blocks (N,), first images of blocks (B + 1,), length of the longest."""
    starts: list[int] = []
    firsts = [0]
    position = longest = 0
    for index, size in enumerate(sizes):
        start = _next_start(position, size, chunk)
        full = start + size > shard_values or index - firsts[-1] >= block_images
        if full and index > firsts[-1]:
            firsts.append(index)
            start = 0
        starts.append(start)
        position = start + size
        longest = max(longest, position)
    if sizes:
        firsts.append(len(sizes))
    return np.array(starts, np.int64), np.array(firsts, np.int64), longest


def _next_start(position: int, size: int, chunk: int) -> int:
    room = -position % chunk
    return position + room if size > room else position


def _check(
    ids: Sequence[str],
    class_lists: Sequence[Sequence[int]],
    grid_sizes: np.ndarray,
    image_sizes: np.ndarray,
    class_count: int,
) -> None:
    if not len(ids) == len(class_lists) == len(grid_sizes) == len(image_sizes):
        lengths = len(ids), len(class_lists), len(grid_sizes), len(image_sizes)
        raise ValueError(f"ids, class lists, grid sizes and image sizes must be as many: {lengths}")
    seen: set[str] = set()
    for name, indices in zip(ids, class_lists, strict=True):
        check_id(name)
        if name in seen:
            raise StoreError(f"{name!r}: this id is there twice")
        seen.add(name)
        if len(set(indices)) != len(indices) or not all(0 <= index < class_count for index in indices):
            raise ValueError(f"{name!r}: class indices {list(indices)} must differ and lie in 0..{class_count - 1}")
    if len(ids) and min(np.min(grid_sizes), np.min(image_sizes)) < 1:
        raise ValueError("every grid and image must be at least 1×1")
