"""The script that tries faults: three of them, and what the documentation says of the others."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| (.*?) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
QUICK = ["SIGTERM_to_all:ordinary", "checkpoint_with_a_flipped_byte:ordinary", "one_rank_killed:ordinary"]


def run(*arguments: str | Path) -> str:
    command = [sys.executable, str(ROOT / "tests/faults.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.two_ranks
@pytest.mark.slow
def test_three_faults_are_survived(tmp_path: Path) -> None:
    assert run(*QUICK, "--folder", tmp_path / "trials").splitlines()[-1] == "| all | | 3 | 3 |"


def test_the_page_has_every_fault_and_its_commands_work() -> None:
    shown = re.findall(r"^ {4}python tests/faults\.py(.*?)(?:\s{2,}#.*)?$", PAGE, re.MULTILINE)
    assert len(shown) == 2
    listed = [run(*shlex.split(text), "--list").splitlines() for text in shown]
    tried = [f"{kind}:{stage}".replace(" ", "_") for kind, stages, *_ in ROWS if stages for stage in stages.split(", ")]
    assert sorted(listed[0]) == sorted(tried)
    assert set(listed[1]) < set(listed[0])
