"""The manifest: written last, it says that a store is complete and what every file of it must be."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.files import sha256_of, write_bytes

NAME = "manifest.json"
STAGE_FILE = "stage.json"
"""The record of a complete stage, which lies in the stage's folder, above its stores."""
_DIGEST = "sha256"


def write_manifest(folder: Path, kind: str, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
    """Complete `folder`.

    Args:
        folder: the store.
        kind: its format.
        files: every file of it, in order.
        facts: what else is worth knowing; JSON values.
    """
    body = {"format": kind, **facts, "files": file_entries(folder, files)}
    write_bytes(folder / NAME, _text({**body, _DIGEST: _digest(body)}))


def file_entries(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """What `check_sizes` and `check_digests` compare files of `folder` with, by their names."""
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, _DIGEST: sha256_of(file)} for file in files
    }


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of a complete store.

    Raises:
        StoreError: there is none (the store is not complete), it is damaged, or of another format.
    """
    path = folder / NAME
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "not complete: it has no manifest" if folder.is_dir() else "no such folder"
        raise StoreError(f"{folder}: {what}; {remedy(folder)}") from error
    try:
        manifest: dict[str, Any] = json.loads(text)
        body = {key: value for key, value in manifest.items() if key != _DIGEST}
        whole = _text(manifest) == text and _digest(body) == manifest[_DIGEST]
    except (ValueError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise StoreError(f"{path}: damaged: its checksum is wrong; {remedy(folder)}")
    if manifest["format"] != kind:
        raise StoreError(f"{path}: format {manifest['format']!r}, expected {kind!r}")
    return manifest


def check_sizes(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise StoreError unless every file is there with its size."""
    problems = []
    for name, entry in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{file}: missing")
        elif (size := file.stat().st_size) != entry["bytes"]:
            problems.append(f"{file}: damaged: {size} bytes, expected {entry['bytes']}")
    raise_problems(folder, problems)


def check_digests(folder: Path, manifest: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise StoreError, one line a file, unless each of the named files has its SHA-256."""
    problems = [
        f"{folder / name}: damaged: its SHA-256 is not the manifest's"
        for name in names
        if sha256_of(folder / name) != manifest["files"][name][_DIGEST]
    ]
    raise_problems(folder, problems)


def raise_problems(folder: Path, problems: Sequence[str]) -> None:
    """Raise StoreError if the store `folder` has problems: one line each, and what to do about them behind the last."""
    if problems:
        raise StoreError("\n".join(problems) + f"; {remedy(folder)}")


def remedy(folder: Path) -> str:
    """What to do about a store that should be whole: a stage that is complete doesn't write its stores again."""
    stage = next((above for above in folder.parents if (above / STAGE_FILE).is_file()), None)
    return f"remove {folder if stage is None else stage} and run again"


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(body)).hexdigest()
