from collections.abc import Callable
from itertools import product
from typing import Any, get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from camshaft.kernels.availability import interpreting
from camshaft.kernels.normalize import Maximum, Order, accumulate, normalize

GPU = torch.cuda.is_available() and not interpreting()
DEVICE = "cuda" if GPU else "cpu"
ORDERS: tuple[Order, ...] = get_args(Order)
MAXIMA: tuple[Maximum, ...] = get_args(Maximum)
# Triton's interpreter is slow: it gets every order with every maximum, and the other options in turn
COMBINATIONS = (
    list(product(ORDERS, MAXIMA, (False, True), (False, True)))
    if GPU
    else [(*pair, turn % 2 == 0, turn % 3 > 0) for turn, pair in enumerate(product(ORDERS, MAXIMA))]
)
needs_twin = pytest.mark.skipif(
    not (GPU or interpreting()),
    reason="runs under Triton's interpreter (test_triton.py) or on a GPU",
)


def outputs(maps: Tensor, grad: Tensor, **options: Any) -> list[Tensor]:
    """The normalised maps and the gradient of the maps."""
    maps = maps.detach().clone().requires_grad_()
    y = normalize(maps, **options)
    y.backward(grad)
    assert maps.grad is not None
    return [y.detach(), maps.grad]


def compare(as_good: Callable[..., None], maps: Tensor, grad: Tensor, **options: Any) -> None:
    exact = outputs(maps.double(), grad.double(), **options, implementation="torch")
    plain = outputs(maps, grad, **options, implementation="torch")
    for got, same, reference in zip(outputs(maps, grad, **options, implementation="triton"), plain, exact, strict=True):
        assert got.dtype == same.dtype
        as_good(got, same, reference)


def case(shape: tuple[int, ...], size: tuple[int, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape) + sum(size))
    maps = torch.randn(shape, generator=generator).to(DEVICE, dtype)
    return maps, torch.randn(*shape[:2], *size, generator=generator).to(DEVICE, dtype)


def test_equation_2_by_hand() -> None:
    maps = torch.tensor([[[[-1.0, 2.0], [4.0, 1.0]]]])
    torch.testing.assert_close(normalize(maps, eps=1e-9), torch.tensor([[[[0.0, 0.5], [1.0, 0.25]]]]))


def test_orders_differ_as_their_names_say() -> None:
    # along a row of −2, 2 the middle of three aligned samples is 0 after upsampling and 1 after ReLU and upsampling
    maps = torch.tensor([[[[-2.0, 2.0]]]])
    rows = {
        order: normalize(maps, size=(1, 3), align_corners=True, eps=1e-9, order=order).flatten().tolist()
        for order in ORDERS
    }
    assert rows["relu_divide_upsample"] == pytest.approx([0, 0.5, 1])
    assert rows["relu_upsample_divide"] == pytest.approx([0, 0.5, 1])
    assert rows["upsample_relu_divide"] == pytest.approx([0, 0, 1])


def test_dividing_after_upsampling_reaches_one() -> None:
    # two samples of four columns miss the maximum 8: they see (0 + 8) / 2 and (2 + 2) / 2
    maps = torch.tensor([[[[0.0, 8.0, 2.0, 2.0]]]])
    rows = {order: normalize(maps, size=(1, 2), eps=1e-9, order=order).flatten().tolist() for order in ORDERS}
    assert rows["relu_divide_upsample"] == pytest.approx([0.5, 0.25])
    assert rows["relu_upsample_divide"] == pytest.approx([1, 0.5])


def test_batch_maximum_is_that_of_the_maps_kept() -> None:
    maps = torch.tensor([[[[2.0]], [[8.0]]], [[[4.0]], [[1.0]]]])
    tags = torch.tensor([[1, 0], [1, 1]])
    out = normalize(maps, tags=tags, eps=1e-9, maximum="batch")
    assert out.flatten().tolist() == pytest.approx([0.5, 0, 1, 0.25])
    assert normalize(maps, tags=tags, eps=1e-9).flatten().tolist() == pytest.approx([1, 0, 1, 1])


@pytest.mark.parametrize(("order", "maximum"), list(product(ORDERS, MAXIMA)))
def test_reference_gradients(order: Order, maximum: Maximum) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    tags = torch.tensor([[1, 0, 1], [1, 1, 0]])
    for align in (False, True):
        options: dict[str, Any] = {"tags": tags, "size": (5, 6), "align_corners": align}
        assert torch.autograd.gradcheck(lambda m, o=options: normalize(m, order=order, maximum=maximum, **o), maps)


def test_maps_without_a_positive_value_are_zero_and_have_no_gradient() -> None:
    maps = -torch.rand(1, 2, 3, 3)
    y, grad = outputs(maps, torch.ones(1, 2, 5, 5), size=(5, 5), implementation="torch")
    assert not y.any()
    assert not grad.any()


@needs_twin
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("order", "maximum", "align_corners", "tagged"), COMBINATIONS)
def test_twin(order: Order, maximum: Maximum, align_corners: bool, tagged: bool, as_good: Callable[..., None]) -> None:
    maps, grad = case((2, 2, 3, 4), (10, 13))
    tags = torch.tensor([[1, 0], [1, 1]], device=DEVICE) if tagged else None
    compare(as_good, maps, grad, tags=tags, size=(10, 13), order=order, maximum=maximum, align_corners=align_corners)


@needs_twin
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("shape", "size", "align_corners", "order"),
    [
        ((2, 2, 1, 1), (5, 3), True, "relu_upsample_divide"),
        ((2, 2, 3, 1), (1, 7), True, "upsample_relu_divide"),
        ((1, 1, 6, 7), (3, 4), False, "relu_upsample_divide"),
        ((1, 1, 5, 3), (5, 3), False, "upsample_relu_divide"),
        ((1, 6, 2, 3), (1, 1), True, "relu_upsample_divide"),
        ((1, 1, 3, 20), (7, 160), False, "upsample_relu_divide"),
    ],
    ids=["one source", "one row out", "smaller", "same size", "one pixel out", "several tiles"],
)
def test_twin_at_odd_sizes(
    shape: tuple[int, ...], size: tuple[int, int], align_corners: bool, order: Order, as_good: Callable[..., None]
) -> None:
    maps, grad = case(shape, size)
    # an ε of the maps' own size keeps the gradient of a lone value from cancelling down to rounding
    compare(as_good, maps, grad, size=size, order=order, align_corners=align_corners, eps=0.5)


# Triton's interpreter truncates to bfloat16 where a GPU rounds: an error that the rule does not grant
@needs_twin
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16][: 1 + GPU])
def test_twin_in_half_precision(dtype: torch.dtype, as_good: Callable[..., None]) -> None:
    maps, grad = case((1, 2, 2, 3), (6, 9), dtype)
    compare(as_good, maps, grad, size=(6, 9), maximum="batch" if dtype == torch.float16 else "map")


@needs_twin
@settings(
    max_examples=200 if GPU else 5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4)),
    factor=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    order=st.sampled_from(ORDERS),
    maximum=st.sampled_from(MAXIMA),
    seed=st.integers(0, 2**31),
)
def test_twin_with_ties(
    shape: tuple[int, int, int, int], factor: tuple[int, int], order: Order, maximum: Maximum, seed: int
) -> None:
    # integers and powers of two: interpolation is exact, so that ties are ties in every implementation
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(-1, 3, shape, generator=generator).float().to(DEVICE)
    size = (shape[2] * factor[0], shape[3] * factor[1])
    grad = torch.randint(-3, 4, (*shape[:2], *size), generator=generator).float().to(DEVICE)
    options: dict[str, Any] = {"size": size, "order": order, "maximum": maximum, "eps": 0.5}
    plain = outputs(maps, grad, **options, implementation="torch")
    for got, expected in zip(outputs(maps, grad, **options, implementation="triton"), plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("implementation", ["torch", pytest.param("triton", marks=needs_twin)])
def test_inference_of_both_papers_by_hand(implementation: str) -> None:
    maps = torch.tensor([[[[-1.0, 3.0]], [[2.0, 2.0]]]], device=DEVICE)
    mirrored = torch.tensor([[[[1.0, 1.0]], [[4.0, 2.0]]]], device=DEVICE)
    tags = torch.tensor([[1, 1]], device=DEVICE)
    summed = torch.zeros(1, 2, 1, 2, device=DEVICE)
    accumulate(summed, maps, tags=tags, implementation=implementation)
    accumulate(summed, mirrored, tags=tags, flipped=True, implementation=implementation)
    assert summed.tolist() == [[[[1, 4]], [[4, 6]]]]
    assert normalize(summed, eps=1e-9).flatten().tolist() == pytest.approx([0.25, 1, 4 / 6, 1])
    largest = torch.zeros(1, 2, 1, 2, device=DEVICE)
    for scale in (maps, mirrored):
        accumulate(largest, scale, reduction="max", divide=True, eps=1e-9, implementation=implementation)
    assert largest.flatten().tolist() == pytest.approx([1, 1, 1, 1])


@needs_twin
@pytest.mark.parametrize(
    ("divide", "flipped", "reduction"), list(product((False, True), (False, True), ("sum", "max")))
)
def test_twin_accumulates(divide: bool, flipped: bool, reduction: Any) -> None:
    maps, total = case((1, 3, 3, 4), (8, 11))
    total = total.relu()
    tags = torch.tensor([[1, 0, 1]], device=DEVICE)
    order: Order = "relu_upsample_divide" if divide else "upsample_relu_divide"
    options: dict[str, Any] = {
        "tags": tags,
        "flipped": flipped,
        "reduction": reduction,
        "divide": divide,
        "order": order,
    }
    expected = accumulate(total.clone(), maps, **options, implementation="torch")
    got = accumulate(total.clone(), maps, **options, implementation="triton")
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_accumulating_works_in_place_without_gradient() -> None:
    total = torch.zeros(1, 1, 4, 4)
    result = accumulate(total, torch.rand(1, 1, 2, 2, requires_grad=True))
    assert result is total
    assert not total.requires_grad
    assert total.all()


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 3, 4), {}, r"maps is \(2, 3, 4\) of torch.float32; it is \(B, C, h, w\)"),
        ((2, 3, 4, 0), {}, "at least one pixel"),
        ((2, 3, 4, 4), {"tags": torch.ones(3, 2)}, r"tags is \(3, 2\); for maps \(2, 3, 4, 4\) it is \(B, C\)"),
        ((2, 3, 4, 4), {"size": (0, 4)}, r"size is \(0, 4\)"),
        ((2, 3, 4, 4), {"eps": 0.0}, "eps is 0.0; it is above 0"),
        ((2, 3, 4, 4), {"maximum": "image"}, "maximum is 'image'; it is one of map, batch"),
        ((2, 3, 4, 4), {"order": "divide"}, "order is 'divide'; it is one of relu_divide_upsample"),
    ],
)
def test_wrong_input_is_named(shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalize(torch.zeros(shape), **options)


def test_wrong_total_is_named() -> None:
    with pytest.raises(ValueError, match=r"total is \(2, 2, 8, 8\) of torch.float32; for maps \(2, 3, 4, 4\)"):
        accumulate(torch.zeros(2, 2, 8, 8), torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="reduction is 'mean'; it is one of sum, max"):
        accumulate(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4), reduction="mean")  # type: ignore[arg-type]
