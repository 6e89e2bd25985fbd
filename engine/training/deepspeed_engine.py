"""The DeepSpeed engine: its configuration from our settings, its start without side effects, and what it saves."""

import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives.objective import Figures, Moment, Objective
from camshaft.engine.runtime.precision import Arithmetic, autocast
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.training.settings import TrainingSettings

STATE = "state"
"""Folder of DeepSpeed's own files in a checkpoint."""


class ObjectiveModule(nn.Module):
    """The network together with what it minimises, so that DeepSpeed sees one module with one loss.

    The objective may then call the network as often as it needs to. It is no submodule: what it holds, such as a
    fixed guide, is neither trained nor saved.
    """

    def __init__(self, network: nn.Module, objective: Objective, arithmetic: Arithmetic, device: torch.device) -> None:
        """Compute the objective of `network` in `arithmetic`."""
        super().__init__()
        self.network = network
        self._objective = objective
        self._arithmetic = arithmetic
        self._device = device

    def forward(self, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """The loss or its terms, float32, and the figures."""
        with autocast(self._arithmetic, self._device):
            loss, figures = self._objective(self.network, batch, moment)
        return loss.float(), figures


def deepspeed_config(settings: TrainingSettings, world_size: int) -> dict[str, Any]:
    """DeepSpeed's configuration for our settings.

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
    return config


def start_engine(
    module: ObjectiveModule, optimizer: torch.optim.Optimizer, settings: TrainingSettings, ranks: Ranks
) -> Any:
    """A DeepSpeed engine around `module`; joins the process group first."""
    deepspeed = import_deepspeed()
    ranks.join()
    engine, *_ = deepspeed.initialize(
        model=module, optimizer=optimizer, config=deepspeed_config(settings, ranks.world_size)
    )
    # Nothing to average between one rank and itself; it would copy all gradients twice.
    engine.enable_backward_allreduce = ranks.world_size > 1 or settings.zero_stage > 0
    engine.checkpoint_engine = safe_checkpoint_engine()
    # DeepSpeed's two scripts for other programs are no part of a checkpoint.
    engine._copy_recovery_script = lambda _path: None
    return engine


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


def safe_checkpoint_engine() -> Any:
    """A writer and reader of DeepSpeed's checkpoint files that neither unpickles code nor lets one rank fail alone.

    A full disk on one rank must not leave the others waiting in DeepSpeed's barriers: `failure` keeps the error, and
    whoever saves asks for it when all ranks are back.
    """
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine  # noqa: PLC0415
    from deepspeed.runtime.fp16.loss_scaler import LossScaler  # noqa: PLC0415
    from deepspeed.runtime.zero.config import ZeroStageEnum  # noqa: PLC0415
    from deepspeed.utils.tensor_fragment import fragment_address  # noqa: PLC0415

    class SafeCheckpointEngine(TorchCheckpointEngine):  # type: ignore[misc]  # deepspeed has no types
        failure: OSError | None = None

        def save(self, state_dict: Mapping[str, Any], path: str) -> None:
            try:
                save_tensors(state_dict, Path(path))
            except OSError as error:
                self.failure = error

        def makedirs(self, path: str, exist_ok: bool = False) -> None:
            try:
                Path(path).mkdir(parents=True, exist_ok=exist_ok)
            except OSError as error:
                self.failure = error

        def load(self, path: str, map_location: Any = None) -> Any:
            # The three plain classes are all that DeepSpeed's own state holds besides tensors and containers.
            with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
                return torch.load(path, map_location=map_location, weights_only=True)

    return SafeCheckpointEngine()


class _Recorder:
    """A file whose first failed write is kept: torch's writer turns it into an error without the reason."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        self._file.flush()


def save_tensors(values: Any, path: Path) -> None:
    """`torch.save` to `path`, flushed to the disk.

    Raises:
        OSError: the write failed, with the system's own reason.
    """
    with path.open("wb", buffering=0) as file:
        recorder = _Recorder(file)
        try:
            torch.save(values, recorder)  # type: ignore[arg-type]  # it needs no more of a file than these methods
        except (OSError, RuntimeError):
            if recorder.failure is not None:
                with suppress(OSError):
                    file.truncate(0)
                raise recorder.failure from None
            raise
        os.fsync(file.fileno())
