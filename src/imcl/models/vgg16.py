"""VGG-16 with BatchNorm: Simonyan and Zisserman (ICLR 2015), one classifier layer as on CIFAR.

Max pooling is between the five stages, not after the last: global average pooling follows, and so
the last map keeps more than one position (2 x 2 for images of 32 x 32 pixels).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from imcl.models.backbone import Backbone, conv3x3

CONVOLUTIONS = (2, 2, 3, 3, 3)
MULTIPLES = (1, 2, 4, 8, 8)  # of the first stage's channels


class Halve(nn.Module):
    """Max pooling by 2, unless only one position is left."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x


def build(classes: int, channels: int = 3, width: int = 64) -> Backbone:
    """Five stages of 3 x 3 convolutions, `width` to 8 x `width` channels wide.

    Args:
        classes: outputs of the classifier.
        channels: of the images, 1 or 3.
        width: channels of the first stage; 64 is the published network (14,724,042 parameters
            for 10 classes and 3 channels, without the biases that BatchNorm cancels).
    """
    stages: list[nn.Sequential] = []
    inputs = channels
    for stage, (convolutions, multiple) in enumerate(zip(CONVOLUTIONS, MULTIPLES, strict=True)):
        layers: list[nn.Module] = [Halve()] if stage else []
        for _ in range(convolutions):
            outputs = width * multiple
            layers += [
                conv3x3(inputs, outputs),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        stages.append(nn.Sequential(*layers))
    return Backbone(stages, [width * multiple for multiple in MULTIPLES], classes)
