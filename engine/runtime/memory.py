"""Peak memory of a piece of work: of the process and all its children, and of the CUDA device."""

import threading
from types import TracebackType
from typing import Self

import psutil
import torch

POLL_SECONDS = 0.5


class PeakMemory:
    """Watches memory while its `with` block runs.

    The operating system keeps a process's own peak, but not that of a tree whose members come and go; so a thread
    adds up the resident sets (shared pages count once a process) every half second.
    """

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.bytes = 0
        """Largest resident set of the process tree seen, in bytes."""
        self.device_bytes: int | None = None
        """Largest memory that torch held on the CUDA device, in bytes; None without one. Known after the block."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        """Start to watch."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.bytes = tree_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching, and take a last look."""
        self._done.set()
        self._thread.join()
        self.bytes = max(self.bytes, tree_bytes())
        if torch.cuda.is_available():
            self.device_bytes = torch.cuda.max_memory_reserved()

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.bytes = max(self.bytes, tree_bytes())


def tree_bytes() -> int:
    """Resident set of this process and all its descendants now, in bytes."""
    this = psutil.Process()
    total = 0
    for process in [this, *this.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
