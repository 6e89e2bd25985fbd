"""Which of many inputs can be computed together."""

from collections import defaultdict
from collections.abc import Hashable, Sequence


def batches_alike(keys: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Positions of inputs, grouped so that each group has one key, such as a size, and at most `batch_size` inputs."""
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        by_key[key].append(position)
    return [
        group[start : start + batch_size] for group in by_key.values() for start in range(0, len(group), batch_size)
    ]
