"""ResNet-38: wide, shallow and pre-activated (model A1), without its classifier.

Wu, Shen and van den Hengel, "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition", Pattern Recognition
2019 (arXiv:1611.10080); with output stride 8 and dropout as AffinityNet and OC-CSE have it: Ahn and Kwak, "Learning
Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised Semantic Segmentation", CVPR 2018;
Kweon et al., "Unlocking the Potential of Ordinary Classifier", ICCV 2021. The names in state dicts are those under
which the ImageNet weights go around in PyTorch, which follow the original's.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn

from camshaft.engine.models.backbone import IMAGENET, Backbone, BackboneBase
from camshaft.engine.models.convolution import Convolution, normalized
from camshaft.engine.models.recompute import run_block

STEM_CHANNELS = 64
CHANNELS = 4096


class LevelShape(NamedTuple):
    """Blocks of two 3×3 convolutions at one resolution; the first block halves it."""

    name: str
    blocks: int
    width: int
    outputs: int


LEVELS = (
    LevelShape("b2", 3, 128, 128),
    LevelShape("b3", 3, 256, 256),
    LevelShape("b4", 6, 512, 512),
    LevelShape("b5", 3, 512, 1024),
)
BOTTLENECKS = {"b6": 2048, "b7": CHANNELS}
"""The two blocks on top, and their outputs; the first halves the resolution once more."""


class ResNet38Settings(BackboneBase):
    """ResNet-38 (wide, A1), 105 M parameters; both papers of AffinityNet and OC-CSE build on it."""

    name: Literal["resnet38"] = "resnet38"
    output_stride: Literal[8, 16, 32] = 8
    """Pixels of the image a feature; below 32, at which it was pretrained, the last strides become dilations."""
    dropout_b6: float = Field(default=0.3, ge=0, lt=1)
    """Share of the channels that b6 leaves out before each of its last two convolutions, while training; OC-CSE's
    ordinary classifier has 0.2."""
    dropout_b7: float = Field(default=0.5, ge=0, lt=1)
    """The same of b7; OC-CSE's ordinary classifier has 0.2."""
    freeze: tuple[str, ...] = Field(default=("conv1a", "b2"), examples=[[]])
    """Layers (conv1a, b2 to b7, bn7) whose parameters do not learn; AffinityNet and OC-CSE freeze conv1a and b2.
    Without pretrained weights set []: frozen layers would stay random."""


class Block(nn.Module):
    """Normalise, rectify, 3×3, twice; added to the input, or to its 1×1 where the shape changes."""

    def __init__(
        self, inputs: int, width: int, outputs: int, *, stride: int, dilations: tuple[int, int], projects: bool
    ) -> None:
        """`stride` is the first 3×3's, `dilations` are those of both; `projects`: bring the input to shape."""
        super().__init__()
        first, second = dilations
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.relu_branch2a = nn.ReLU(inplace=True)
        self.conv_branch2a = Convolution(inputs, width, 3, stride=stride, dilation=first, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(width)
        self.relu_branch2b1 = nn.ReLU(inplace=True)
        self.conv_branch2b1 = Convolution(width, outputs, 3, dilation=second, bias=False)
        self.conv_branch1 = Convolution(inputs, outputs, 1, stride=stride, bias=False) if projects else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        activated: Tensor = self.relu_branch2a(self.bn_branch2a(x_BCHW))
        y = self.relu_branch2b1(normalized(activated, self.conv_branch2a, self.bn_branch2b1))
        out: Tensor = self.conv_branch2b1(y)
        return out + (x_BCHW if self.conv_branch1 is None else self.conv_branch1(activated))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with a quarter, half and all of the outputs, each after normalising and rectifying; added to a 1×1
    of the input."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, dilation: int, dropout: float) -> None:
        """`stride` is the first 1×1's, `dilation` the 3×3's, `dropout` that before the last two convolutions."""
        super().__init__()
        quarter, half = outputs // 4, outputs // 2
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.relu_branch2a = nn.ReLU(inplace=True)
        self.conv_branch2a = Convolution(inputs, quarter, 1, stride=stride, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(quarter)
        self.relu_branch2b1 = nn.ReLU(inplace=True)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = Convolution(quarter, half, 3, dilation=dilation, bias=False)
        self.bn_branch2b2 = nn.BatchNorm2d(half)
        self.relu_branch2b2 = nn.ReLU(inplace=True)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = Convolution(half, outputs, 1, bias=False)
        self.conv_branch1 = Convolution(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        activated: Tensor = self.relu_branch2a(self.bn_branch2a(x_BCHW))
        y = self.dropout_2b1(self.relu_branch2b1(normalized(activated, self.conv_branch2a, self.bn_branch2b1)))
        y = self.dropout_2b2(self.relu_branch2b2(normalized(y, self.conv_branch2b1, self.bn_branch2b2)))
        out: Tensor = self.conv_branch2b2(y) + self.conv_branch1(activated)
        return out


class ResNet38(Backbone):
    """ResNet-38. Features are (B, 4096, h, w), rectified.

    What AffinityNet calls conv4, conv5 and conv6 are the outputs of b5.relu_branch2a (512 channels),
    b6.relu_branch2a (1024) and relu7 (4096).
    """

    ignored_weights = ("fc8.*", "linear1000_*")
    settings: ResNet38Settings

    def __init__(self, settings: ResNet38Settings) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.settings = settings
        self.stride = settings.output_stride
        self.channels = CHANNELS
        self.normalization = IMAGENET
        self._layers: dict[str, tuple[str, ...]] = {"conv1a": ("conv1a",)}
        self.conv1a = Convolution(3, STEM_CHANNELS, 3, bias=False)
        self._add_blocks()
        self.bn7 = nn.BatchNorm2d(CHANNELS)
        self.relu7 = nn.ReLU(inplace=True)
        self._layers["bn7"] = ("bn7", "relu7")
        self.apply_freezing()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 4096, ceil(H / stride), ceil(W / stride))."""
        x: Tensor = self.conv1a(image)
        for level in (*(shape.name for shape in LEVELS), *BOTTLENECKS):
            for name in self._layers[level]:
                x = run_block(x, self.get_submodule(name))
        features: Tensor = self.relu7(self.bn7(x))
        return features

    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """conv1a, b2 to b7 (each with its further blocks, b2_1 and so on) and bn7 with the last ReLU."""
        return self._layers

    def affinity_levels(self) -> tuple[str, ...]:
        """AffinityNet's conv4, conv5 and conv6."""
        return ("b5.relu_branch2a", "b6.relu_branch2a", "relu7")

    def _add_blocks(self) -> None:
        """b2 to b7. A stride beyond the output stride becomes a dilation of the 3×3 filters after it (à trous).

        A convolution that had the stride keeps its dilation: its input is as it was. The dilated network then computes
        the strided one's features, and those between them.
        """
        inputs, reached, dilation = STEM_CHANNELS, 1, 1
        for level in LEVELS:
            before = dilation
            stride, dilation = self._stride_and_dilation(reached, dilation)
            reached *= stride
            names = (level.name, *(f"{level.name}_{number}" for number in range(1, level.blocks)))
            for name in names:
                first = name == level.name
                block = Block(
                    inputs,
                    level.width,
                    level.outputs,
                    stride=stride if first else 1,
                    dilations=(before if first else dilation, dilation),
                    projects=first,
                )
                self.add_module(name, block)
                inputs = level.outputs
            self._layers[level.name] = names
        stride, dilation = self._stride_and_dilation(reached, dilation)
        for name, outputs in BOTTLENECKS.items():
            dropout = self.settings.dropout_b6 if name == "b6" else self.settings.dropout_b7
            self.add_module(name, Bottleneck(inputs, outputs, stride=stride, dilation=dilation, dropout=dropout))
            self._layers[name] = (name,)
            inputs, stride = outputs, 1

    def _stride_and_dilation(self, reached: int, dilation: int) -> tuple[int, int]:
        """Stride of a level's first convolution and dilation of those after it."""
        return (1, dilation * 2) if reached == self.settings.output_stride else (2, dilation)
