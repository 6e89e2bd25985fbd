import csv
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_harness", ROOT / "benchmarks" / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def naps(harness: ModuleType, wrong: bool = False, rounds: int = 4) -> Any:
    """Two ways to the same answer, of which the peer takes four times as long."""

    def slow() -> int:
        time.sleep(0.04)
        return 7

    def fast() -> int:
        time.sleep(0.01)
        return 8 if wrong else 7

    def check(results: Mapping[str, int]) -> str:
        if len(set(results.values())) > 1:
            raise harness.RedError(f"answers differ: {dict(results)}")
        return "equal"

    contenders = {"slow": slow, "fast": fast}
    return harness.Case("nap", "short", contenders, "slow", check, {"fast": "1 kB"}, rounds)


def test_quantiles_ratio_and_turns(harness: ModuleType) -> None:
    slow, fast = harness.measure(naps(harness))
    assert (slow.contender, fast.contender) == ("slow", "fast")
    assert slow.runs == 4
    assert fast.runs >= 8  # a quick one is repeated within its turn
    assert 40 <= slow.best_ms <= slow.q20_ms <= slow.median_ms <= slow.q80_ms
    assert slow.ratio == slow.ratio_best == 1
    assert fast.ratio_best == pytest.approx(slow.best_ms / fast.best_ms)
    assert 2 < fast.ratio_best <= 4.5


def test_contenders_take_turns_in_rotating_order(harness: ModuleType) -> None:
    calls: list[str] = []

    def contender(name: str) -> Any:
        def call() -> None:
            calls.append(name)
            time.sleep(0.021)

        return call

    case = harness.Case("o", "c", {n: contender(n) for n in "abc"}, "a", lambda _: "equal", rounds=3)
    harness.measure(case)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


def test_green_cases_are_written_with_machine_and_versions(
    harness: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "figures.csv", tmp_path / "table.md"
    for _ in range(2):
        assert harness.main("naps", {"nap": lambda: naps(harness)}, ["--csv", str(out), "--markdown", str(table)]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["contender"] for row in rows] == ["slow", "fast"] * 2
    assert all(row["cpu"] and row["numpy"] and row["time"] for row in rows)
    assert float(rows[1]["ratio"]) > 1
    text = table.read_text()
    assert text in capsys.readouterr().out
    assert "| nap | short | fast |" in text
    assert "nap, short: equal" in text


def test_contenders_of_several_cases_get_a_geometric_mean(harness: ModuleType) -> None:
    times = {"a": {"slow": [8.0, 4.0], "fast": [2.0, 1.0], "other": [1.0]}, "b": {"slow": [9.0], "fast": [1.0]}}
    rows = [row for case, of in times.items() for row in harness.compared("o", case, of, "slow", "equal", {})]
    assert harness.geometric_means(rows) == ["o, fast v. slow, geometric mean of 2 cases: 6×, best/best 6×"]
    assert "- o, fast v. slow, geometric mean" in harness.markdown(rows, {})


def test_rows_as_json_with_rates(harness: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = harness.command_line("naps", ["nap"]).parse_args(["--json", str(out)])
    seconds = {"slow": [4.0, 2.0, 6.0], "fast": [1.0, 1.0]}
    rows = harness.compared("o", "c", seconds, "slow", "equal", {"fast": "1 kB"})
    assert harness.report({"nap": lambda: harness.with_rates(rows, 8)}, options) == 0
    found = json.loads(out.read_text())
    assert found["machine"]["cpu"]
    slow, fast = found["rows"]
    assert (slow["median_ms"], slow["best_ms"], fast["ratio"], fast["ratio_best"]) == (4000, 2000, 4, 2)
    assert (slow["note"], fast["note"]) == ("2 images/s (best 4)", "8 images/s (best 8); 1 kB")


def test_a_red_check_reports_no_figure(harness: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.csv"
    cases = {"good": lambda: naps(harness, rounds=1), "bad": lambda: naps(harness, wrong=True)}
    assert harness.main("naps", cases, ["--csv", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "RED bad: answers differ" in printed.err
    assert not out.exists()


def test_unknown_case_and_unknown_peer_are_errors(harness: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        harness.main("naps", {"nap": lambda: naps(harness)}, ["nip"])
    assert "no case nip; there are nap" in capsys.readouterr().err
    case = harness.Case("o", "c", {"a": lambda: 1}, "b", lambda _: "equal")
    with pytest.raises(ValueError, match="the peer 'b' is not among"):
        harness.measure(case)
