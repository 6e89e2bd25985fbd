"""The learning rate as a pure function of the step, so that a resumed run needs no state to go on."""

from camshaft.engine.training.settings import Constant, Poly, Schedule, WarmUp


def learning_rate(
    schedule: Schedule, warm_up: WarmUp | None, *, base: float, step: int, total_steps: int, steps_per_epoch: int
) -> float:
    """The learning rate of optimiser step `step`, counted from 0, before group multipliers.

    Args:
        schedule: how it changes; poly is OC-CSE Sec. 5.2, base · (1 − step / total_steps)^power.
        warm_up: a linear rise that multiplies the first steps' rates.
        base: the optimiser's learning rate.
        step: 0 … total_steps − 1.
        total_steps: of the whole training.
        steps_per_epoch: of one pass over the images.
    """
    rate = base * _factor(schedule, step, total_steps, steps_per_epoch)
    if warm_up is not None and step < warm_up.steps:
        rate *= warm_up.start + (1 - warm_up.start) * step / warm_up.steps
    return rate


def _factor(schedule: Schedule, step: int, total_steps: int, steps_per_epoch: int) -> float:
    if isinstance(schedule, Constant):
        return 1.0
    if isinstance(schedule, Poly):
        changed = step // schedule.every * schedule.every
        return float((1 - changed / total_steps) ** schedule.power)
    epoch = step // steps_per_epoch
    return float(schedule.gamma ** sum(epoch >= start for start in schedule.at))
