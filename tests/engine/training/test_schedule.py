"""The learning rate of hand-worked steps, and what holds for every schedule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft.engine.training.schedule import learning_rate
from camshaft.engine.training.settings import Constant, Poly, StepSchedule, WarmUp


def rates(schedule, steps, warm_up=None, *, total=100, epoch=10, base=1.0):
    return [
        learning_rate(schedule, warm_up, base=base, step=step, total_steps=total, steps_per_epoch=epoch)
        for step in steps
    ]


def test_poly_is_the_papers_formula():
    assert rates(Poly(), [0, 50, 99], base=0.01) == pytest.approx([0.01, 0.01 * 0.5**0.9, 0.01 * 0.01**0.9])


def test_poly_stays_between_its_steps():
    assert rates(Poly(power=1.0, every=10), [0, 9, 10, 19, 99]) == pytest.approx([1, 1, 0.9, 0.9, 0.1])


def test_steps_fall_at_the_start_of_their_epochs():
    schedule = StepSchedule(kind="steps", at=(5, 7), gamma=0.1)
    assert rates(schedule, [0, 49, 50, 69, 70, 99]) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_multiplies_the_first_steps_only():
    assert rates(Constant(kind="constant"), [0, 1, 2, 3, 4, 5], WarmUp(steps=4, start=0.2)) == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1, 1]
    )


@given(
    schedule=st.one_of(
        st.builds(Poly, power=st.floats(0.1, 3), every=st.integers(1, 20)),
        st.builds(StepSchedule, kind=st.just("steps"), at=st.just((2, 3)), gamma=st.floats(0.01, 1)),
        st.just(Constant(kind="constant")),
    ),
    total=st.integers(1, 60),
    epoch=st.integers(1, 20),
)
def test_rates_are_positive_and_never_rise_without_warm_up(schedule, total, epoch):
    found = rates(schedule, range(total), total=total, epoch=epoch)
    assert all(rate > 0 for rate in found)
    assert sorted(found, reverse=True) == found
