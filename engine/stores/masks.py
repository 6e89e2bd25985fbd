"""Label images as palette PNGs, one an image, in the values that the data set's own mask files use."""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.files import TEMPORARY_PREFIX, remove_leftovers, replacing, write_bytes, write_json
from camshaft.engine.stores.manifest import NAME as MANIFEST
from camshaft.engine.stores.manifest import (
    check_digests,
    check_sizes,
    raise_problems,
    read_manifest,
    remedy,
    write_manifest,
)
from camshaft.engine.stores.names import file_of

FORMAT = "camshaft mask folder 1"
VOID = 255
"""The label of pixels that belong to no class and count nowhere; it is 255 in files too."""
_HEADER = "format.json"
_TABLE = "masks.sha256"
_COMPRESSION = 3
"""zlib's level: more than twice as fast as Pillow's own choice, with files half as large again."""
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class MaskFolder:
    """A folder of `<id>.png`; complete once its manifest is there.

    Labels are 0 for background, 1..C for the classes and 255 for void; in the files they are `file_values[label]`.

    Attributes:
        path: the folder.
        palette: uint8 (256, 3), the colour of each file value.
        file_values: the value in files of background and each class.
        provenance: of a complete folder, what was given to `finalize`.
    """

    def __init__(self, path: Path, palette: np.ndarray, file_values: Sequence[int]) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.palette = palette
        self.file_values = tuple(int(value) for value in file_values)
        self.provenance: dict[str, Any] = {}
        self._digests: dict[str, str] | None = None
        self._to_file = np.full(256, -1, np.int16)
        self._to_file[: len(self.file_values)] = self.file_values
        self._to_file[VOID] = VOID
        self._to_label = np.full(256, -1, np.int16)
        self._to_label[list(self.file_values)] = np.arange(len(self.file_values))
        self._to_label[VOID] = VOID

    @classmethod
    def create(cls, path: Path, palette: np.ndarray, file_values: Sequence[int]) -> "MaskFolder":
        """Make a folder to write to, or go on with the one that is there; all ranks may call this at once.

        Args:
            path: the folder.
            palette: uint8 (256, 3), the colour of each file value.
            file_values: C + 1 different values below 255, of background and each class.

        Raises:
            StoreError: a folder is there with another palette or other values.
            ValueError: palette or values are not as above.
        """
        values = [int(value) for value in file_values]
        if palette.shape != (256, 3) or palette.dtype != np.uint8:
            raise ValueError(f"palette must be uint8 (256, 3), is {palette.dtype} {palette.shape}")
        if len(set(values)) != len(values) or not all(0 <= value < VOID for value in values):
            raise ValueError(f"file values must differ and lie in 0..254: {values}")
        header = {"format": FORMAT, "file_values": values, "palette": palette.tobytes().hex()}
        file = path / _HEADER
        if not file.exists():
            write_json(file, header)
        elif _read_header(path) != header:
            raise StoreError(f"{path}: holds masks with another palette or other values; remove it or write elsewhere")
        return cls(path, palette, values)

    @classmethod
    def open(cls, path: Path) -> "MaskFolder":
        """Open a complete folder.

        Raises:
            StoreError: it is not complete, or its tables are damaged.
        """
        manifest = read_manifest(path, FORMAT)
        check_sizes(path, manifest)
        check_digests(path, manifest, manifest["files"])
        header = _read_header(path)
        palette = np.frombuffer(bytes.fromhex(header["palette"]), np.uint8).reshape(256, 3)
        folder = cls(path, palette, header["file_values"])
        lines = (path / _TABLE).read_text().splitlines()
        folder.provenance = manifest["provenance"]
        folder._digests = {line[66:].removesuffix(".png"): line[:64] for line in lines}
        return folder

    @property
    def ids(self) -> tuple[str, ...]:
        """The images of a complete folder, in the order given to `finalize`."""
        return tuple(self._table())

    def write(self, name: str, labels: np.ndarray) -> None:
        """Write one label image; its file is there whole afterwards, or not at all.

        Args:
            name: the image's id.
            labels: uint8 (H, W): 0 background, 1..C classes, 255 void.

        Raises:
            StoreError: the id would leave the folder.
            ValueError: a label has no class.
            DiskFullError: no space was left.
        """
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(f"{name!r}: labels must be uint8 (H, W), are {labels.dtype} {labels.shape}")
        values = self._to_file[labels]
        if values.min(initial=0) < 0:
            known = f"0..{len(self.file_values) - 1} or {VOID}"
            raise ValueError(f"{name!r}: labels must be {known}, there is {labels[values < 0][0]}")
        image = Image.fromarray(values.astype(np.uint8))
        image.putpalette(self.palette.tobytes())
        with replacing(file_of(self.path, name, ".png")) as temporary:
            image.save(temporary, "png", compress_level=_COMPRESSION)

    def read(self, name: str) -> np.ndarray:
        """One label image.

        Returns:
            uint8 (H, W): 0 background, 1..C classes, 255 void.

        Raises:
            StoreError: it is missing, damaged, or has a value of no class, or the id would leave the folder.
        """
        file = file_of(self.path, name, ".png")
        try:
            return self._read(name, file)
        except StoreError as error:
            raise StoreError(f"{error}; {remedy(self.path)}") from error

    def _read(self, name: str, file: Path) -> np.ndarray:
        try:
            data = file.read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"{file}: missing") from error
        if self._digests is not None and hashlib.sha256(data).hexdigest() != self._digests.get(name):
            raise StoreError(f"{file}: damaged: its SHA-256 is not the one in {_TABLE}")
        try:
            with Image.open(BytesIO(data)) as image:
                values = np.asarray(image)
        except (OSError, SyntaxError) as error:
            raise StoreError(f"{file}: damaged: {error}") from error
        if values.dtype != np.uint8 or values.ndim != 2:
            raise StoreError(f"{file}: not a label image: {values.dtype} {values.shape}")
        labels = self._to_label[values]
        if labels.min(initial=0) < 0:
            raise StoreError(f"{file}: has value {values[labels < 0][0]}, which is no class's")
        return np.asarray(labels, np.uint8)

    def ids_done(self) -> set[str]:
        """The images whose files are whole; a half-written one has another name, a damaged one a wrong checksum."""
        return {name for name, file in self._files() if _is_whole(file.read_bytes())}

    def _files(self) -> Iterator[tuple[str, Path]]:
        for file in self.path.glob("*.png"):
            if not file.name.startswith(TEMPORARY_PREFIX):
                yield file.name.removesuffix(".png"), file

    def finalize(self, ids: Sequence[str], provenance: Mapping[str, Any]) -> None:
        """Complete the folder: to be called once, after all ranks are done.

        Args:
            ids: the images that must be there, in order.
            provenance: where the masks came from, kept in the manifest; JSON values.

        Raises:
            StoreError: a mask is missing or damaged; `ids_done` leaves it out.
        """
        lines, missing = [], []
        for name in ids:
            file = file_of(self.path, name, ".png")
            data = file.read_bytes() if file.exists() else b""
            lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}.png\n")
            if not _is_whole(data):
                missing.append(name)
        if missing:
            raise StoreError(
                f"{self.path}: {len(missing)} of {len(ids)} masks are missing or damaged, the first is {missing[0]!r}"
            )
        remove_leftovers(self.path)
        write_bytes(self.path / _TABLE, "".join(lines).encode())
        facts = {"masks": len(ids), "provenance": dict(provenance)}
        write_manifest(self.path, FORMAT, [self.path / _HEADER, self.path / _TABLE], facts)

    def verify(self) -> None:
        """Read every mask of a complete folder whole.

        Raises:
            StoreError: one line for each mask that is missing or altered.
        """
        problems = []
        for name in self._table():
            try:
                self._read(name, file_of(self.path, name, ".png"))
            except StoreError as error:
                problems.append(str(error))
        raise_problems(self.path, problems)

    def _table(self) -> dict[str, str]:
        if self._digests is None:
            raise StoreError(f"{self.path}: not complete: it has no {MANIFEST} yet")
        return self._digests


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((path / _HEADER).read_bytes())
    except (ValueError, OSError) as error:
        raise StoreError(f"{path / _HEADER}: damaged: {error}") from error
    return header


def _is_whole(png: bytes) -> bool:
    """Whether a PNG has its start, its end, and between them chunks that fit their checksums."""
    position = len(_PNG_START)
    while position + 12 <= len(png):
        end = position + 12 + int.from_bytes(png[position : position + 4])
        if zlib.crc32(png[position + 4 : end - 4]) != int.from_bytes(png[end - 4 : end]):
            return False
        position = end
    return position == len(png) and png.startswith(_PNG_START) and png.endswith(_PNG_END)


def voc_palette() -> np.ndarray:
    """PASCAL VOC's colours: the bits of a value dealt to red, green and blue from the top.

    Returns:
        uint8 (256, 3).
    """
    values = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((values >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette
