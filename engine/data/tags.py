"""Image-level tags and where they come from: a CSV table, VOC's XML annotations, or NumPy arrays."""

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.data.dataset import repetitions, tag_matrix
from camshaft.engine.data.images import IMAGE_SUFFIXES
from camshaft.engine.data.lists import read_text
from camshaft.engine.errors import DataError
from camshaft.engine.stores.names import check_id

SEPARATOR = ";"

_CONVERT = (
    "python -c \"import numpy as np; d = np.load('{path}', allow_pickle=True).item(); "
    "np.savez('{npz}', ids=list(d), tags=np.array(list(d.values()), 'uint8'))\""
)


@dataclass(frozen=True)
class TagTable:
    """Tags by image."""

    source: Path
    """The file or folder they were read from, for messages."""
    classes: tuple[str, ...]
    """All classes that the source knows."""
    present: Mapping[str, tuple[str, ...]]
    """Names of the classes present, by image id."""
    where: Mapping[str, str]
    """Where each image's tags stand ("FILE, line 7"), by image id."""

    def matrix(self, ids: Sequence[str], classes: Sequence[str]) -> NDArray[np.uint8]:
        """(N, C) tags of these images and classes.

        Raises:
            DataError: a class that the source doesn't know, or an image without a row.
        """
        if unknown := [name for name in classes if name not in self.classes]:
            raise DataError(f"{self.source}: knows no class {unknown[0]!r}; there are {', '.join(self.classes)}")
        if missing := [image_id for image_id in ids if image_id not in self.present]:
            more = f" (and of {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise DataError(
                f"{self.source}: holds no tags of image {missing[0]!r}{more}; an image without any class has a row too"
            )
        return tag_matrix([self.present[image_id] for image_id in ids], classes)


def read_csv_tags(path: Path, classes: Sequence[str] | None = None) -> TagTable:
    """Tags from a CSV file, in one of two forms, told apart by its header.

    A column a class: header `id,cat,dog`, values 0 and 1. Names: header `image,tags`, names separated by ";", none for
    an image without any class. The first column holds ids; an image suffix (.jpg …) is taken off.

    Args:
        path: the file.
        classes: the second form's allowed names; default: all that occur, sorted.

    Raises:
        DataError: names the file and the line: a value that is not 0 or 1, an unknown name, a repeated image …
    """
    header, rows = _read_table(path)
    as_names = len(header) == 2 and header[1].lower() == "tags"
    if not as_names and (bad := repetitions(header[1:]) or [name for name in header[1:] if not name]):
        raise DataError(f"{path}, line 1: class {bad[0]!r} is empty or stands in the header twice")
    present: dict[str, tuple[str, ...]] = {}
    where: dict[str, str] = {}
    for number, row in rows:
        place = f"{path}, line {number}"
        image_id = _without_suffix(row[0].strip())
        check_id(image_id, place, DataError)
        if image_id in present:
            raise DataError(f"{place}: image {image_id!r} has its tags in {where[image_id].rsplit(', ', 1)[1]} already")
        present[image_id] = _names(row[1], classes, place) if as_names else _flags(row[1:], header[1:], place)
        where[image_id] = place
    if as_names:
        known = (
            tuple(classes)
            if classes is not None
            else tuple(sorted({name for names in present.values() for name in names}))
        )
    else:
        known = tuple(header[1:])
    return TagTable(path, known, present, where)


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header, and each row that is not blank with the number of its (last) line."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if len(header) < 2 or set(header[1:]) <= {"0", "1"}:
        raise DataError(f"{path}, line 1: the header must be id,CLASS,CLASS… or image,tags")
    for number, row in rows:
        if len(row) != len(header):
            raise DataError(f"{path}, line {number}: {len(row)} columns, but the header has {len(header)}")
    return header, rows


def read_xml_tags(folder: Path, ids: Collection[str], known: Sequence[str] | None) -> TagTable:
    """Tags from VOC's annotations, one FOLDER/ID.xml an image: a class is present if an object has its name.

    Args:
        folder: of the XML files.
        ids: the images.
        known: names that objects may have; default: any.

    Raises:
        DataError: a file that is missing or no XML, or an object of an unknown class.
    """
    present: dict[str, tuple[str, ...]] = {}
    where: dict[str, str] = {}
    for image_id in ids:
        path = folder / f"{image_id}.xml"
        try:
            root = ET.fromstring(read_text(path))
        except ET.ParseError as error:
            raise DataError(f"{path}: is not valid XML: {error}") from error
        names = tuple(dict.fromkeys((element.text or "").strip() for element in root.findall("object/name")))
        if known is not None and (unknown := [name for name in names if name not in known]):
            raise DataError(f"{path}: an object's class {unknown[0]!r} is none of {', '.join(known)}")
        present[image_id], where[image_id] = names, str(path)
    occurring = {name for names in present.values() for name in names}
    return TagTable(folder, tuple(known) if known is not None else tuple(sorted(occurring)), present, where)


def read_array_tags(path: Path, classes: Sequence[str]) -> TagTable:
    """Tags from NumPy arrays without pickled objects.

    `.npz`: arrays `ids` (N,) of strings, `tags` (N, K) of 0 and 1 and, if K is not the number of `classes`, `classes`
    (K,) of strings. `.npy`: one structured array with fields `id` (string) and `tags` (K numbers).

    Args:
        path: the file.
        classes: names of the K columns where the file doesn't name them.

    Raises:
        DataError: not in this form; a pickled dictionary (psa's cls_labels.npy) is refused with a way to convert it.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else {"": loaded}
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except Exception as error:  # damaged archives raise what their layers raise
        if "pickle" in str(error):
            command = _CONVERT.format(path=path, npz=path.with_suffix(".npz").name)
            raise DataError(
                f"{path}: holds pickled Python objects, which could run any code when read; "
                f"if you trust it, convert it once: {command}"
            ) from error
        raise DataError(f"{path}: can't be read as NumPy arrays: {error}") from error
    ids, tags, names = _array_columns(arrays, classes, path)
    for image_id in ids:
        check_id(image_id, str(path), DataError)
    if again := repetitions(ids):
        raise DataError(f"{path}: image {again[0]!r} has tags twice")
    present = {
        image_id: tuple(name for name, flag in zip(names, row, strict=True) if flag)
        for image_id, row in zip(ids, tags, strict=True)
    }
    return TagTable(path, names, present, {image_id: str(path) for image_id in ids})


def _array_columns(
    arrays: Mapping[str, NDArray[Any]], classes: Sequence[str], path: Path
) -> tuple[list[str], NDArray[Any], tuple[str, ...]]:
    """Ids, (N, K) tags and the K columns' names."""
    expected = f"{path}: expected arrays ids (N,) and tags (N, K) in an .npz, or fields id and tags in an .npy"
    if "" in arrays:
        fields = arrays[""].dtype.names or ()
        if not {"id", "tags"} <= set(fields):
            raise DataError(expected)
        ids, tags = arrays[""]["id"], arrays[""]["tags"]
    elif {"ids", "tags"} <= set(arrays):
        ids, tags = arrays["ids"], arrays["tags"]
    else:
        raise DataError(expected)
    names = tuple(map(str, arrays["classes"])) if "classes" in arrays else tuple(classes)
    if ids.ndim != 1 or ids.dtype.kind != "U" or tags.ndim != 2 or len(ids) != len(tags):
        raise DataError(f"{expected}; found {ids.dtype} {ids.shape} and {tags.dtype} {tags.shape}")
    if tags.shape[1] != len(names):
        raise DataError(f"{path}: {tags.shape[1]} columns of tags, but {len(names)} classes: {', '.join(names)}")
    if not np.isin(tags, (0, 1)).all():
        raise DataError(f"{path}: tags must be 0 or 1")
    return [str(image_id) for image_id in ids], tags, names


def _flags(cells: Sequence[str], names: Sequence[str], place: str) -> tuple[str, ...]:
    present = []
    for cell, name in zip(cells, names, strict=True):
        if cell.strip() not in ("0", "1"):
            raise DataError(f"{place}: class {name!r} must be 0 or 1, not {cell!r}")
        if cell.strip() == "1":
            present.append(name)
    return tuple(present)


def _names(cell: str, classes: Sequence[str] | None, place: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in cell.split(SEPARATOR) if name.strip()))
    if classes is not None and (unknown := [name for name in names if name not in classes]):
        raise DataError(f"{place}: unknown class {unknown[0]!r}; classes are {', '.join(classes)}")
    return names


def _without_suffix(name: str) -> str:
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name
