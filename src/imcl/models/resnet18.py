"""ResNet-18 with the CIFAR stem: He et al., "Deep Residual Learning" (CVPR 2016).

The stem is one 3 x 3 convolution at stride 1 instead of ImageNet's 7 x 7 and pooling.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from imcl.models.backbone import Backbone, conv3x3


class Shortcut(nn.Conv2d):
    """A 1 x 1 convolution of every stride-th pixel, without bias.

    With the stride inside the convolution, oneDNN's gradient of few channels in channels_last order
    is wrong and writes past its memory (github.com/uxlfoundation/oneDNN/issues/6035). So on a CPU
    the block selects these pixels first: by a pooling of single pixels, because the gradient of a
    slice is in another memory order, in which all before it takes longer.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, stride=1 if x.device.type == "cpu" else self.stride)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                Shortcut(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        if x.device.type == "cpu" and self.stride > 1:
            x = F.avg_pool2d(x, 1, self.stride)
        # In place, since nobody reads these maps again: on a CPU a new map costs more than the sum.
        return F.relu(self.bn2(self.conv2(out)).add_(self.shortcut(x)), inplace=True)


def build(classes: int, channels: int = 3, width: int = 64) -> Backbone:
    """Four stages of two blocks, `width` to 8 x `width` channels wide.

    Args:
        classes: outputs of the classifier.
        channels: of the images, 1 or 3.
        width: channels of the first stage; 64 is the published network (11,173,962 parameters
            for 10 classes and 3 channels).
    """
    stages: list[nn.Sequential] = []
    widths: list[int] = []
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        stride = 1 if stage == 0 else 2
        stages.append(
            nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))
        )
        inputs = outputs
        widths.append(outputs)
    stem = nn.Sequential(conv3x3(channels, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    stages[0] = nn.Sequential(*stem, *stages[0])
    return Backbone(stages, widths, classes)
