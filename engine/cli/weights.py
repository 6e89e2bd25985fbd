"""`camshaft weights convert`: pretrained weights of other programs, checked and written as safetensors."""

from collections.abc import Sequence
from pathlib import Path

from camshaft.engine.models.conversion import convert_weights
from camshaft.engine.runtime.console import Console

SHOWN = 6
"""Names in a line; the rest are counted."""


def convert_command(source: Path, target: Path, backbone: str) -> int:
    """Write `source`'s weights to `target` under the backbone's names, and say what became of all tensors."""
    done = convert_weights(source, target, backbone)
    console = Console()
    console.line(f"{target}: {done.tensors} tensors of {backbone}, {done.values:,} values")
    if done.left_out:
        console.line(f"left out: {_listed(done.left_out)}")
    if done.stay_random:
        console.line(f"not in {source.name}, so they start at random: {_listed(done.stay_random)}")
    return 0


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
