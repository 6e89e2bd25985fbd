from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from camshaft.engine.errors import RecipeError
from camshaft.engine.models import (
    ClassifierSettings,
    Suppression,
    SuppressionSettings,
    build_classifier,
    load_weights,
    plug_suppression,
)
from camshaft.engine.models.efficientnet_lite import EfficientNetLite0, EfficientNetLite0Settings
from camshaft.engine.models.resnet import ResNet, ResNet50Settings
from camshaft.engine.models.suppression import ACTIVATIONS, suppressions
from camshaft.engine.models.vgg import VGG16, VGG16Settings


def plane(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 1, 1, -1)


def net(*modules: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), *modules).eval()


def lite() -> EfficientNetLite0:
    torch.manual_seed(0)
    return EfficientNetLite0(EfficientNetLite0Settings(weights=None)).eval()


def test_a_fixed_bound_by_hand() -> None:
    replaced = Suppression(1, "fixed", 0.5, rectifies=True)
    assert replaced(plane(-2.0, 1.0, 3.0, 8.0)).flatten().tolist() == [0, 1, 3, 4]
    followed = Suppression(1, "fixed", 0.5)
    assert followed(plane(-2.0, 1.0, 3.0, 8.0)).flatten().tolist() == [-2, 1, 3, 4]


def test_channels_without_activation_pass_unchanged() -> None:
    assert Suppression(1, "fixed", 0.5)(plane(-3.0, -1.0)).flatten().tolist() == [-3, -1]


def test_a_learnt_bound_by_hand() -> None:
    suppression = Suppression(2, "learnable", 0.55, rectifies=True)
    assert suppression.controller is not None
    suppression.controller.weight.data = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    x = torch.tensor([[[[-2.0, 4.0]], [[6.0, 10.0]]]])
    # The means of relu(x) are 2 and 8, so the gates are sigmoid(0) = 0.5 and sigmoid(0.5 · 2).
    torch.testing.assert_close(suppression(x)[0, 0, 0], torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(suppression(x)[0, 1, 0], torch.tensor([6.0, 10 * torch.sigmoid(torch.tensor(1.0))]))


@pytest.mark.parametrize(
    ("activation", "values"),
    [
        (nn.ReLU6(inplace=True), [-1.0, 2.0, 5.0, 9.0]),
        (nn.SiLU(), [-1.0, 2.0, 5.0, 9.0]),
        (nn.Tanh(), [-1.0, 0.2, 3.0]),
    ],
)
def test_other_activations_are_bounded_at_a_share_of_their_own_maximum(
    activation: nn.Module, values: list[float]
) -> None:
    network = net(activation)
    layer = network[0]
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    nn.init.eye_(layer.weight.data.flatten(1))
    layer.weight.data = torch.eye(4, 3)[:, :, None, None]
    image = torch.tensor(values).expand(1, 3, 1, -1)
    activated = network(image)
    plug_suppression(network, ["1"], "fixed", 0.5)
    expected = torch.minimum(activated, 0.5 * activated.amax((2, 3), keepdim=True).clamp(min=0))
    torch.testing.assert_close(network(image), expected)
    assert (activated != expected).any()


@pytest.mark.parametrize("mode", ["replace", "follow"])
def test_following_a_relu_is_replacing_it(mode: Any) -> None:
    plain, plugged = net(nn.ReLU()), net(nn.ReLU())
    assert plug_suppression(plugged, ["1"], "fixed", 0.3, mode) == ("1",)
    image = torch.randn(2, 3, 5, 7)
    activated = plain(image)
    torch.testing.assert_close(plugged(image), torch.minimum(activated, 0.3 * activated.amax((2, 3), keepdim=True)))


def test_delta_one_changes_nothing() -> None:
    plain, plugged = lite(), lite()
    plug_suppression(plugged, controller="fixed", delta=1)
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        torch.testing.assert_close(plugged(image), plain(image), rtol=0, atol=1e-6)


def test_vgg_has_the_paper_s_modules_and_parameters() -> None:
    def parameters(suppression: SuppressionSettings | None) -> tuple[int, int]:
        settings = ClassifierSettings(backbone=VGG16Settings(), suppression=suppression)
        with torch.device("meta"):
            network = build_classifier(settings, [f"class{number}" for number in range(20)], Path())
        return sum(parameter.numel() for parameter in network.parameters()), len(suppressions(network))

    # 3×3 filters and biases of VGG's blocks and the three new layers, then the 1×1 to 20 classes.
    inputs = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512)
    outputs = (64, 64, 128, 128, 256, 256, 256, *(512,) * 9)
    by_hand = sum(9 * k * n + n for k, n in zip(inputs, outputs, strict=True)) + 512 * 20
    # A controller for each of them: channels × channels, without bias.
    controllers = 2 * 64**2 + 2 * 128**2 + 3 * 256**2 + 9 * 512**2
    assert (by_hand, by_hand + controllers) == (21_804_352, 24_401_216)
    assert [f"{count / 1e6:.1f}M" for count in (by_hand, by_hand + controllers)] == ["21.8M", "24.4M"]  # the paper's
    assert parameters(None) == (21_804_352, 0)
    assert parameters(SuppressionSettings(controller="fixed")) == (21_804_352, 16)
    assert parameters(SuppressionSettings(controller="learnable")) == (24_401_216, 16)


@pytest.mark.parametrize(
    ("layers", "count"), [(["layer6"], 3), (["layer1", "layer2"], 4), (["layer3", "layer4", "layer5"], 9), (["*"], 16)]
)
def test_vgg_s_layers_are_those_of_the_paper_s_table(layers: list[str], count: int) -> None:
    with torch.device("meta"):
        network = VGG16(VGG16Settings())
        assert len(plug_suppression(network, layers)) == count


def test_controllers_start_as_the_authors_have_them() -> None:
    controller = Suppression(512, "learnable", 0.55).controller
    assert controller is not None
    assert list(controller.state_dict()) == ["weight"]
    assert controller.weight.std().item() == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("order", ["weights first", "suppression first"])
@pytest.mark.parametrize("mode", ["replace", "follow"])
def test_stock_weights_load_before_and_after(tmp_path: Path, order: str, mode: Any) -> None:
    stock = lite()
    names = set(stock.state_dict())
    torch.save(stock.state_dict(), tmp_path / "w.pth")
    network = EfficientNetLite0(EfficientNetLite0Settings(weights=None)).eval()
    if order == "weights first":
        load_weights(network, tmp_path / "w.pth")
    plug_suppression(network, ["stage7"], "learnable", mode=mode)
    if order == "suppression first":
        load_weights(network, tmp_path / "w.pth")
    added = set(network.state_dict()) - names
    assert names < set(network.state_dict())
    assert all(name.endswith("controller.weight") for name in added)
    assert len(added) == 2
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in stock.state_dict().items())


@pytest.mark.parametrize(
    ("network", "layers", "mode", "expected"),
    [
        (lite, ["head"], "replace", ["head_act"]),
        (lite, ["stage7", "_blocks.14"], "replace", [
            "_blocks.14.expand_act", "_blocks.14.depthwise_act", "_blocks.15.expand_act", "_blocks.15.depthwise_act",
        ]),
        (lite, ["_blocks.*.expand_act"], "replace", [f"_blocks.{number}.expand_act" for number in range(1, 16)]),
        (lite, ["_blocks.11", "_blocks.15"], "follow", ["_blocks.11", "_blocks.15"]),
        (lite, ["head", "head_act"], "follow", ["head_act"]),
        (lambda: ResNet(ResNet50Settings()).eval(), ["layer4.2"], "follow", ["layer4.2"]),
        (lambda: ResNet(ResNet50Settings()).eval(), ["layer4.2"], "replace", [f"layer4.2.relu{n}" for n in (1, 2, 3)]),
        (lambda: ResNet(ResNet50Settings()).eval(), ["stem"], "replace", ["relu"]),
    ],
)  # fmt: skip
def test_names_choose_the_places(network: Any, layers: list[str], mode: Any, expected: list[str]) -> None:
    plugged = network()
    assert plug_suppression(plugged, layers, "fixed", mode=mode) == tuple(expected)
    assert len(suppressions(plugged)) == len(expected)


def test_every_place_bounds_its_output() -> None:
    network = lite()
    places = plug_suppression(network, ["_blocks.12", "head_act"], "fixed", 0.5, "follow")
    outputs: dict[str, Tensor] = {}
    for name in places:
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: output})
        )
    network(torch.randn(1, 3, 64, 64))
    assert outputs["_blocks.12"].min() < 0
    for output in outputs.values():
        at_bound = (output == output.amax((2, 3), keepdim=True)).sum((2, 3))
        assert (at_bound[output.amax((2, 3)) > 0] >= 1).all()
        assert at_bound.max() > 1


def test_gradients_reach_controllers_and_what_lies_below() -> None:
    network = lite().train()
    plug_suppression(network, ["stage6", "head"])
    network(torch.randn(2, 3, 64, 64)).square().sum().backward()
    controllers = [parameter for name, parameter in network.named_parameters() if "controller" in name]
    assert len(controllers) == 9
    for parameter in (*controllers, network.get_parameter("_conv_stem.weight")):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_plugging_leaves_modes_and_statistics_as_they_were() -> None:
    network = EfficientNetLite0(EfficientNetLite0Settings(weights=None, batch_norm="train")).train()
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    state = torch.random.get_rng_state()
    plug_suppression(network, ["head"], "fixed")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in network.named_buffers())
    assert all(module.training for module in network.modules())


class Reuse(nn.Module):
    """One activation for features of two widths, as some networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.ReLU()
        self.alias = self.act

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.alias(self.second(self.act(self.first(x))))
        return out


def test_an_activation_that_runs_twice_takes_a_fixed_bound_at_all_its_places() -> None:
    network = Reuse()
    assert plug_suppression(network, ["act"], "fixed", 0.5) == ("act",)
    assert network.alias is network.act
    with pytest.raises(RecipeError, match=r"act runs 2 times, on 4, 6 channels; a learnable controller belongs to one"):
        plug_suppression(Reuse(), ["act"], "learnable")


@pytest.mark.parametrize("delta", [0.0, -0.1, 1.01, float("nan")])
def test_delta_outside_its_range_is_an_error(delta: float) -> None:
    with pytest.raises(RecipeError, match=r"delta: .* is outside \(0, 1\]"):
        plug_suppression(net(nn.ReLU()), ["1"], "fixed", delta)
    with pytest.raises(ValidationError, match="delta"):
        SuppressionSettings(delta=delta)


def test_delta_with_a_learnable_controller_is_an_error() -> None:
    with pytest.raises(ValidationError, match=r"delta: 0\.3 has no effect with controller: learnable"):
        SuppressionSettings(controller="learnable", delta=0.3)
    with pytest.raises(RecipeError, match=r"suppression\.delta: 0\.3 has no effect with controller: learnable"):
        plug_suppression(net(nn.ReLU()), ["1"], "learnable", 0.3)
    whole = SuppressionSettings().model_dump()
    assert SuppressionSettings.model_validate(whole).controller == "learnable"  # as a recipe written out in full


@pytest.mark.parametrize(
    ("network", "layers", "mode", "message"),
    [
        (lite, ["layer5"], "replace", r"'layer5' matches nothing; the layers are stem, .*head; the activations are st"),
        (lambda: net(nn.ReLU()), ["act"], "replace", r"'act' matches nothing; the activations are 1$"),
        (lambda: net(nn.ReLU()), ["0"], "replace", r"'0' holds no activation to replace; .*mode: follow"),
        (net, ["a"], "replace", r"the activations are none"),
        (lite, ["_bn0"], "follow", r"_bn0 does not run by itself when the network runs"),
        (lambda: net(nn.Flatten()), ["1"], "follow", r"1 gives no feature maps"),
    ],
)  # fmt: skip
def test_layers_that_can_not_be_suppressed_are_named(
    network: Any, layers: Sequence[str], mode: Any, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        plug_suppression(network(), layers, mode=mode)


@pytest.mark.parametrize("mode", ["replace", "follow"])
def test_suppressing_twice_is_an_error(mode: Any) -> None:
    network = lite()
    plug_suppression(network, ["head"], mode=mode)
    with pytest.raises(RecipeError, match="head_act is suppressed already"):
        plug_suppression(network, ["head"], mode=mode)


def test_activations_without_parameters_only() -> None:
    assert all(not list(activation().parameters()) for activation in ACTIVATIONS)


def test_bfloat16_autocast_keeps_the_bound() -> None:
    network = lite()
    plug_suppression(network, ["stage6", "head"])
    with torch.autocast("cpu", torch.bfloat16):
        features = network(torch.randn(1, 3, 64, 64))
        features.float().square().mean().backward()
    assert features.isfinite().all()
