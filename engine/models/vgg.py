"""VGG-16 without its fully connected layers, in the forms of DRS and of DeepLab-LargeFOV.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015; as modified in
Kim, Han and Kim, "Discriminative Region Suppression for Weakly-Supervised Semantic Segmentation", AAAI 2021, and in
Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", ICLR 2015.
The names in state dicts are torchvision's.
"""

import math
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from camshaft.engine.models.backbone import IMAGENET, Backbone, BackboneBase
from camshaft.engine.models.convolution import Convolution
from camshaft.engine.models.parameters import mark_new
from camshaft.engine.models.recompute import run_block

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
EXTRA_CHANNELS = 512
EXTRA_CONVOLUTIONS = 3
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)


class VGG16Settings(BackboneBase):
    """VGG-16; 14.7 M parameters, 21.8 M in DRS's form."""

    name: Literal["vgg16"] = "vgg16"
    output_stride: Literal[8, 16] = 8
    """Pixels of the image a feature. At 8 the fourth pooling has stride 1 and the fifth block dilation 2."""
    form: Literal["drs", "largefov"] = "drs"
    """drs: poolings 2×2 (the fourth 3×3 where its stride is 1), then three new 3×3 convolutions of 512 channels, the
    sixth layer; largefov: DeepLab's, all poolings 3×3, the fifth and an average pooling with stride 1, no new layer."""


class _Features(nn.Sequential):
    """Convolutions, activations and poolings, all named by their index; up to each pooling they are one block."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Sequential's name
        """(B, 3, H, W) to the last block's (B, K, h, w)."""
        block: list[nn.Module] = []
        for module in self:
            if block and isinstance(block[-1], POOLINGS) and not isinstance(module, POOLINGS):
                input = run_block(input, *block)  # noqa: A001
                block = []
            block.append(module)
        return run_block(input, *block)


class VGG16(Backbone):
    """VGG-16's convolutions. Features are (B, 512, h, w)."""

    ignored_weights = ("classifier.*",)
    settings: VGG16Settings

    def __init__(self, settings: VGG16Settings) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.settings = settings
        self.stride = settings.output_stride
        self.channels = EXTRA_CHANNELS
        self.normalization = IMAGENET
        self._layers: dict[str, tuple[str, ...]] = {}
        self.features = self._features()
        if settings.form == "drs":
            self.extra = mark_new(_extra_convolutions(self.channels))
            self._layers["layer6"] = ("extra",)
        self.apply_freezing()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 512, ceil(H / stride), ceil(W / stride))."""
        x: Tensor = self.features(image)
        if self.settings.form == "drs":
            x = run_block(x, self.extra)
        return x

    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """layer1 to layer5, VGG's blocks, and, in DRS's form, layer6, the new convolutions (Table 2 of the paper)."""
        return self._layers

    def affinity_levels(self) -> tuple[str, ...]:
        """layer4 to layer6 in DRS's form; the other has no third layer of that depth."""
        return ("layer4", "layer5", "layer6") if self.settings.form == "drs" else ()

    def _features(self) -> nn.Sequential:
        """The blocks with their poolings, in torchvision's order, so that each convolution has its index there."""
        modules: list[nn.Module] = []
        inputs = 3
        for number, widths in enumerate(BLOCKS, start=1):
            dilation = 2 if number == 5 and self.settings.output_stride == 8 else 1
            start = len(modules)
            for width in widths:
                modules += [Convolution(inputs, width, 3, dilation=dilation), nn.ReLU(inplace=True)]
                inputs = width
            self._layers[f"layer{number}"] = tuple(f"features.{index}" for index in range(start, len(modules)))
            modules += self._poolings(number)
        return _Features(*modules)

    def _poolings(self, number: int) -> list[nn.Module]:
        """What follows block `number`.

        Sizes are rounded up, so that h is ceil(H / stride) for every H. DRS's code rounds them down, which gives other
        features than these for sides such as the paper's 321, and the same for whole strides.
        """
        large = self.settings.form == "largefov"
        if number == 5:
            return [nn.MaxPool2d(3, stride=1, padding=1), nn.AvgPool2d(3, stride=1, padding=1)] if large else []
        if number == 4 and self.settings.output_stride == 8:
            return [nn.MaxPool2d(3, stride=1, padding=1)]
        if large:
            return [nn.MaxPool2d(3, stride=2, padding=1)]
        return [nn.MaxPool2d(2, stride=2, ceil_mode=True)]


def _extra_convolutions(inputs: int) -> nn.Sequential:
    """DRS's three 3×3 convolutions; weights N(0, √(2 / (9 · outputs))), biases 0, as its authors' code has it."""
    modules: list[nn.Module] = []
    for _ in range(EXTRA_CONVOLUTIONS):
        convolution = Convolution(inputs, EXTRA_CHANNELS, 3)
        nn.init.normal_(convolution.weight, std=math.sqrt(2 / (9 * EXTRA_CHANNELS)))
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
        modules += [convolution, nn.ReLU(inplace=True)]
        inputs = EXTRA_CHANNELS
    return nn.Sequential(*modules)
