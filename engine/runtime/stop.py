"""Stopping where the place can be saved: a signal sets a flag, and whoever works asks for it between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from camshaft.engine.errors import Stopped


class StopFlag:
    """Says whether the run was asked to stop, and by what."""

    def __init__(self) -> None:
        """A flag that is not set."""
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """What asked for the stop, such as "SIGTERM"; None while nothing did."""
        return self._reason

    def set(self, reason: str) -> None:
        """Ask for a stop; the first reason stays."""
        self._reason = self._reason or reason

    def raise_if_set(self) -> None:
        """Raise `Stopped` if a stop was asked for; call it where all that is done is saved."""
        if self._reason is not None:
            raise Stopped(f"stopped by {self._reason}; the same command goes on from here")


@contextmanager
def stopping_on_signals(flag: StopFlag) -> Iterator[StopFlag]:
    """Let SIGTERM and SIGINT set `flag`, once: a second signal ends the process as it would have without this.

    Outside the main thread, where Python forbids signal handlers, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: FrameType | None) -> None:
        flag.set(signal.Signals(number).name)
        restore()

    for number in signals:
        signal.signal(number, handle)
    try:
        yield flag
    finally:
        restore()
