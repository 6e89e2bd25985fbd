"""How the kernels' tests compare an implementation with its definition."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

AsGood = Callable[[Tensor, Tensor, Tensor], None]


@pytest.fixture
def as_good() -> AsGood:
    """Error against the float64 definition at most twice that of the plain version in the same dtype, plus rounding."""

    def check(got: Tensor, plain: Tensor, exact: Tensor) -> None:
        assert got.shape == plain.shape == exact.shape
        assert exact.dtype == torch.float64
        assert torch.isfinite(exact).all()
        same = exact.to(plain.dtype)
        rounding = 2 * (same + 0.3 - 0.3 - same).abs().max().double()
        error = (got.double() - exact).abs().max()
        limit = 2 * (plain.double() - exact).abs().max() + rounding
        assert error <= limit, f"error {error:.3g}, the plain version has {limit:.3g} at most"

    return check


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill every uninitialised tensor with NaN, so that an element that nothing writes shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
