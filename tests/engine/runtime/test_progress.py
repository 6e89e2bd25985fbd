"""Progress as a person sees it, on a terminal and in a log file."""

import io
import time

import pytest
from rich.console import Console

from camshaft.engine.runtime.progress import Progress, duration


def show(terminal, steps=1000, done=0, line_seconds=1000.0):
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=160)
    with Progress(console, "cgnet", steps, done=done, line_seconds=line_seconds) as progress:
        for step in range(done, steps):
            progress.advance(1, note=f"loss {step}, 8.0 images/s")
    return written.getvalue()


def test_a_log_file_gets_few_lines():
    said = show(terminal=False)
    assert said.splitlines() == ["cgnet: 1000 of 1000 steps, loss 999, 8.0 images/s, 0 s so far"]


def test_lines_come_after_their_seconds_with_the_time_left():
    said = show(terminal=False, steps=3, line_seconds=0.0).splitlines()
    assert said[0].startswith("cgnet: 1 of 3 steps, loss 0, 8.0 images/s, 0 s so far, ")
    assert said[0].endswith(" left")
    assert said[-1].startswith("cgnet: 3 of 3 steps")


def test_a_terminal_shows_a_bar_with_the_last_note():
    said = show(terminal=True)
    assert "cgnet" in said
    assert "1000/1000" in said
    assert "loss 999, 8.0 images/s" in said


def test_a_resumed_piece_of_work_starts_where_it_was():
    assert "1000 of 1000" in show(terminal=False, done=990)
    assert show(terminal=False, done=1000) == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_work_of_an_earlier_run_is_done_but_says_nothing_about_the_time_left(terminal):
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=160)
    with Progress(console, "cgnet", 100, line_seconds=0.0) as progress:
        progress.start_at(98)
        time.sleep(0.6)
        progress.advance()
        progress.advance()
    said = written.getvalue()
    assert "100/100" in said if terminal else "99 of 100 steps, 1 s so far, 1 s left" in said


def test_markup_in_a_title_is_printed_as_it_is():
    written = io.StringIO()
    with Progress(Console(file=written), "[red]x[/red]", 1) as progress:
        progress.advance()
    assert written.getvalue().startswith("[red]x[/red]: 1 of 1 steps")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_duration(seconds, said):
    assert duration(seconds) == said
