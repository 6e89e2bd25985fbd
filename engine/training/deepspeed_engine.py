"""The DeepSpeed engine: its configuration from our settings, and its start without side effects."""

import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camshaft.engine.data.batch import Batch
from camshaft.engine.models.recompute import recomputing
from camshaft.engine.objectives.objective import Figures, Moment, Objective
from camshaft.engine.runtime.precision import Arithmetic, autocast
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.training.settings import TrainingSettings
from camshaft.engine.training.user_config import merged, read_user_config


class ObjectiveModule(nn.Module):
    """The network together with what it minimises, so that DeepSpeed sees one module with one loss.

    The objective may then call the network as often as it needs to. It is no submodule: what it holds, such as a
    fixed guide, is neither trained nor saved.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        arithmetic: Arithmetic,
        device: torch.device,
        *,
        recomputes: bool = False,
    ) -> None:
        """Compute the objective of `network` in `arithmetic`; `recomputes`: blocks again in the backward pass."""
        super().__init__()
        self.network = network
        self._objective = objective
        self._arithmetic = arithmetic
        self._device = device
        self._recomputes = recomputes

    def forward(self, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """The loss or its terms, float32, and the figures."""
        with autocast(self._arithmetic, self._device), recomputing(enabled=self._recomputes):
            loss, figures = self._objective(self.network, batch, moment)
        return loss.float(), figures


def deepspeed_config(settings: TrainingSettings, world_size: int, base: Path = Path()) -> dict[str, Any]:
    """DeepSpeed's configuration for our settings, and what the user's own file adds; its path starts at `base`.

    Precision is not in it: parameters stay float32 under autocast, and fp16's loss scale is ours. DeepSpeed 0.19's own
    scaler for fp16 autocast is in no checkpoint, counts no skipped steps, and under ZeRO never backs off: the step
    returns on an overflow before the scaler learns of it.
    """
    config: dict[str, Any] = {
        "train_batch_size": settings.batch_size,
        "train_micro_batch_size_per_gpu": settings.micro_batch(world_size),
        "gradient_accumulation_steps": settings.accumulation,
        "zero_optimization": {"stage": settings.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
        "checkpoint": {"tag_validation": "Ignore"},
    }
    if settings.zero_stage > 0 and settings.gradient_clip is not None:
        config["gradient_clipping"] = settings.gradient_clip
    if settings.deepspeed is not None:
        file = base / settings.deepspeed.config
        config = merged(config, read_user_config(file), file)
    return config


def start_engine(
    module: ObjectiveModule,
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
    ranks: Ranks,
    base: Path = Path(),
) -> Any:
    """A DeepSpeed engine around `module`; joins the process group first.

    Raises:
        TrainingError: the user's own configuration can't be read, or conflicts with `settings`.
    """
    config = deepspeed_config(settings, ranks.world_size, base)
    deepspeed = import_deepspeed()
    ranks.join()
    _forget_closed_groups(deepspeed)
    # DeepSpeed opens groups of ranks, each of which waits for all of them until the time is up, even for one that was
    # killed while it imported DeepSpeed. Here its loss is seen at once.
    ranks.barrier()
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
    ranks.limit_waiting()
    # Nothing to average between one rank and itself; it would copy all gradients twice.
    engine.enable_backward_allreduce = ranks.world_size > 1 or settings.zero_stage > 0
    return engine


def _forget_closed_groups(deepspeed: Any) -> None:
    """Have DeepSpeed drop its groups where they were closed since: an earlier run of this process left them."""
    groups = deepspeed.utils.groups
    if groups._WORLD_GROUP is not None and groups._WORLD_GROUP not in torch.distributed.distributed_c10d._world.pg_map:
        groups._release_process_group_references()


@contextmanager
def without_torch_deprecations() -> Iterator[None]:
    """Silence what DeepSpeed's calls of torch warn of, here and in what it imports on demand: it is not ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|deepspeed)\.")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
        yield


def import_deepspeed() -> Any:
    """Import DeepSpeed quietly, and without a compiler.

    It would try for each of its C++ and CUDA operations whether it can be built (which prints a linker's complaints),
    and on a CPU compile one at start: a minute, and a compiler that may be missing, for an inference collective. None
    of these operations takes part in our training, so it is told that none can be built.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    quiet = not logging.getLogger("camshaft").isEnabledFor(logging.DEBUG)
    if quiet:
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed  # noqa: PLC0415 - takes a second, and reads the environment set above
    import deepspeed.ops  # noqa: PLC0415

    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    if quiet:
        deepspeed.utils.logger.setLevel(logging.ERROR)
    return deepspeed
