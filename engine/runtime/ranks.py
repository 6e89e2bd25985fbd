"""Who this process is among its peers. Ranks come from the environment only, as every launcher sets it."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """This process's place: `rank` of `world_size`, and `local_rank` on its machine."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """True on the one process that writes what is written once."""
        return self.rank == 0

    @staticmethod
    def from_environment() -> "Ranks":
        """Read RANK, LOCAL_RANK and WORLD_SIZE; one process without a launcher is rank 0 of 1."""
        return Ranks(
            rank=int(os.environ.get("RANK", "0")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            world_size=int(os.environ.get("WORLD_SIZE", "1")),
        )

    def barrier(self) -> None:
        """Wait for all ranks; nothing to do for one process."""
        if self.world_size > 1:
            import torch.distributed as dist  # noqa: PLC0415 - torch is slow to import and one process never needs it

            dist.barrier()
