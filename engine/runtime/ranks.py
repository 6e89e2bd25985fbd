"""Who this process is among its peers. Ranks come from the environment only, as every launcher sets it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.errors import CamshaftError, RankLostError
from camshaft.engine.runtime.limit import within

Value = TypeVar("Value")

_meetings: Any = None
"""The process group in which ranks meet: see `Ranks.join`."""
_time_limit = timedelta(minutes=30)
"""Of waiting in any process group."""


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
        return Ranks(rank=_number("RANK", 0), local_rank=_number("LOCAL_RANK", 0), world_size=_number("WORLD_SIZE", 1))

    @property
    def local_world_size(self) -> int:
        """Ranks on this machine: torchrun calls it LOCAL_WORLD_SIZE, deepspeed's launcher LOCAL_SIZE."""
        return _number("LOCAL_WORLD_SIZE", _number("LOCAL_SIZE", 1))

    def join(self, timeout: timedelta = timedelta(minutes=30)) -> None:
        """Meet the other ranks in torch's process group; nothing to do where it stands already.

        Several ranks meet at MASTER_ADDR:MASTER_PORT, which every launcher sets. One process needs neither a port
        nor a launcher.

        Beside the group for tensors, whose backend is NCCL on GPUs, several ranks make one of gloo, in which they wait
        for each other and exchange what is no tensor. NCCL's time limit ends a process without a word; gloo's is an
        error, which is answered by saying who is missing (`camshaft.engine.runtime.parting`).

        Args:
            timeout: after so long in one collective a rank that does not answer is an error.
        """
        import torch.distributed as dist  # noqa: PLC0415 - slow to import; who only asks for the rank needs none of it

        global _meetings, _time_limit  # noqa: PLW0603 - one for a process, as torch's own groups are
        os.environ.setdefault("LOCAL_RANK", str(self.local_rank))
        if not dist.is_initialized():
            _meetings = None
            self._open(timeout)
        if _meetings is None and self.world_size > 1:
            _time_limit = timeout
            _meetings = dist.new_group(backend="gloo", timeout=timeout)

    def limit_waiting(self) -> None:
        """Give every process group the time limit of `join`: libraries open groups of their own, with torch's limit."""
        import torch.distributed as dist  # noqa: PLC0415

        for group in list(dist.distributed_c10d._world.pg_map):
            dist.distributed_c10d._set_pg_timeout(_time_limit, group)

    def _open(self, timeout: timedelta) -> None:
        """Open torch's process group."""
        import torch  # noqa: PLC0415
        import torch.distributed as dist  # noqa: PLC0415

        if torch.cuda.is_available():
            torch.cuda.set_device(self.local_rank)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if self.world_size == 1:
            store = dist.HashStore()  # type: ignore[attr-defined]  # public, but not in torch's __all__
            dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
        else:
            dist.init_process_group(backend, rank=self.rank, world_size=self.world_size, timeout=timeout)

    def leave(self) -> None:
        """Close the process groups that `join` opened, so that the process ends without a warning."""
        import torch.distributed as dist  # noqa: PLC0415

        global _meetings  # noqa: PLW0603
        _meetings = None
        if dist.is_initialized():
            dist.destroy_process_group()

    def abort(self) -> None:
        """Close the process groups at once: other ranks that wait in a collective fail there instead of waiting on."""
        import torch.distributed as dist  # noqa: PLC0415

        if dist.is_initialized():
            with suppress(Exception):  # it is lost already
                dist.distributed_c10d._abort_process_group()
            self.leave()

    def store(self) -> Any:
        """The key-value store of the process group, which its first rank (or the launcher) keeps for all."""
        import torch.distributed as dist  # noqa: PLC0415

        self.join()
        # Not public, but the only way to the store of a group that someone else may have opened.
        return dist.distributed_c10d._get_default_store()

    def barrier(self) -> None:
        """Wait for all ranks; nothing to do for one process."""
        if self.world_size > 1:
            import torch.distributed as dist  # noqa: PLC0415 - torch is slow to import and one process never needs it

            self.join()
            dist.barrier(_meetings)

    def agree(self, decide: Callable[[], Value]) -> Value:
        """What `decide` returns on the first rank, on every rank; it runs on the first rank alone.

        An error that it raises is raised on all ranks, so that none waits for another in vain.
        """
        if self.world_size == 1:
            return decide()
        import torch.distributed as dist  # noqa: PLC0415

        self.join()
        answer: list[tuple[Value | None, Exception | None]] = [(None, None)]
        if self.is_first:
            try:
                answer = [(decide(), None)]
            except Exception as error:  # handed to the other ranks, raised below
                answer = [(None, error)]
        dist.broadcast_object_list(answer, src=0, group=_meetings)
        value, raised = answer[0]
        if raised is not None:
            raise raised
        return value  # type: ignore[return-value]  # None only where `decide` returns None

    def raise_alike(self, error: CamshaftError | None) -> None:
        """Raise on every rank the error of the lowest rank that has one; nothing where none has."""
        if self.world_size == 1:
            if error is not None:
                raise error
            return
        import torch.distributed as dist  # noqa: PLC0415

        self.join()
        errors: list[CamshaftError | None] = [None] * self.world_size
        dist.all_gather_object(errors, error, group=_meetings)
        for raised in errors:
            if raised is not None:
                raise raised

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Work that ranks do side by side: if it ends in a `CamshaftError` on one, that is raised on all.

        Every rank must come to its end, so what is within must not wait for other ranks.
        """
        error: CamshaftError | None = None
        try:
            yield
        except CamshaftError as caught:
            error = caught
        self.raise_alike(error)

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, in the ranks' order, on every rank."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist  # noqa: PLC0415

        self.join()
        values: list[Value] = [value] * self.world_size
        dist.all_gather_object(values, value, group=_meetings)
        return values

    def add(self, key: str, amount: int) -> int:
        """Add to a counter that all ranks share, and its new value; no two ranks are given the same.

        Args:
            key: the counter's name; it starts at 0.
            amount: what is added.

        Raises:
            RankLostError: the process that keeps the store, which is the first rank or the launcher, does not answer.
        """
        store = self.store()
        try:
            return within(_time_limit.total_seconds(), lambda: int(store.add(f"camshaft/{key}", amount)))
        except TimeoutError as error:
            raise RankLostError(f"rank 0 does not answer: the store that it keeps {error}") from None

    def sum(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """The elementwise sum over all ranks, the same on each.

        Args:
            values: int64, of one shape on all ranks.
        """
        if self.world_size == 1:
            return values
        import torch  # noqa: PLC0415
        import torch.distributed as dist  # noqa: PLC0415

        self.join()
        total = torch.from_numpy(values.copy())
        dist.all_reduce(total, group=_meetings)
        return total.numpy()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise CamshaftError(f"environment variable {name}: {text!r} is not a number; launchers set it")
    return int(text)
