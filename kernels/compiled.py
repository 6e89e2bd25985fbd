"""Numba as the kernels use it: compiled once and kept on disk, without the interpreter's lock, and typed for mypy."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

FAST = {"contract", "nnan", "ninf", "nsz"}
"""LLVM's flags for quick arithmetic. Sums keep the order in which they are written ("reassoc" is not among these): a
process that finds a function in Numba's cache runs the copy inside its caller, one that has compiled it runs the copy
that came first, and what LLVM makes of a sum depends on what stands around it. Results would differ in their last
bits between the first run and all later ones."""

F = TypeVar("F", bound=Callable[..., object])


def _digest(folder: Path) -> str:
    """SHA-256 of the names and bytes of all sources in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


SOURCES = _digest(Path(__file__).parent)


def compiled(*, fastmath: bool = False) -> Callable[[F], F]:
    """Compile the decorated function at its first call, and find it in Numba's cache afterwards.

    What another version of the kernels left in the cache is not looked at. Numba itself compares a function's own file
    alone, and only after it has unpickled the cache's index, which fails where a type has moved to another module.

    Args:
        fastmath: let LLVM fuse a product and a sum, and assume finite values.
    """
    flags = FAST if fastmath else False
    decorate: Callable[[F], F] = njit(cache=True, nogil=True, fastmath=flags, error_model="numpy")

    def compile_and_keep(function: F) -> F:
        dispatcher: Any = decorate(function)
        # the one thing that Numba reads before the index itself: its own version
        index = dispatcher._cache._cache_file
        index._version = f"{index._version} {SOURCES}"
        kept: F = dispatcher
        return kept

    return compile_and_keep
