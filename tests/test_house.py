"""The house: imports go down only, kernels know nothing of the engine, and nothing is imported by the wrong name."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("cli",),
    ("report",),
    ("pipeline",),
    ("stages",),
    ("training",),
    ("objectives",),
    ("models",),
    ("data",),
    ("stores",),
    ("recipe", "runtime", "errors"),
)
"""Rooms from the roof to the ground; those on one floor may use each other."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "engine").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted((ROOT / "engine").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    here = FLOOR[room_of(path)]
    for name in imported(path):
        parts = name.split(".")
        if parts[:2] == ["camshaft", "engine"]:
            assert FLOOR[parts[2]] >= here, f"{path.relative_to(ROOT)} imports {name}, which is above it"


def test_kernels_know_nothing_of_the_engine() -> None:
    for path in (ROOT / "kernels").rglob("*.py"):
        assert not [name for name in imported(path) if name.startswith("camshaft.engine")], path


def test_private_names_stay_in_their_rooms() -> None:
    for path in [*(ROOT / "engine").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]:
        for name in imported(path):
            if name.startswith("camshaft.") and name.rpartition(".")[2].startswith("_"):
                assert name.rpartition(".")[2].startswith("__"), f"{path} imports {name}"


def test_top_level_folders_are_no_packages() -> None:
    for folder in ("engine", "kernels", "recipes"):
        assert not (ROOT / folder / "__init__.py").exists()
    program = "import sys, camshaft.engine.pipeline.run; print({'engine', 'kernels'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
