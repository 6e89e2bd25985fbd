"""Metrics of a training: JSON lines, one a record, and TensorBoard events beside them."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from camshaft.engine.runtime.files import disk_full_named, write_bytes

FILE = "metrics.jsonl"
EVENTS = "tensorboard"

logger = logging.getLogger("camshaft.runtime")


class MetricsLog:
    """Appends records to `folder`/metrics.jsonl, a line each that a kill can only cut at the end of the file."""

    def __init__(self, folder: Path, *, tensorboard: bool = True, enabled: bool = True) -> None:
        """Log to `folder`; with `enabled` False (on all ranks but the first) nothing is written."""
        self._path = folder / FILE
        self._events_folder = folder / EVENTS
        self._tensorboard = tensorboard
        self._enabled = enabled
        self._file: Any = None
        self._events: Any = None

    def rewind(self, step: int) -> None:
        """Drop what a killed run wrote after its last checkpoint: records beyond `step`, and a line cut short.

        Args:
            step: optimiser steps that are done; records up to and with it stay.
        """
        if not self._enabled:
            return
        self.close()
        if self._path.exists():
            kept = [record for record in read_metrics(self._path) if record["step"] <= step]
            write_bytes(self._path, b"".join(_line(record) for record in kept))
        if self._tensorboard:
            self._events = _event_writer(self._events_folder, purge_step=step + 1)

    def write(self, step: int, record: Mapping[str, Any]) -> None:
        """Append one record, `record` and its step; numbers go to TensorBoard too.

        Raises:
            DiskFullError: no space was left.
        """
        if not self._enabled:
            return
        with disk_full_named(self._path):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Unbuffered: each line is one write to the system, which survives the death of this process.
                self._file = self._path.open("ab", buffering=0)
            self._file.write(_line({"step": step, **record}))
            if self._tensorboard and self._events is None:
                self._events = _event_writer(self._events_folder, purge_step=None)
            if self._events is not None:
                for name, value in record.items():
                    if isinstance(value, int | float):
                        self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the files; a later write opens them again."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> Self:
        """The log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a metrics file in order; a last line that was cut short is left out."""
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        try:
            yield json.loads(line)
        except ValueError:
            logger.warning("%s: a line that is not JSON was left out", path)


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _event_writer(folder: Path, purge_step: int | None) -> Any:
    """TensorBoard's writer, imported only here because it is slow to import."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    return SummaryWriter(str(folder), purge_step=purge_step, max_queue=100)
