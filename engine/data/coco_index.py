"""An index of COCO's instances JSON: what tags need, and where in the file each annotation stands.

`instances_train2014.json` is nearly half a gigabyte, almost all of it polygons that only evaluation needs. So the file
is read in pieces, an annotation's numbers are kept with its place in the file, and the polygons are read again from
there when a mask is asked for. The index is kept as plain arrays in the user's cache folder, for the next run and for
other ranks.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.data.json_stream import JsonStream
from camshaft.engine.errors import CamshaftError, DataError
from camshaft.engine.runtime.files import replacing

FORMAT = "camshaft coco index 1"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CocoIndex:
    """N images, K categories and A annotations of one file; annotations by image, then in the file's order."""

    file_names: NDArray[np.str_]
    """(N,), in the file's order."""
    image_ids: NDArray[np.int64]
    """(N,)"""
    sizes: NDArray[np.int32]
    """(N, 2): heights and widths."""
    category_ids: NDArray[np.int64]
    """(K,), rising."""
    category_names: NDArray[np.str_]
    """(K,)"""
    annotation_ids: NDArray[np.int64]
    """(A,); -1 for one without."""
    images: NDArray[np.int32]
    """(A,): the row of the image."""
    categories: NDArray[np.int16]
    """(A,): the row of the category."""
    crowd: NDArray[np.bool_]
    """(A,): a region of many objects that were not outlined one by one."""
    areas: NDArray[np.float64]
    """(A,), pixels; NaN where the file has none."""
    places: NDArray[np.int64]
    """(A, 2): first byte and length in the file."""

    def of_image(self, row: int) -> range:
        """The annotations of an image."""
        first, last = np.searchsorted(self.images, (row, row + 1)).tolist()
        return range(first, last)

    def tags(self) -> NDArray[np.uint8]:
        """(N, K) of 0 and 1: each image's categories, of crowds too."""
        tags = np.zeros((len(self.image_ids), len(self.category_ids)), np.uint8)
        tags[self.images, self.categories] = 1
        return tags

    def save(self, path: Path) -> None:
        """Write all arrays to an .npz file."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, format=np.array(FORMAT), **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            OSError, ValueError, KeyError: it is not there, or damaged.
        """
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if str(arrays["format"]) != FORMAT:
                raise ValueError("another format")
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def open_index(path: Path) -> CocoIndex:
    """The index of a file: from the cache, else read from the file and put there.

    Processes of one machine that ask for it at the same time wait for the one that reads.

    Raises:
        DataError: missing, no JSON, or not COCO's format; names the file and the entry.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None
    key = f"{FORMAT}\n{path.resolve()}\n{state.st_size}\n{state.st_mtime_ns}"
    cached = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    with _locked(cached):
        with suppress(Exception):  # a damaged cache is made again
            return CocoIndex.load(cached)
        index = read_index(path)
        try:
            index.save(cached)
        except (OSError, CamshaftError) as error:
            logger.info("%s: its index could not be kept, so that the next run reads it again: %s", path, error)
    return index


def cache_folder() -> Path:
    """Where indices are kept: camshaft/coco in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "camshaft" / "coco"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock beside `path`, where the file system has locks; where it has none nothing is lost but time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError:
        yield
        return
    with lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_index(path: Path) -> CocoIndex:
    """Read a file into an index, piece by piece.

    Raises:
        DataError: no JSON, or not COCO's format; names the file and the entry.
    """
    entries: dict[str, list[Any]] = {"images": [], "categories": [], "annotations": []}
    read = {"images": _image, "categories": _category, "annotations": _annotation}
    with _opened(path) as file:
        stream = JsonStream(file, str(path))
        for key in stream.keys():  # noqa: SIM118 - a generator, no dictionary
            if key not in entries:
                stream.skip()
                continue
            if entries[key]:
                raise DataError(f"{path}: {key!r} is there twice")
            for number, (value, start, length) in enumerate(stream.elements()):
                try:
                    entries[key].append(read[key](value, start, length))
                except (KeyError, TypeError, ValueError, OverflowError) as error:
                    what = f"no {error}" if isinstance(error, KeyError) else str(error)
                    raise DataError(f"{path}: {key}[{number}], at byte {start}: {what}") from None
    for key in ("images", "categories"):
        if not entries[key]:
            raise DataError(f"{path}: holds no {key}; an instances file of COCO is expected")
    return _assembled(path, **entries)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None
    with file:
        yield file


def _image(value: dict[str, Any], _start: int, _length: int) -> tuple[int, str, int, int]:
    height, width = int(value["height"]), int(value["width"])
    if min(height, width) < 1 or max(height, width) > 1 << 20:
        raise ValueError(f"an image can't be {width}×{height}")
    return _whole(value["id"]), str(value["file_name"]), height, width


def _category(value: dict[str, Any], _start: int, _length: int) -> tuple[int, str]:
    name = str(value["name"])
    if not name.isprintable():  # nor could it be written: half of a character pair is not printable either
        raise ValueError(f"{name!r} is no category's name")
    return _whole(value["id"]), name


def _annotation(value: dict[str, Any], start: int, length: int) -> tuple[int, int, int, bool, float, int, int]:
    area = float(value.get("area", "nan"))
    image, category, crowd = _whole(value["image_id"]), _whole(value["category_id"]), bool(value.get("iscrowd", 0))
    return _whole(value.get("id", -1)), image, category, crowd, area, start, length


def _whole(value: Any) -> int:
    """An id as COCO's files have it, which fits in 64 bits."""
    if isinstance(value, bool) or int(value) != value or not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"an id is a whole number of 64 bits, not {value!r}")
    return int(value)


def _assembled(path: Path, images: list[Any], categories: list[Any], annotations: list[Any]) -> CocoIndex:
    categories.sort()
    category_ids = _numbers(path, "categories", [number for number, _ in categories])
    image_ids = _numbers(path, "images", [image[0] for image in images])
    own, image_of, category_of, crowd, areas, starts, lengths = (
        zip(*annotations, strict=True) if annotations else [()] * 7
    )
    image_rows = _rows(path, "image", np.array(image_of, np.int64), image_ids)
    category_rows = _rows(path, "category", np.array(category_of, np.int64), category_ids)
    order = np.argsort(image_rows, kind="stable")
    return CocoIndex(
        file_names=np.array([image[1] for image in images], np.str_),
        image_ids=image_ids,
        sizes=np.array([image[2:] for image in images], np.int32),
        category_ids=category_ids,
        category_names=np.array([name for _, name in categories], np.str_),
        annotation_ids=np.array(own, np.int64)[order],
        images=image_rows.astype(np.int32)[order],
        categories=category_rows.astype(np.int16)[order],
        crowd=np.array(crowd, np.bool_)[order],
        areas=np.array(areas, np.float64)[order],
        places=np.stack([np.array(starts, np.int64), np.array(lengths, np.int64)], 1)[order],
    )


def _numbers(path: Path, key: str, ids: list[int]) -> NDArray[np.int64]:
    numbers = np.array(ids, np.int64)
    unique, counts = np.unique(numbers, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path}: {key}: id {unique[counts > 1][0]} is there twice")
    return numbers


def _rows(path: Path, what: str, wanted: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(ids)
    found = np.searchsorted(ids[order], wanted)
    rows = order[np.minimum(found, len(ids) - 1)]
    if (bad := ids[rows] != wanted).any():
        number = int(np.flatnonzero(bad)[0])
        raise DataError(f"{path}: annotations[{number}]: {what}_id {wanted[number]} is no {what}'s id")
    return np.asarray(rows, np.int64)


def read_entry(file: int, start: int, length: int) -> Any:
    """The JSON value at a place of an open file.

    Raises:
        ValueError: there is none any more: the file was changed.
    """
    return json.loads(os.pread(file, length, start))
