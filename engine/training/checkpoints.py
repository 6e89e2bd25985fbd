"""Checkpoints that are whole or absent: the training's state, and a manifest of its SHA-256 that is written last.

checkpoints/step-00000120/state.safetensors    network and optimiser, put together from all ranks (state.py)
checkpoints/step-00000120/manifest.json        what it must be, the place in the training, and which training it is

DeepSpeed's own checkpoints hold one file a rank and fit only as many ranks as wrote them, and they are pickles.
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.files import remove_leftovers, replacing_folder, sha256_of, write_json
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.stores.manifest import file_entries
from camshaft.engine.training.place import Place
from camshaft.engine.training.state import gather_state, restore_state

MANIFEST = "manifest.json"
STATE = "state.safetensors"

logger = logging.getLogger("camshaft.training")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all there and unchanged."""

    path: Path
    place: Place


class CheckpointFolder:
    """The checkpoints of one training."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], ranks: Ranks, keep: int) -> None:
        """Use `folder`.

        Args:
            folder: holds nothing else; all ranks share it.
            identity: JSON values that tell this training from others; a checkpoint with other ones is not used.
            ranks: this process's place; all ranks call each method together.
            keep: checkpoints that are kept, newest first.
        """
        self._folder = folder
        self._identity = json.loads(json.dumps(identity))
        self._ranks = ranks
        self._keep = keep
        self._passed_over: list[Path] = []

    def save(self, engine: Any, place: Place) -> Path:
        """Save the whole state and the place; the folder appears under its name once it is whole.

        Then what `load_newest` passed over is removed, and of the others the oldest beyond those to keep.

        Raises:
            DiskFullError: no space was left; the checkpoints before it are as they were.
        """
        path = self._folder / f"step-{place.step:08d}"
        state = gather_state(engine)
        self._ranks.agree(lambda: self._write(state, path, place))
        return path

    def load_newest(self, engine: Any) -> Place | None:
        """Load the newest checkpoint that is whole into the engine; its place, or None where there is none.

        A checkpoint that is truncated, altered or from another training is named in a warning and passed over.
        """
        found = self._ranks.agree(self._newest)
        if found is None:
            return None
        with self._ranks.failing_together():
            try:
                restore_state(engine, load_file(found.path / STATE))
            except (SafetensorError, StoreError, OSError) as error:
                problem = f"can't be used, though it is what was written: {error}; remove it to go on without"
                raise StoreError(f"{found.path}: {problem}") from error
        return found.place

    def _write(self, state: dict[str, Tensor], path: Path, place: Place) -> None:
        with _failure_named(path):
            if path.exists():  # one that was passed over: else it would have been resumed from
                shutil.rmtree(path)
            with replacing_folder(path) as temporary:
                self._fill(state, temporary, place)
        # By their step numbers, those passed over would count as newer than the one just written.
        for passed_over in self._passed_over:
            if passed_over != path:
                shutil.rmtree(passed_over, ignore_errors=True)
        self._passed_over = []
        for old in self._all()[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def _fill(self, state: dict[str, Tensor], folder: Path, place: Place) -> None:
        with (folder / STATE).open("wb") as file:
            file.write(save(state))
            file.flush()
            os.fsync(file.fileno())
        files = file_entries(folder, [folder / STATE])
        manifest = {"identity": self._identity, "place": place.to_json(), "files": files}
        write_json(folder / MANIFEST, manifest)

    def _all(self) -> list[Path]:
        """All checkpoints, newest first."""
        return sorted(self._folder.glob("step-*"), reverse=True)

    def _newest(self) -> Checkpoint | None:
        if self._folder.exists():
            remove_leftovers(self._folder)
        self._passed_over = []
        for path in self._all():
            try:
                return Checkpoint(path, self._read(path))
            except StoreError as problem:
                logger.warning("%s; this checkpoint is passed over", problem)
                self._passed_over.append(path)
        return None

    def _read(self, path: Path) -> Place:
        """The place of a checkpoint, its files checked.

        Raises:
            StoreError: what is wrong with it.
        """
        manifest = read_manifest(path)
        if manifest["identity"] != self._identity:
            changed = [name for name in self._identity if manifest["identity"].get(name) != self._identity[name]]
            raise StoreError(f"{path}: from another training ({', '.join(changed) or 'of more settings'} differ)")
        try:
            return Place.from_json(manifest["place"])
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path / MANIFEST}: its place is not one ({error})") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """A checkpoint's manifest, after all files that it names were compared with it.

    Raises:
        StoreError: the manifest or a file is missing, truncated or altered.
    """
    manifest_path = path / MANIFEST
    try:
        manifest = json.loads(manifest_path.read_bytes())
        named = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
        if not isinstance(manifest["identity"], dict) or not isinstance(manifest["place"], dict):
            raise TypeError("identity and place are no objects")
    except FileNotFoundError as error:
        raise StoreError(f"{path}: {MANIFEST} is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{manifest_path}: not a manifest ({error})") from error
    present = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} - {MANIFEST}
    if present != set(named):
        raise StoreError(f"{path}: its files are not those of its manifest ({', '.join(present ^ set(named))})")
    for name, (size, digest) in named.items():
        file = path / name
        if file.stat().st_size != size:
            raise StoreError(f"{file}: {file.stat().st_size} bytes, but {size} were written")
        if sha256_of(file) != digest:
            raise StoreError(f"{file}: altered since it was written")
    return dict(manifest)


def remove_checkpoints(folder: Path) -> None:
    """Remove the folder of a training's checkpoints, once its result is kept elsewhere."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


@contextmanager
def _failure_named(path: Path) -> Iterator[None]:
    """Name what was written where a write fails for another reason than a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(f"{path}: could not be written: {error}") from error
