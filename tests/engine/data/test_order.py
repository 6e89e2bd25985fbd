from collections.abc import Iterable
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camshaft.engine.data.order import Order
from camshaft.engine.errors import TrainingError


def joined(lists: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def whole(order: Order, epoch: int) -> list[list[int]]:
    of_epoch = order.epoch(epoch)
    return [[sample.index for sample in of_epoch.batch(number)] for number in range(len(order))]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 3), st.sampled_from([1, 2, 4]), st.integers(0, 5))
def test_global_batches_are_the_same_on_any_number_of_ranks(n: int, part: int, ranks: int, epoch: int) -> None:
    together = 4 * part
    indices = tuple(range(100, 100 + n))
    alone = whole(Order(indices, together, seed=7), epoch)
    shares = [whole(Order(indices, together // ranks, 7, rank, ranks), epoch) for rank in range(ranks)]
    assert [joined(parts) for parts in zip(*shares, strict=True)] == alone
    assert len(alone) == max(1, n // together)


def test_every_image_once_an_epoch_in_another_order_each() -> None:
    order = Order(tuple(range(24)), 4, seed=1)
    epochs = [joined(whole(order, epoch)) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] == joined(whole(Order(tuple(range(24)), 4, seed=1), 0))
    assert epochs[0] != joined(whole(Order(tuple(range(24)), 4, seed=2), 0))
    assert joined(whole(Order(tuple(range(24)), 4, seed=1, shuffle=False), 5)) == list(range(24))


def test_an_incomplete_batch_is_left_out_or_smaller() -> None:
    assert [len(batch) for batch in whole(Order(tuple(range(10)), 4, 0), 0)] == [4, 4]
    kept = Order(tuple(range(10)), 4, 0, drop_last=False)
    assert [len(batch) for batch in whole(kept, 0)] == [4, 4, 2]
    shares = [Order(tuple(range(11)), 2, 0, rank, 2, drop_last=False) for rank in range(2)]
    assert [[len(batch) for batch in whole(share, 0)] for share in shares] == [[2, 2, 2], [2, 2, 1]]
    assert sorted(joined(joined(whole(share, 0)) for share in shares)) == list(range(11))
    uneven = [Order(tuple(range(9)), 2, 0, rank, 2, drop_last=False) for rank in range(2)]
    assert [len(share) for share in uneven] == [3, 2]
    assert sorted(joined(joined(whole(share, 0)) for share in uneven)) == list(range(9))


def test_fewer_images_than_one_batch_are_gone_through_again() -> None:
    samples = Order((5, 6, 7), 8, 0).epoch(0).batch(0)
    assert [sample.repeat for sample in samples] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert {sample.index for sample in samples} == {5, 6, 7}
    assert len({(sample.index, sample.repeat) for sample in samples}) == 8


def test_shuffling_is_fair() -> None:
    firsts = [Order(tuple(range(4)), 1, seed).epoch(0).batch(0)[0].index for seed in range(2000)]
    assert (np.abs(np.bincount(firsts) - 500) < 90).all()  # 4.6 standard deviations


def test_nothing_to_order() -> None:
    with pytest.raises(TrainingError, match="no images are left to load"):
        Order((), 4, 0)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Order((1,), 4, 0, rank=2, world_size=2)
