"""The training loop, one for every network: read `_Training.run` from top to bottom."""

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camshaft.engine.data.batch import Batch, BatchSource
from camshaft.engine.errors import CamshaftError, Stopped, TrainingError
from camshaft.engine.models.parameters import ParameterGroup
from camshaft.engine.objectives.objective import Moment, Objective
from camshaft.engine.runtime.metrics import MetricsLog
from camshaft.engine.runtime.precision import Arithmetic
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.seeds import seed_torch
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.training.batch_norm import keep_statistics_apart, share_statistics
from camshaft.engine.training.checkpoints import CheckpointFolder
from camshaft.engine.training.deepspeed_engine import ObjectiveModule, start_engine, without_torch_deprecations
from camshaft.engine.training.exchange import Exchange, Exchanged
from camshaft.engine.training.gradients import LossScale, build_stepper
from camshaft.engine.training.optimizer import build_optimizer, set_learning_rate
from camshaft.engine.training.place import Place
from camshaft.engine.training.result import ShowProgress, TrainingResult
from camshaft.engine.training.schedule import learning_rate
from camshaft.engine.training.settings import TrainingSettings


def train(
    network: nn.Module,
    objective: Objective,
    source: BatchSource,
    groups: Sequence[ParameterGroup],
    settings: TrainingSettings,
    *,
    arithmetic: Arithmetic,
    device: torch.device,
    folder: Path,
    seed: tuple[int | str, ...],
    ranks: Ranks,
    metrics: MetricsLog,
    progress: ShowProgress,
    stop: StopFlag,
    base: Path = Path(),
) -> TrainingResult:
    """Train `network` in place, going on from the newest whole checkpoint in `folder`.

    A resumed training sees the same samples in the same order and draws the same random numbers as one that was never
    stopped; on the CPU, with as many threads, its weights are equal to the last bit.

    An epoch has at least one step: where the source's has fewer batches than a step accumulates, an epoch goes through
    the source as often as one step needs, in a new order each time.

    Args:
        network: what learns; on return it holds the final weights.
        objective: what it minimises.
        source: this rank's batches, each of `settings.micro_batch(ranks.world_size)` images.
        groups: the parameters that learn, with their multipliers.
        settings: length, batch, optimiser and schedule.
        arithmetic: what forward and backward passes compute in; parameters are float32 in each.
        device: what this rank computes on.
        folder: where checkpoints are kept while training, and nothing else; `remove_checkpoints` clears it.
        seed: parts of every seed that is drawn from.
        ranks: this process's place; all ranks call this together.
        metrics: takes a record every `log_every` steps.
        progress: shows how far it is.
        stop: asks for a stop after the present step.
        base: the folder from which relative paths in `settings` start.

    Raises:
        TrainingError: a loss or (in bf16 and fp32) a gradient is not finite, before the optimiser's step; or the source
            has no batch.
        DataError: an image or target could not be loaded, on some rank; raised on all.
        Stopped: `stop` was set on some rank; the place was saved.
        DiskFullError: a checkpoint or the metrics did not fit; the checkpoints before it are whole.
    """
    with without_torch_deprecations():
        training = _Training(
            network,
            objective,
            source,
            groups,
            settings,
            arithmetic=arithmetic,
            device=device,
            seed=seed,
            ranks=ranks,
            metrics=metrics,
            stop=stop,
            base=base,
        )
        try:
            return training.run(folder, progress)
        finally:
            metrics.close()
            training.close(network)


class _Training:
    """One training while it goes."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        source: BatchSource,
        groups: Sequence[ParameterGroup],
        settings: TrainingSettings,
        *,
        arithmetic: Arithmetic,
        device: torch.device,
        seed: tuple[int | str, ...],
        ranks: Ranks,
        metrics: MetricsLog,
        stop: StopFlag,
        base: Path,
    ) -> None:
        self.settings, self.source, self.objective = settings, source, objective
        self.arithmetic, self.device, self.seed = arithmetic, device, seed
        self.ranks, self.metrics, self.stop = ranks, metrics, stop
        if len(source) == 0:
            raise TrainingError("no batch to train on: the source of the images has none")
        self.steps_per_epoch = max(1, len(source) // settings.accumulation)
        self.passes_per_epoch = math.ceil(settings.accumulation / len(source))
        self.total_steps = settings.total_steps(self.steps_per_epoch)
        # DeepSpeed broadcasts contiguous parameters only.
        network.to(self.device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub
        objective.to(self.device)
        optimizer = build_optimizer(settings.optimizer, groups, self.device)
        if settings.compile is not None:
            network.compile(backend=settings.compile)
        if ranks.world_size > 1:
            share_statistics(network, self.device)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        recomputes = settings.checkpoint_activations
        module = ObjectiveModule(network, objective, self.arithmetic, self.device, recomputes=recomputes)
        self.engine = start_engine(module, optimizer, settings, ranks, base)
        if settings.zero_stage == 0:
            # Else the parameters are parts of ZeRO's flat buffers, which have no such format.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stepper = build_stepper(self.engine, settings, parameters)
        self.exchange = Exchange(self.device, ranks)
        self.identity = self._identity(network)
        self.failure: Exception | None = None
        self.resumed_at = 0
        self.seconds_before = self.waited = 0.0
        self.started = self.saved_at = time.monotonic()

    def _identity(self, network: nn.Module) -> dict[str, Any]:
        """What a checkpoint must agree in to go on with this training."""
        return {
            "settings": self.settings.identity(),
            "seed": list(self.seed),
            "precision": self.arithmetic,
            "steps_per_epoch": self.steps_per_epoch,
            "parameters": {name: list(value.shape) for name, value in network.state_dict().items()},
        }

    def run(self, folder: Path, progress: ShowProgress) -> TrainingResult:
        """Resume, then step after step to the end."""
        checkpoints = CheckpointFolder(folder, self.identity, self.ranks, self.settings.keep_checkpoints)
        place = checkpoints.load_newest(self.engine) or Place(loss_scale=self._first_loss_scale())
        self.resumed_at, self.seconds_before, self.started = place.step, place.seconds, time.monotonic()
        self.ranks.agree(lambda: self.metrics.rewind(place.step))
        self.engine.train()
        with progress(self.total_steps) as shown, closing(self._steps(place.step)) as steps:
            shown.start_at(place.step)
            while (now := self._next(steps)) is not None:
                set_learning_rate(self.engine.optimizer, now.rate)
                exchanged = self._forward_backward(now, place.loss_scale.value)
                norm = self.stepper.step(place.loss_scale.value)
                self._count(place, now, exchanged.figures, norm)
                shown.advance(1, self._note(place, exchanged.figures))
                self._save_or_stop(checkpoints, place, exchanged)
        self.ranks.agree(self.metrics.close)
        return self._result(place)

    def close(self, network: nn.Module) -> None:
        """Take DeepSpeed off the network again: its parameters own their memory, with no hooks on them."""
        self.engine.destroy()
        keep_statistics_apart(network)
        for parameter in network.parameters():
            parameter.grad = None
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)

    def _first_loss_scale(self) -> LossScale:
        return LossScale(self.settings.loss_scale if self.arithmetic == "fp16" else 1.0)

    def _next(self, steps: Iterator["_Step"]) -> "_Step | None":
        """The next step, or None after the last; all ranks call this together.

        Raises:
            Exception: what some rank met while it loaded the step's batches, or wrote metrics before.
        """
        now = None
        try:
            now = next(steps, None)
        except Exception as error:  # told to the other ranks, raised below
            self.failure = self.failure or error
        self.exchange.raise_alike(self.failure)
        return now

    def _steps(self, first: int) -> Generator["_Step", None, None]:
        """The steps from `first` on with their micro-batches, across epochs."""
        accumulation = self.settings.accumulation
        step = first
        while step < self.total_steps:
            epoch, within = divmod(step, self.steps_per_epoch)
            # A loader's threads end when its iterator is closed, also where a last part of an epoch is left out.
            with closing(self._batches(epoch, within * accumulation)) as batches:
                for _ in range(min(self.steps_per_epoch - within, self.total_steps - step)):
                    asked = time.monotonic()
                    taken = list(islice(batches, accumulation))
                    self.waited += time.monotonic() - asked
                    if len(taken) < accumulation:
                        raise TrainingError(f"epoch {epoch} ended early, at step {step}")
                    yield _Step(step, epoch, self._rate(step), taken)
                    step += 1

    def _batches(self, epoch: int, first: int) -> Generator[Batch, None, None]:
        """The batches of an epoch from `first` on; with several passes it is one step, so `first` is 0."""
        for number in range(epoch * self.passes_per_epoch, (epoch + 1) * self.passes_per_epoch):
            yield from self.source.epoch(number, first)

    def _rate(self, step: int) -> float:
        return learning_rate(
            self.settings.schedule,
            self.settings.warm_up,
            base=self.settings.optimizer.lr,
            step=step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )

    def _forward_backward(self, now: "_Step", scale: float) -> Exchanged:
        """Accumulate the step's gradients.

        Raises:
            TrainingError: a loss is not finite on some rank.
        """
        factors = self.exchange.factors([self.objective.weight(batch) for batch in now.batches])
        self.exchange.start()
        for position, (batch, factor) in enumerate(zip(now.batches, factors, strict=True)):
            index = tuple(batch.index.tolist())
            moment = Moment(now.step, now.epoch, (*self.seed, "step", now.step), index)
            # Dropout and the like: other numbers on each rank and micro-batch, the same ones after a resume.
            seed_torch(*moment.seed, "micro-batch", position, "rank", self.ranks.rank)
            loss, figures = self.engine(self._on_device(batch), moment)
            loss = loss if factor is None else (loss * factor).sum()
            self.exchange.add(loss, figures)
            last = position == len(now.batches) - 1
            if last:
                self.exchange.send(stop=self.stop.reason is not None, save=self._save_is_due())
            self.stepper.backward(loss, scale, last)
        exchanged = self.exchange.receive()
        if not all(math.isfinite(value) for value in exchanged.figures.values()):
            self._raise_loss_not_finite(now)
        return exchanged

    def _on_device(self, batch: Batch) -> Batch:
        moved = batch.to(self.device)
        return replace(moved, image=moved.image.to(memory_format=torch.channels_last))

    def _raise_loss_not_finite(self, now: "_Step") -> None:
        """Name the values of the first rank that has one that is not finite; on all ranks alike."""
        error = None
        for batch, figures in zip(now.batches, self.exchange.own(), strict=True):
            if not all(math.isfinite(value) for value in figures.values()):
                parts = ", ".join(f"{name} {value:g}" for name, value in figures.items())
                error = TrainingError(
                    f"{now}: not finite: {parts}; images {batch.index.tolist()} of rank {self.ranks.rank}"
                )
                break
        self.ranks.raise_alike(error)
        raise TrainingError(f"{now}: the sum of the losses over ranks is not finite")

    def _count(self, place: Place, now: "_Step", figures: Mapping[str, float], norm: float | None) -> None:
        """Note a step that was taken, or that an overflow skipped (`norm` is None).

        Raises:
            TrainingError: gradients are not finite, and no loss scale is to blame.
        """
        if norm is not None:
            place.loss_scale.held()
        elif self.arithmetic == "fp16":
            place.loss_scale.overflowed()
            place.skipped_steps += 1
        else:
            shown = ", ".join(f"{name} {value:g}" for name, value in figures.items())
            raise TrainingError(f"{now}: gradients are not finite, though the loss is ({shown})")
        place.step = now.step + 1
        place.seconds = self.seconds_before + time.monotonic() - self.started
        place.interval.add(figures)
        place.epoch.add(figures)
        if place.step % self.settings.log_every == 0 or place.step == self.total_steps:
            self._log(place, now, norm)
        if place.step % self.steps_per_epoch == 0:
            place.last_epoch = place.epoch.take()

    def _log(self, place: Place, now: "_Step", norm: float | None) -> None:
        record: dict[str, float] = {"epoch": now.epoch, **place.interval.take(), "learning_rate": now.rate}
        if norm is not None:
            record["gradient_norm"] = norm
        if self.arithmetic == "fp16":
            record |= {"loss_scale": place.loss_scale.value, "skipped_steps": place.skipped_steps}
        spent = time.monotonic() - self.started
        record |= {"images_per_second": self._speed(place), "waiting_for_data": self.waited / max(spent, 1e-9)}
        try:
            self.metrics.write(place.step, record)
        except (OSError, CamshaftError) as error:  # met on the first rank alone: raised when ranks meet next
            self.failure = error

    def _speed(self, place: Place) -> float:
        """Images a second over all ranks, in this run."""
        images = (place.step - self.resumed_at) * self.settings.batch_size
        return images / max(place.seconds - self.seconds_before, 1e-9)

    def _note(self, place: Place, figures: Mapping[str, float]) -> str:
        return f"loss {figures['loss']:.4f}, {self._speed(place):.1f} images/s"

    def _save_is_due(self) -> bool:
        """Whether this rank's clock says so; the first rank's counts for all."""
        seconds = self.settings.checkpoint_every.seconds
        return self.ranks.is_first and seconds is not None and time.monotonic() - self.saved_at >= seconds

    def _save_or_stop(self, checkpoints: CheckpointFolder, place: Place, exchanged: Exchanged) -> None:
        """Save the place where it is time to; all ranks decide alike, from what they exchanged.

        Raises:
            Stopped: some rank was asked to stop.
        """
        every = self.settings.checkpoint_every.steps
        due = exchanged.save or (every is not None and place.step % every == 0)
        if exchanged.stop or (due and place.step < self.total_steps):
            # Resumed from here, metrics that failed to be written would be missing for good.
            self.exchange.raise_alike(self.failure)
            checkpoints.save(self.engine, place)
            self.saved_at = time.monotonic()
        if exchanged.stop:
            reason = self.stop.reason or "another rank"
            raise Stopped(
                f"stopped by {reason} after step {place.step} of {self.total_steps}, which is saved; the same command "
                "goes on from there"
            )

    def _result(self, place: Place) -> TrainingResult:
        return TrainingResult(
            steps=place.step,
            skipped_steps=place.skipped_steps,
            resumed_at=self.resumed_at,
            figures=place.last_epoch or place.epoch.means(),
            seconds=place.seconds,
            images_per_second=place.step * self.settings.batch_size / max(place.seconds, 1e-9),
        )


@dataclass(frozen=True)
class _Step:
    """One optimiser step."""

    step: int
    epoch: int
    rate: float
    batches: list[Batch]

    def __str__(self) -> str:
        return f"step {self.step}, epoch {self.epoch}, learning rate {self.rate:g}"
