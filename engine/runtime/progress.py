"""Progress of a long piece of work: a live bar on a terminal, a plain line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

LINE_SECONDS = 30.0
"""Seconds between plain lines."""


class Progress:
    """Shows how far a piece of work is: title, done of total, a note (loss, images a second) and the time left."""

    def __init__(
        self,
        console: RichConsole,
        title: str,
        total: int,
        *,
        unit: str = "steps",
        done: int = 0,
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        """Prepare to show; `done` of `total` units were done before, by a run that this one goes on with."""
        self._console = console
        self._title, self._unit = title, unit
        self._total, self._done, self._done_before = total, done, done
        self._note = ""
        self._line_seconds = line_seconds
        self._bar: RichProgress | None = None
        self._task = 0
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        """Start to show."""
        self._started = self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}  {task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(
                self._title, total=self._total, completed=self._done, unit=self._unit, note=""
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()
        elif self._done > self._done_before:
            self._print()

    def start_at(self, done: int) -> None:
        """So many units were done before, by a run that this one goes on with: they say nothing about the time left."""
        self._done = self._done_before = done
        if self._bar is not None:
            self._bar.reset(self._task, completed=done)  # type: ignore[arg-type]

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """`count` more units are done; `note` is shown beside them until the next one."""
        self._done += count
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=self._note)  # type: ignore[arg-type]
        elif time.monotonic() - self._last_line >= self._line_seconds:
            self._print()

    def _print(self) -> None:
        self._last_line = time.monotonic()
        seconds = self._last_line - self._started
        parts = [
            f"{self._title}: {self._done} of {self._total} {self._unit}",
            self._note,
            f"{duration(seconds)} so far",
        ]
        now_done = self._done - self._done_before
        if now_done and self._done < self._total:
            parts.append(f"{duration(seconds / now_done * (self._total - self._done))} left")
        self._console.print(", ".join(part for part in parts if part), highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A duration as people say it: "8 s", "3 min 5 s" or "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
