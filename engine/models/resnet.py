"""ResNet-50 and ResNet-101 without their classifier, with strides that can become dilations.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. The names in state dicts are torchvision's.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from camshaft.engine.models.backbone import IMAGENET, Backbone, BackboneBase
from camshaft.engine.models.convolution import Convolution, normalized
from camshaft.engine.models.recompute import Blocks

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


class ResNetBase(BackboneBase):
    """Settings that both depths have."""

    output_stride: Literal[8, 16, 32] = 16
    """Pixels of the image a feature; below 32 the last strides become dilations."""
    stride_in_1x1: bool = False
    """Where a block halves the resolution: false, in its 3×3 convolution, as torchvision's weights want it; true, in
    the 1×1 before, as the original's weights (Caffe, Keras) want it."""


class ResNet50Settings(ResNetBase):
    """ResNet-50, 23.5 M parameters."""

    name: Literal["resnet50"] = "resnet50"


class ResNet101Settings(ResNetBase):
    """ResNet-101, 42.5 M parameters."""

    name: Literal["resnet101"] = "resnet101"


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1, each normalised; added to the input, which a 1×1 convolution brings to shape where needed."""

    def __init__(
        self, inputs: int, width: int, *, stride: int, dilation: int, stride_in_1x1: bool, projects: bool
    ) -> None:
        """`dilation` is the 3×3's; `projects`: bring the input to shape."""
        super().__init__()
        outputs = width * EXPANSION
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = Convolution(inputs, width, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = Convolution(width, width, 3, stride=second, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = Convolution(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu3 = nn.ReLU(inplace=True)
        self.downsample: nn.ModuleList | None = None
        if projects:
            self.downsample = nn.ModuleList(
                [Convolution(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)]
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 4 · width, ceil(H / stride), ceil(W / stride))."""
        y = self.relu1(normalized(x_BCHW, self.conv1, self.bn1))
        y = self.relu2(normalized(y, self.conv2, self.bn2))
        y = normalized(y, self.conv3, self.bn3)
        if self.downsample is not None:
            convolution, norm = self.downsample
            assert isinstance(convolution, Convolution)
            assert isinstance(norm, nn.BatchNorm2d)
            x_BCHW = normalized(x_BCHW, convolution, norm)
        out: Tensor = self.relu3(y + x_BCHW)
        return out


class ResNet(Backbone):
    """ResNet-50 or -101. Features are (B, 2048, h, w)."""

    ignored_weights = ("fc.*",)
    settings: ResNet50Settings | ResNet101Settings

    def __init__(self, settings: ResNet50Settings | ResNet101Settings) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.settings = settings
        self.stride = settings.output_stride
        self.channels = WIDTHS[-1] * EXPANSION
        self.normalization = IMAGENET
        self.conv1 = Convolution(3, 64, 7, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages(settings)
        self.apply_freezing()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 2048, ceil(H / stride), ceil(W / stride))."""
        x: Tensor = self.maxpool(self.relu(normalized(image, self.conv1, self.bn1)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x

    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """stem and layer1 to layer4."""
        return {"stem": ("conv1", "bn1", "relu"), **{f"layer{n}": (f"layer{n}",) for n in range(1, 5)}}

    def affinity_levels(self) -> tuple[str, ...]:
        """layer2 to layer4: at output stride 8 all of that stride."""
        return ("layer2", "layer3", "layer4")


def _stages(settings: ResNet50Settings | ResNet101Settings) -> list[Blocks]:
    """The four stages. A stride beyond the output stride becomes a dilation of the 3×3 filters after it (à trous).

    A 3×3 that had the stride itself keeps its dilation: its input is as it was. The dilated network then computes the
    strided one's features, and those between them.
    """
    stages = []
    inputs, reached, dilation = 64, 4, 1
    for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS[settings.name], strict=True)):
        stride = 2 if number else 1
        dilates = stride > 1 and reached == settings.output_stride
        first_dilation = dilation
        if dilates:
            stride, dilation = 1, dilation * 2
            if settings.stride_in_1x1:
                first_dilation = dilation
        reached *= stride
        stage = []
        for index in range(blocks):
            stage.append(
                Bottleneck(
                    inputs,
                    width,
                    stride=stride if index == 0 else 1,
                    dilation=first_dilation if index == 0 else dilation,
                    stride_in_1x1=settings.stride_in_1x1,
                    projects=index == 0,
                )
            )
            inputs = width * EXPANSION
        stages.append(Blocks(*stage))
    return stages
