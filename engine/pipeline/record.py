"""stage.json: written last, so that a stage without a readable one that fits its fingerprint is not done."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import camshaft
from camshaft.engine.pipeline import fingerprint
from camshaft.engine.runtime.devices import processor_name
from camshaft.engine.runtime.files import write_json
from camshaft.engine.stores.manifest import STAGE_FILE, check_digests, check_sizes, file_entries

FILE = STAGE_FILE
RESULT_SUFFIXES = (".safetensors", ".json")
RECORDED_PACKAGES = ("torch", "deepspeed", "numpy", "numba", "zarr", "Pillow")


def read(folder: Path, expected: str) -> Mapping[str, Any] | None:
    """The record of a complete stage; None where the stage is not done.

    Raises:
        StoreError: the stage was complete, but one of its files is gone or altered since.
    """
    try:
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(record, dict) or record.get("fingerprint") != expected or "files" not in record:
        return None
    if not all(isinstance(entry, dict) for entry in record["files"].values()):
        return None  # of an earlier version, which kept sizes alone
    check_sizes(folder, record)
    check_digests(folder, record, record["files"])
    return record


def write(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a stage: add what its results' files must be, write stage.json, and return what it holds.

    Stores in folders have manifests of their own, and logs may be moved away.
    """
    files = [path for path in sorted(folder.iterdir()) if path.suffix in RESULT_SUFFIXES and path.name != FILE]
    values = {**as_json(record), "files": file_entries(folder, files)}
    write_json(folder / FILE, values)
    return values


def environment() -> dict[str, Any]:
    """Versions of code and packages, and the machine, as a record keeps them."""
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "code": {"version": camshaft.__version__, "digest": fingerprint.of_code()},
        "packages": versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {processor_name()}",
    }


def as_json(value: Any) -> Any:
    """`value` with NumPy's scalars and arrays as plain numbers and lists, and NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, np.generic):
        return as_json(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
