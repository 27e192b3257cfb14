"""What every backbone has: stages, one classifier layer, and how it is initialised."""

from collections.abc import Callable

from torch import Tensor, nn


class Backbone(nn.Module):
    """Stages of a convolutional network, global average pooling, one linear classifier.

    Any image side from 8 pixels up fits, since the last map is averaged whatever its size.

    Args:
        stages: modules in order; each gives the features F_s of its stage.
        channels: of each stage.
        classes: outputs of the classifier.
    """

    def __init__(self, stages: list[nn.Module], channels: list[int], classes: int):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.classifier = nn.Linear(channels[-1], classes)
        # He et al. 2015, fan-out, as torchvision does for both families: a choice.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def features(
        self, images: Tensor, tap: Callable[[Tensor], Tensor] = lambda stage: stage
    ) -> list[Tensor]:
        """The stage features [F_1 .. F_S], float (B, C_s, H_s, W_s), of images (B, C, H, W).

        `tap` is called with each in turn and gives what the next stage takes.
        """
        features = []
        for stage in self.stages:
            images = tap(stage(images))
            features.append(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float (B, classes)."""
        return self.classifier(self.features(images)[-1].mean((2, 3)))


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the side (at stride 1), without bias: BatchNorm follows."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
