"""Caches that another version of the kernels has left."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from camshaft.kernels import compiled

HOME = """
from typing import NamedTuple
class Pair(NamedTuple):
    a: int
    b: int
"""
CALLED = """
from compiled import compiled
@compiled()
def combine(pair):
    return pair.a {} pair.b
"""
CALLING = """
from compiled import compiled
from called import combine
from {} import Pair
@compiled()
def twice(pair):
    return 2 * combine(pair)
"""
RUN = "import calling; print(calling.twice(calling.Pair(3, 4)), sum(calling.twice.stats.cache_hits.values()))"


def write(folder: Path, home: str, sign: str) -> None:
    """A small package of kernels beside a copy of compiled.py; the NamedTuple stands in the module `home`."""
    for path in folder.glob("*.py"):
        path.unlink()
    shutil.copy(str(compiled.__file__), folder / "compiled.py")
    (folder / f"{home}.py").write_text(HOME)
    (folder / "called.py").write_text(CALLED.format(sign))
    (folder / "calling.py").write_text(CALLING.format(home))


def run(folder: Path) -> list[int]:
    """Result and cache hits of a new process."""
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_a_cache_outlives_neither_a_type_that_moves_nor_an_edit_to_what_is_called(tmp_path: Path) -> None:
    write(tmp_path, "here", "+")
    assert run(tmp_path) == [14, 0]
    assert run(tmp_path) == [14, 1]
    write(tmp_path, "elsewhere", "+")  # the cache's index still names the module `here`
    assert run(tmp_path) == [14, 0]
    calling = (tmp_path / "calling.py").stat()
    (tmp_path / "called.py").write_text(CALLED.format("*"))
    assert (tmp_path / "calling.py").stat() == calling
    assert run(tmp_path) == [24, 0]
