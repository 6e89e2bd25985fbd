from collections.abc import Callable
from itertools import product
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from camshaft.kernels.availability import interpreting
from camshaft.kernels.erase import erase, sample_target
from camshaft.kernels.normalize import Maximum, Order, normalize

GPU = torch.cuda.is_available() and not interpreting()
DEVICE = "cuda" if GPU else "cpu"
ORDERS: tuple[Order, ...] = get_args(Order)
MAXIMA: tuple[Maximum, ...] = get_args(Maximum)
# Triton's interpreter is slow: it gets every fifth combination, in which every option occurs
COMBINATIONS = list(product(ORDERS, MAXIMA, (False, True)))[:: 1 if GPU else 5]
needs_twin = pytest.mark.skipif(
    not (GPU or interpreting()),
    reason="runs under Triton's interpreter (test_triton.py) or on a GPU",
)


def outputs(image: Tensor, maps: Tensor, grad: Tensor, **options: Any) -> list[Tensor]:
    """The erased image and the gradients of image and maps."""
    image = image.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    maps = maps.detach().clone().requires_grad_()
    y = erase(image, maps, **options)
    y.backward(grad)
    assert image.grad is not None
    assert maps.grad is not None
    return [y.detach(), image.grad, maps.grad]


def case(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape) + sum(size))
    image, grad = torch.randn(2, shape[0], 3, *size, generator=generator).to(DEVICE)
    return image, torch.randn(shape, generator=generator).to(DEVICE), grad


def compare(as_good: Callable[..., None], image: Tensor, maps: Tensor, grad: Tensor, **options: Any) -> None:
    exact = outputs(image.double(), maps.double(), grad.double(), **options, implementation="torch")
    plain = outputs(image, maps, grad, **options, implementation="torch")
    twin = outputs(image, maps, grad, **options, implementation="triton")
    for got, same, reference in zip(twin, plain, exact, strict=True):
        assert got.dtype == same.dtype
        as_good(got, same, reference)


def test_equation_3_by_hand() -> None:
    image = torch.full((1, 3, 2, 2), 10.0, requires_grad=True)
    maps = torch.tensor([[[[-1.0, 2.0], [4.0, 1.0]]]], requires_grad=True)
    erased = erase(image, maps[:, 0], eps=1e-9)
    torch.testing.assert_close(erased, torch.tensor([[10.0, 5.0], [0.0, 7.5]]).expand(1, 3, 2, 2))
    erased[..., 0, 1].sum().backward()
    # 3 colours lose 10 · a / 4 with a = 2: the pixel's own slope is −30 / 4, the maximum's 30 · 2 / 16
    torch.testing.assert_close(maps.grad, torch.tensor([[[[0.0, -7.5], [3.75, 0.0]]]]))


def test_target_minus_one_leaves_image_and_batch_maximum_alone() -> None:
    image = torch.ones(2, 3, 1, 1)
    maps = torch.tensor([[[[2.0]], [[4.0]]], [[[8.0]], [[8.0]]]])
    erased = erase(image, maps, target=torch.tensor([0, -1]), eps=1e-9)
    assert erased[:, 0].flatten().tolist() == pytest.approx([0, 1])


def test_class_agnostic_erasing_takes_the_pixelwise_maximum_of_present_classes() -> None:
    image = torch.ones(1, 1, 1, 2)
    maps = torch.tensor([[[[4.0, 1.0]], [[1.0, 2.0]], [[9.0, 9.0]]]])
    erased = erase(image, maps, tags=torch.tensor([[1, 1, 0]]), maximum="map", eps=1e-9)
    assert erased.flatten().tolist() == pytest.approx([0, 0])
    erased = erase(image, maps, tags=torch.tensor([[1, 1, 0]]), maximum="batch", eps=1e-9)
    assert erased.flatten().tolist() == pytest.approx([0, 0.5])


def test_class_agnostic_erasing_by_a_kernel_is_an_error() -> None:
    with pytest.raises(ValueError, match="'triton' was asked for but class-agnostic erasing has no kernel"):
        erase(torch.ones(1, 3, 4, 4), torch.ones(1, 2, 2, 2), tags=torch.ones(1, 2), implementation="triton")


@pytest.mark.parametrize(("order", "maximum"), list(product(ORDERS, MAXIMA)))
def test_reference_gradients(order: Order, maximum: Maximum) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    options: dict[str, Any] = {"order": order, "maximum": maximum}
    target, tags = torch.tensor([2, 0]), torch.tensor([[1, 0, 1], [1, 1, 0]])
    assert torch.autograd.gradcheck(lambda i, m: erase(i, m, target=target, **options), (image, maps))
    assert torch.autograd.gradcheck(lambda i, m: erase(i, m, tags=tags, **options), (image, maps))


@needs_twin
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("order", "maximum", "align_corners"), COMBINATIONS)
def test_twin(order: Order, maximum: Maximum, align_corners: bool, as_good: Callable[..., None]) -> None:
    image, maps, grad = case((2, 3, 3, 4), (10, 13))
    target = torch.tensor([2, 1], device=DEVICE)
    compare(as_good, image, maps, grad, target=target, order=order, maximum=maximum, align_corners=align_corners)


@needs_twin
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("shape", "size", "memory_format"),
    [
        ((2, 1, 1), (5, 3), torch.channels_last),
        ((1, 3, 1), (1, 7), torch.contiguous_format),
        ((1, 6, 7), (3, 4), torch.channels_last),
        ((1, 3, 20), (7, 160), torch.contiguous_format),
    ],
)
def test_twin_at_odd_sizes_and_in_channels_last(
    shape: tuple[int, ...],
    size: tuple[int, int],
    memory_format: torch.memory_format,
    as_good: Callable[..., None],
) -> None:
    image, maps, grad = case(shape, size)
    compare(as_good, image.to(memory_format=memory_format), maps, grad, eps=0.5)


@needs_twin
@settings(max_examples=200 if GPU else 5, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4)),
    factor=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    order=st.sampled_from(ORDERS),
    maximum=st.sampled_from(MAXIMA),
    seed=st.integers(0, 2**31),
)
def test_twin_with_ties_and_images_left_alone(
    shape: tuple[int, int, int, int], factor: tuple[int, int], order: Order, maximum: Maximum, seed: int
) -> None:
    # integers and powers of two: interpolation is exact, so that ties are ties in every implementation
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(-1, 3, shape, generator=generator).float().to(DEVICE)
    size = (3, shape[2] * factor[0], shape[3] * factor[1])
    image, grad = torch.randint(-3, 4, (2, shape[0], *size), generator=generator).float().to(DEVICE)
    target = torch.randint(-1, shape[1], (shape[0],), generator=generator).to(DEVICE)
    options: dict[str, Any] = {"target": target, "order": order, "maximum": maximum, "eps": 0.5}
    plain = outputs(image, maps, grad, **options, implementation="torch")
    for got, expected in zip(outputs(image, maps, grad, **options, implementation="triton"), plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@needs_twin
def test_twin_in_half_precision(as_good: Callable[..., None]) -> None:
    image, maps, grad = case((2, 3, 4), (9, 12))
    compare(as_good, image.bfloat16(), maps.bfloat16(), grad.bfloat16())


@needs_twin
def test_twin_leaves_out_the_gradients_that_nobody_asked_for() -> None:
    image, maps, grad = case((1, 2, 2), (4, 4))
    alone = maps.clone().requires_grad_()
    erase(image, alone, implementation="triton").backward(grad)
    both = outputs(image, maps, grad, implementation="triton")
    assert alone.grad is not None
    assert torch.equal(alone.grad, both[2])


def test_erasing_is_the_image_without_the_normalised_map() -> None:
    image, maps, _ = case((2, 3, 5, 4), (33, 27))
    target = torch.tensor([1, 2], device=DEVICE)
    chosen = maps[torch.arange(2), target][:, None]
    mask = normalize(chosen, size=(33, 27), maximum="batch", order="upsample_relu_divide")
    torch.testing.assert_close(erase(image, maps, target=target), image * (1 - mask))


def test_targets_are_present_and_uniform() -> None:
    tags = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], device=DEVICE)
    drawn = sample_target(tags.repeat(3000, 1), seed=1).view(3000, 3)
    assert (drawn[:, 1] == -1).all()
    assert (drawn[:, 2] == 4).all()
    counts = drawn[:, 0].bincount(minlength=5).tolist()
    assert counts[0] == counts[2] == 0
    # three equal shares of 3000: a standard deviation is 26
    assert all(abs(counts[c] - 1000) < 130 for c in (1, 3, 4))


def test_targets_follow_seed_or_generator() -> None:
    tags = torch.ones(64, 20, device=DEVICE)
    assert torch.equal(sample_target(tags, seed=5), sample_target(tags, seed=5))
    assert not torch.equal(sample_target(tags, seed=5), sample_target(tags, seed=6))
    generator = torch.Generator(DEVICE).manual_seed(5)
    assert torch.equal(sample_target(tags, generator=generator), sample_target(tags, seed=5))
    assert not torch.equal(sample_target(tags, generator=generator), sample_target(tags, seed=5))


@pytest.mark.parametrize(
    ("image", "maps", "options", "message"),
    [
        ((2, 3, 8), (2, 4, 4), {}, r"image is \(2, 3, 8\)"),
        ((2, 3, 8, 8), (3, 4, 4), {}, r"maps is \(3, 4, 4\); for 2 images it is \(2, h, w\) or \(2, C, h, w\)"),
        ((2, 3, 8, 8), (2, 5, 4, 4), {}, "comes alone, .* with either target or tags"),
        ((2, 3, 8, 8), (2, 4, 4), {"target": torch.zeros(2, dtype=torch.int64)}, "comes alone"),
        ((2, 3, 8, 8), (2, 5, 4, 4), {"target": torch.zeros(2)}, r"target is \(2,\) of torch.float32"),
        ((2, 3, 8, 8), (2, 5, 4, 4), {"tags": torch.zeros(2, 4)}, r"tags is \(2, 4\)"),
        ((2, 3, 8, 8), (2, 4, 4), {"eps": -1.0}, "erase: eps is -1.0; it is above 0"),
    ],
)
def test_wrong_input_is_named(
    image: tuple[int, ...], maps: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        erase(torch.zeros(image), torch.zeros(maps), **options)


def test_wrong_sampling_is_named() -> None:
    with pytest.raises(ValueError, match=r"tags is \(3,\); it is \(B, C\)"):
        sample_target(torch.ones(3))
    with pytest.raises(ValueError, match="both generator and seed are given"):
        sample_target(torch.ones(3, 2), seed=1, generator=torch.Generator())
