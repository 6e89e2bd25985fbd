from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from camshaft.kernels.availability import interpreting
from camshaft.kernels.suppress import cpu, plan, suppress, suppress_with_controller
from camshaft.kernels.suppress.plan import Tiles

GPU = torch.cuda.is_available() and not interpreting()
DEVICE = "cuda" if GPU else "cpu"
TWIN = "triton" if GPU or interpreting() else "numba"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
FORMATS = (torch.contiguous_format, torch.channels_last)

Function = Callable[[Tensor, Tensor, str], Tensor]


def gated(x: Tensor, gate: Tensor, implementation: str) -> Tensor:
    return suppress(x, gate, implementation=implementation)


def controlled(x: Tensor, weight: Tensor, implementation: str) -> Tensor:
    return suppress_with_controller(x, weight, implementation=implementation)


def outputs(function: Function, x: Tensor, parameter: Tensor, grad: Tensor, implementation: str) -> list[Tensor]:
    """y and the gradients of x and the parameter."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    parameter = parameter.detach().clone().requires_grad_()
    y = function(x, parameter, implementation)
    y.backward(grad)
    assert x.grad is not None
    assert parameter.grad is not None
    return [y.detach(), x.grad, parameter.grad]


def compare(as_good: Callable[..., None], function: Function, x: Tensor, parameter: Tensor, grad: Tensor) -> None:
    # the gradient jumps where x crosses the bound: no gradient comes in where rounding decides on which side x is
    y = function(x.double(), parameter.double(), "torch")
    grad = grad.masked_fill((x.double() - y.amax((2, 3), keepdim=True)).abs() < 0.02, 0)
    exact = outputs(function, x.double(), parameter.double(), grad.double(), "torch")
    plain = outputs(function, x, parameter, grad, "torch")
    twin = outputs(function, x, parameter, grad, TWIN)
    for got, same, reference in zip(twin, plain, exact, strict=True):
        assert got.dtype == same.dtype
        as_good(got, same, reference)


def case(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format) -> tuple[Tensor, Tensor]:
    torch.manual_seed(sum(shape))
    x, grad = torch.randn(2, *shape).to(DEVICE, dtype)
    return x.to(memory_format=memory_format), grad


def test_algorithm_1_by_hand() -> None:
    x = torch.tensor([[[[-1.0, 2.0], [4.0, 3.0]]]], requires_grad=True)
    gate = torch.tensor([[0.6]], requires_grad=True)
    y = suppress(x, gate, implementation="torch")
    torch.testing.assert_close(y, torch.tensor([[[[0.0, 2.0], [2.4, 2.4]]]]))
    y.backward(torch.tensor([[[[7.0, 5.0], [1.0, 10.0]]]]))
    # the bound 0.6 · 4 gets 1 + 10; the maximum gets 0.6 of it, the gate 4 times it
    torch.testing.assert_close(x.grad, torch.tensor([[[[0.0, 5.0], [6.6, 0.0]]]]))
    torch.testing.assert_close(gate.grad, torch.tensor([[44.0]]))


@pytest.mark.parametrize("implementation", ["torch", TWIN])
def test_equal_maxima_share_the_gradient(implementation: str) -> None:
    x = torch.tensor([[[[4.0, 1.0], [4.0, -3.0]]]], device=DEVICE, requires_grad=True)
    suppress(x, 0.5, implementation=implementation).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[[0.5, 1.0], [0.5, 0.0]]]]


def test_reference_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    gate = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(suppress, (x, gate))
    torch.autograd.gradcheck(suppress, (x, gate[0]))
    torch.autograd.gradcheck(suppress_with_controller, (x, weight))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 5, 1, 1), torch.float32), *(((2, 20, 9, 13), dtype) for dtype in DTYPES)]
)
def test_twin(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format, as_good: Callable[..., None]
) -> None:
    x, grad = case(shape, dtype, memory_format)
    gate = torch.rand(shape[:2]).to(x)
    compare(as_good, gated, x, gate, grad)
    compare(as_good, controlled, x, torch.randn(shape[1], shape[1]).to(x), grad)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.skipif(TWIN != "triton", reason="runs under Triton's interpreter (test_triton.py) or on a GPU")
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(
    ("multiprocessors", "once"), [(1, True), (1000, False)], ids=["walks whole planes", "divides planes"]
)
def test_twin_where_planes_do_not_fit_on_chip(
    multiprocessors: int,
    once: bool,
    memory_format: torch.memory_format,
    as_good: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from camshaft.kernels.suppress import gpu

    monkeypatch.setattr(plan, "ON_CHIP_ELEMENTS", 16)
    monkeypatch.setattr(plan, "WALK_ELEMENTS", 64)
    monkeypatch.setattr(gpu, "_multiprocessors", lambda _: multiprocessors)
    x, grad = case((2, 8, 5, 9), torch.float32, memory_format)
    division = gpu._plan(x, 1)
    assert (division.once is not None and not division.once.whole) if once else division.once is None
    assert division.splits > 1
    compare(as_good, gated, x, torch.rand(2, 8).to(x), grad)
    compare(as_good, controlled, x, torch.randn(8, 8).to(x), grad)


@pytest.mark.usefixtures("poisoned")
@settings(
    max_examples=6 if TWIN == "triton" else 60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)),
    delta=st.sampled_from([0.1, 0.55, 1.0]),
    levels=st.integers(1, 4),
    memory_format=st.sampled_from(FORMATS),
    seed=st.integers(0, 2**31),
)
def test_twin_with_ties_everywhere(
    shape: tuple[int, int, int, int], delta: float, levels: int, memory_format: torch.memory_format, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, levels, shape, generator=generator).float().to(DEVICE, memory_format=memory_format)
    grad = torch.randint(-4, 5, shape, generator=generator).float().to(DEVICE)
    gate = torch.full(shape[:2], delta, device=DEVICE)
    plain = outputs(gated, x, gate, grad, "torch")
    for got, expected in zip(outputs(gated, x, gate, grad, TWIN), plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=3e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_twin_rounds_the_bound_as_the_definition_does(dtype: torch.dtype) -> None:
    x, _ = case((2, 9, 6, 7), dtype, torch.contiguous_format)
    gate = torch.rand(2, 9).to(x)
    assert torch.equal(gated(x, gate, TWIN), gated(x, gate, "torch"))


def test_output_stays_below_the_bound_and_keeps_the_rest() -> None:
    x, _ = case((2, 4, 9, 9), torch.float32, torch.contiguous_format)
    y = suppress(x, 0.55)
    bound = 0.55 * x.relu().amax((2, 3), keepdim=True)
    assert (y <= bound).all()
    assert torch.equal(y[x < bound], x[x < bound].relu())


@pytest.mark.parametrize("gate", [0.3, torch.tensor([0.3, 0.3]), torch.tensor([[0.3, 0.3], [0.3, 0.3]])])
def test_all_forms_of_a_gate_agree(gate: Tensor | float) -> None:
    x, _ = case((2, 2, 6, 5), torch.float32, torch.contiguous_format)
    gate = gate.to(DEVICE) if isinstance(gate, Tensor) else gate
    assert torch.equal(suppress(x, gate, implementation=TWIN), suppress(x, 0.3, implementation="torch"))


def test_gate_for_all_images_gets_their_summed_gradient() -> None:
    x, grad = case((3, 2, 6, 5), torch.float32, torch.contiguous_format)
    gate = torch.tensor([0.3, 0.8], device=DEVICE)
    twin, plain = (outputs(gated, x, gate, grad, name) for name in (TWIN, "torch"))
    torch.testing.assert_close(twin[2], plain[2])


@pytest.mark.parametrize("implementation", ["torch", TWIN])
def test_not_a_number_is_not_hidden(implementation: str) -> None:
    x, _ = case((1, 2, 5, 5), torch.float32, torch.contiguous_format)
    x[0, 1, 2, 3] = -torch.tensor(float("nan"))
    assert suppress(x, 0.5, implementation=implementation).isnan().any()


def test_slice_and_expanded_inputs() -> None:
    x, _ = case((2, 6, 8, 8), torch.float32, torch.contiguous_format)
    for view in (x[:, ::2, 1:, 1:], x[:, :1].expand(-1, 3, -1, -1)):
        assert torch.equal(suppress(view, 0.4, implementation=TWIN), suppress(view, 0.4, implementation="torch"))


def test_no_images() -> None:
    assert suppress(torch.zeros(0, 3, 4, 4), 0.5).shape == (0, 3, 4, 4)


@pytest.mark.skipif(TWIN != "numba", reason="is about the CPU's twin")
def test_threads_give_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "PARALLEL_ELEMENTS", 1)
    x, grad = case((5, 6, 20, 30), torch.bfloat16, torch.channels_last)
    weight = torch.randn(6, 6).to(x)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(outputs(controlled, x, weight, grad, "numba"))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("tensors", [1, 2])
def test_plan_of_vgg16_on_132_multiprocessors(element_bytes: int, tensors: int) -> None:
    planes = {p: plan.plan((8, k, p), False, element_bytes, tensors, 132) for k, p in ((512, 1600), (64, 102400))}
    assert planes[1600].once == Tiles(1, 2048, True, 2)
    assert planes[102400].once == Tiles(1, 8192, False, 16)
    few = plan.plan((1, 64, 102400), False, element_bytes, tensors, 132)
    assert few.once is None
    assert few.splits == 9
    last = plan.plan((8, 512, 1600), True, element_bytes, tensors, 132)
    assert last.walk.planes * element_bytes == 128


@pytest.mark.parametrize(
    ("x", "gate", "message"),
    [
        (torch.zeros(2, 3, 4), 0.5, r"x is \(2, 3, 4\); it is \(B, K, H, W\)"),
        (torch.zeros(2, 3, 0, 4), 0.5, "at least one pixel"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int32), 0.5, "x is torch.int32; it is floating point"),
        (torch.zeros(2, 3, 4, 4), 0.0, r"gate is 0.0; as a number \(δ\) it lies in \(0, 1\]"),
        (torch.zeros(2, 3, 4, 4), float("nan"), "gate is nan"),
        (torch.zeros(2, 3, 4, 4), torch.ones(2), r"gate is \(2,\); for x \(2, 3, 4, 4\) it is \(2, 3\), \(3,\)"),
        (torch.zeros(2, 3, 4, 4), torch.ones(3, dtype=torch.int64), "gate is torch.int64"),
    ],
)
def test_wrong_input_is_named(x: Tensor, gate: Tensor | float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suppress(x, gate)


def test_wrong_controller_is_named() -> None:
    with pytest.raises(ValueError, match=r"weight is \(3, 4\) of torch.float32; for 3 channels it is \(3, 3\)"):
        suppress_with_controller(torch.zeros(2, 3, 4, 4), torch.zeros(3, 4))


def test_implementation_that_cannot_run_is_an_error() -> None:
    with pytest.raises(ValueError, match="implementation 'numba' was asked for but float64 is neither"):
        suppress(torch.zeros(1, 1, 2, 2, dtype=torch.float64), 0.5, implementation="numba")
    with pytest.raises(ValueError, match="no implementation 'cuda'"):
        suppress(torch.zeros(1, 1, 2, 2), 0.5, implementation="cuda")


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_several_images_over_threads_without_gradients(mode: type) -> None:
    x = torch.randn(4, 32, 40, 40).contiguous(memory_format=torch.channels_last)
    with mode():
        assert torch.equal(suppress(x, 0.5, implementation="numba"), suppress(x, 0.5, implementation="torch"))
