import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from camshaft.engine.models.convolution import Convolution, normalized


def row(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 1, 1, -1)


def ones(kernel: int, stride: int) -> Convolution:
    convolution = Convolution(1, 1, kernel, stride=stride, bias=False, padding="same")
    nn.init.zeros_(convolution.weight)
    convolution.weight.data[0, 0, kernel // 2] = 1
    return convolution


@pytest.mark.parametrize("grad", [True, False])
def test_same_padding_of_an_even_side_is_behind_it(grad: bool) -> None:
    image = row(1.0, 2.0, 3.0, 4.0).expand(1, 1, 2, 4)
    with torch.set_grad_enabled(grad):
        out = ones(3, stride=2)(image)
    # The rows' sums over columns 0..2 and 2..4; the kernel's middle row lies on row 1.
    assert out.flatten().tolist() == [6, 7]


@pytest.mark.parametrize("grad", [True, False])
def test_same_padding_of_an_odd_side_is_symmetric(grad: bool) -> None:
    image = row(1.0, 2.0, 3.0, 4.0, 5.0).expand(1, 1, 3, 5)
    with torch.set_grad_enabled(grad):
        out = ones(3, stride=2)(image)
    assert out[0, 0, 0].tolist() == [3, 9, 9]


@settings(deadline=None)
@given(
    height=st.integers(1, 13), width=st.integers(1, 13), kernel=st.sampled_from([3, 5]), stride=st.sampled_from([1, 2])
)
def test_same_padding_keeps_the_rounded_up_size_and_both_ways_to_it_agree(
    height: int, width: int, kernel: int, stride: int
) -> None:
    torch.manual_seed(0)
    convolution = Convolution(2, 2, kernel, stride=stride, groups=2, bias=False, padding="same").double()
    image = torch.randn(1, 2, height, width, dtype=torch.float64)
    trained = convolution(image)
    with torch.no_grad():
        inferred = convolution(image)
    assert trained.shape == (1, 2, -(-height // stride), -(-width // stride))
    torch.testing.assert_close(inferred, trained.detach(), rtol=0, atol=1e-12)


@settings(deadline=None)
@given(
    height=st.integers(1, 11),
    width=st.integers(1, 11),
    kernel=st.sampled_from([3, 5]),
    dilation=st.sampled_from([2, 3, 4]),
    channels_last=st.booleans(),
)
def test_dilated_depthwise_filters_are_exact_with_their_gradients(
    height: int, width: int, kernel: int, dilation: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    convolution = Convolution(3, 3, kernel, dilation=dilation, groups=3).double()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    image = torch.randn(2, 3, height, width, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    padding = dilation * (kernel // 2)
    expected = functional.conv2d(image, convolution.weight, convolution.bias, 1, padding, dilation, 3)
    out = convolution(image)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    upstream = torch.randn_like(expected)
    wanted = (image, *convolution.parameters())
    for got, want in zip(
        torch.autograd.grad(out, wanted, upstream), torch.autograd.grad(expected, wanted, upstream), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.fixture
def pair() -> tuple[Convolution, nn.BatchNorm2d]:
    torch.manual_seed(0)
    convolution, norm = Convolution(3, 4, 3, bias=False).double(), nn.BatchNorm2d(4, eps=1e-3).double()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    nn.init.uniform_(norm.weight, -2, 2)
    nn.init.normal_(norm.bias)
    return convolution, norm


def test_fixed_normalisation_folds_exactly_with_all_its_gradients(pair: tuple[Convolution, nn.BatchNorm2d]) -> None:
    convolution, norm = pair
    norm.eval()
    image = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    folded, plain = normalized(image, convolution, norm), norm(convolution(image))
    # The scale and shift are computed in float32, as a float32 network has them.
    torch.testing.assert_close(folded, plain, rtol=1e-6, atol=1e-6)
    upstream = torch.randn_like(plain)
    wanted = (image, convolution.weight, norm.weight, norm.bias)
    for got, want in zip(
        torch.autograd.grad(folded, wanted, upstream), torch.autograd.grad(plain, wanted, upstream), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_training_normalisation_uses_and_updates_the_batch_statistics(
    pair: tuple[Convolution, nn.BatchNorm2d],
) -> None:
    convolution, norm = pair
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    out = normalized(torch.randn(2, 3, 5, 7, dtype=torch.float64), convolution, norm)
    shifted = (out - norm.bias[:, None, None]) / norm.weight[:, None, None]
    torch.testing.assert_close(shifted.mean((0, 2, 3)), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-6)
    assert not torch.equal(norm.running_mean, before)
