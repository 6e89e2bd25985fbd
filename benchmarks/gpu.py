"""All GPU rows of suppress, normalize, erase and crf into one folder: `python benchmarks/gpu.py FOLDER` (8 minutes)."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import crf, erase, normalize, suppress
from benchmarks.graphs import NO_GPU
from benchmarks.harness import main

CASES = {
    **{f"suppress {name}": case for name, case in suppress.GPU_CASES.items()},
    **{f"normalize {name}": case for name, case in normalize.CASES.items()},
    **{f"erase {name}": case for name, case in erase.CASES.items()},
    **{f"crf {name}": case for name, case in crf.GPU_CASES.items()},
}


def measure_all(folder: Path) -> int:
    """Measure case by case, so that a red one costs no other its figures; the number of red cases."""
    folder.mkdir(parents=True, exist_ok=True)
    red = 0
    for name in CASES:
        table = folder / f"{name.replace(' ', '_')}.md"
        red += main(__doc__ or "", CASES, [name, "--csv", str(folder / "gpu.csv"), "--markdown", str(table)])
        torch.compiler.reset()
        torch.cuda.empty_cache()
    return red


if __name__ == "__main__":
    if not torch.cuda.is_available():
        print(NO_GPU)
        sys.exit(0)
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/gpu.py FOLDER")
    sys.exit(min(measure_all(Path(sys.argv[1])), 1))
