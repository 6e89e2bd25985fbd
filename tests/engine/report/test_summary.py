import io

import pytest
from rich.console import Console

from camshaft.engine.errors import StoreError
from camshaft.engine.report import summary_table


def printed(run):
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(summary_table(run))
    return console.file.getvalue()


def test_the_table(whole_run):
    text = printed(whole_run)
    (line,) = [line for line in text.splitlines() if "maps_ordinary" in line]
    assert line.replace("│", " ").split() == [
        "maps_ordinary",
        "val",
        "44.3",
        "0.3",
        "45.0",
        "at",
        "0.24",
        "100.0",
        "%",
        "10",
    ]
    assert "found on ground truth" in text


def test_without_sweeps_nothing_is_said_of_them(builder):
    builder.masks("labels", "labels", 0.5)
    builder.evaluate()
    text = printed(builder.finish())
    assert "ground truth" not in text
    assert "sweep" not in text
    assert "threshold" not in text
    assert "labelled" not in text


def test_names_are_no_markup(builder):
    builder.name = "[red]run[/red]"
    builder.evaluated("a", "[bold]a[/bold]", "masks", None)
    builder.evaluate()
    text = printed(builder.finish())
    assert "[bold]a[/bold]" in text
    assert "[red]run[/red]" in text


def test_a_run_without_evaluation(builder):
    assert "mIoU" in printed(builder.finish())


def test_no_run(tmp_path):
    with pytest.raises(StoreError, match=r"run\.json"):
        summary_table(tmp_path)
