"""What all backbones share: stages, one classifier layer, and the initialisation."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """Stages of a convolutional network, global average pooling, one linear classifier.

    Takes images of 8 x 8 pixels or more: the last map is averaged, whatever its size.

    Args:
        stages: modules in order; each computes the features F_s of its stage.
        channels: of each stage.
        classes: outputs of the classifier.
    """

    def __init__(self, stages: Sequence[nn.Module], channels: list[int], classes: int):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.classifier = nn.Linear(channels[-1], classes)
        # Our choice: He et al. 2015 with fan-out, as torchvision does for both families.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def features(
        self, images: Tensor, hook: Callable[[Tensor], Tensor] = lambda stage: stage
    ) -> list[Tensor]:
        """The stage features [F_1 .. F_S], float (B, C_s, H_s, W_s), of images (B, C, H, W).

        The stage hook `hook` is called with the features of each stage in turn; the next stage
        takes what it returns.
        """
        features = []
        for stage in self.stages:
            images = hook(stage(images))
            features.append(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 or more (B, classes)."""
        return head(self.classifier, pool(self.features(images)[-1]))


def pool(stage: Tensor) -> Tensor:
    """The mean over positions, float32 or more (N, C), of a map (N, C, H, W)."""
    return stage.mean((2, 3), dtype=torch.promote_types(stage.dtype, torch.float32))


def head(layers: nn.Module, pooled: Tensor) -> Tensor:
    """What a head makes of pooled features (N, D), in float32 or more, also under autocast.

    If logits are rounded to bf16, the two largest are equal for about one image in a hundred.
    """
    dtype = next((p.dtype for p in layers.parameters()), pooled.dtype)
    with torch.autocast(pooled.device.type, enabled=False):
        return at_least_float32(layers(pooled.to(dtype)))


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or a float32 copy if it has a shorter type."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the side at stride 1; no bias, since BatchNorm follows."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
