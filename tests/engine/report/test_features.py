"""Mean feature maps of layers, by hand."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from camshaft.engine.models import Suppression
from camshaft.engine.report.features import RAMP, coloured, has_suppression, layer_means, unsuppressed


class Two(nn.Module):
    """Two layers: the first doubles, then suppresses; the second pools."""

    def __init__(self, delta: float = 0.5) -> None:
        super().__init__()
        self.widen = nn.Conv2d(3, 3, 1, bias=False)
        self.suppression = Suppression(3, "fixed", delta, rectifies=True)
        self.pool = nn.AvgPool2d(2)
        with torch.no_grad():
            self.widen.weight.copy_(2 * torch.eye(3)[:, :, None, None])

    def layers(self) -> Mapping[str, tuple[str, ...]]:
        return {"layer1": ("widen", "suppression"), "layer2": ("pool",)}

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.suppression(self.widen(x)))
        return pooled


def image() -> Tensor:
    values = torch.tensor([[0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 2.0, 4.0]])
    return values.expand(1, 3, 2, 4).contiguous()


def test_the_mean_over_channels_from_0_to_1_after_the_layer_s_last_module() -> None:
    means = layer_means(Two().eval(), image())
    assert list(means) == ["layer1", "layer2"]
    # Doubled: 0 2 4 8; suppressed at half of the maximum: 0 2 4 4; to unit: 0 .5 1 1.
    assert means["layer1"].tolist() == [[0.0, 0.5, 1.0, 1.0]] * 2
    assert means["layer2"].tolist() == [[0.0, 1.0]]


def test_switched_off_suppression_leaves_the_network_itself_alone() -> None:
    network = Two().eval()
    plain = unsuppressed(network)
    assert has_suppression(network)
    assert layer_means(plain, image())["layer1"].tolist() == [[0.0, 0.25, 0.5, 1.0]] * 2
    assert layer_means(network, image())["layer1"].tolist() == [[0.0, 0.5, 1.0, 1.0]] * 2
    assert not has_suppression(nn.Sequential(nn.ReLU()))


def test_a_learnable_controller_is_switched_off_too() -> None:
    network = nn.Sequential(Suppression(3, "learnable", 0.5, rectifies=True))
    assert torch.equal(unsuppressed(network)(image()), image())
    assert not torch.equal(network(image()), image())


def test_a_constant_layer_is_zero() -> None:
    assert not layer_means(Two(), torch.ones(1, 3, 2, 4))["layer1"].any()


def test_a_network_without_layers_by_name() -> None:
    with pytest.raises(TypeError, match="ReLU has no layers by name"):
        layer_means(nn.ReLU(), image())


def test_colours_go_from_dark_to_light() -> None:
    values = np.linspace(0, 1, 5, dtype=np.float32)[None].repeat(2, 0)
    drawn = coloured(values, (2, 5))
    assert drawn.tolist() == [RAMP.astype(np.uint8).tolist()] * 2
    lightness = coloured(np.linspace(0, 1, 50, dtype=np.float32)[None], (1, 50)).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness[0]) > 0).all()
