"""The backbones by name, each as its convolutions, so that its cost is known without torch.

A backbone is an entry in `BACKBONES` and a module imcl.models.NAME. The entry lists the stages of
that module; a test compares it with the module itself. Any other network is a `ForeignOptions` in
params.yaml.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from imcl.study.spec import FOREIGN_NAME, Open, Options, Text


class Conv(NamedTuple):
    """A convolution followed by BatchNorm, for a square map.

    Attributes:
        inputs: channels that it reads.
        outputs: channels that it makes.
        kernel: side of its filters.
        before: side of the map that it reads.
        side: side of the map that it makes.
    """

    inputs: int
    outputs: int
    kernel: int
    before: int
    side: int

    @property
    def weights(self) -> int:
        return self.kernel**2 * self.inputs * self.outputs

    @property
    def macs(self) -> int:
        """Multiply-adds of one image's forward pass."""
        return self.weights * self.side**2


class Stage(NamedTuple):
    """A stage of a backbone: its convolutions, the widest last."""

    convolutions: Sequence[Conv]

    @property
    def channels(self) -> int:
        return self.convolutions[-1].outputs

    @property
    def side(self) -> int:
        return self.convolutions[-1].side

    @property
    def macs(self) -> int:
        """Multiply-adds of one image's forward pass."""
        return sum(convolution.macs for convolution in self.convolutions)


# The stages for images of a side with so many channels, at a width.
Shape = Callable[[int, int, int], list[Stage]]


def resnet18(side: int, channels: int, width: int) -> list[Stage]:
    """As imcl.models.resnet18."""
    stages = []
    inputs = width
    for number in range(4):
        outputs = width * 2**number
        made = [] if number else [Conv(channels, width, 3, side, side)]
        for stride in (1 if number == 0 else 2, 1):
            after = halved(side) if stride == 2 else side
            if stride != 1 or inputs != outputs:
                made.append(Conv(inputs, outputs, 1, after, after))  # reads every second pixel
            made += [Conv(inputs, outputs, 3, side, after), Conv(outputs, outputs, 3, after, after)]
            inputs, side = outputs, after
        stages.append(Stage(made))
    return stages


def vgg16(side: int, channels: int, width: int) -> list[Stage]:
    """As imcl.models.vgg16."""
    stages = []
    inputs = channels
    for number, (convolutions, multiple) in enumerate([(2, 1), (2, 2), (3, 4), (3, 8), (3, 8)]):
        if number and side > 1:
            side //= 2  # max pooling
        outputs = width * multiple
        made = []
        for _ in range(convolutions):
            made.append(Conv(inputs, outputs, 3, side, side))
            inputs = outputs
        stages.append(Stage(made))
    return stages


def halved(side: int) -> int:
    """The side of a map after a padded convolution at stride 2."""
    return (side + 1) // 2


CHANNELS = 3  # of the images that networks of torchvision and timm read


class ForeignOptions(Options):
    """A network of torchvision or timm."""

    source: Literal["torchvision", "timm"] = Field(description="the library that has the network")
    name: Annotated[str, StringConstraints(pattern=FOREIGN_NAME)] = Field(
        description="the network, as the library names it"
    )
    weights: Open[Text] = Field(
        None,
        description="file with the weights that training starts from: a state_dict that torch.save "
        "wrote; without it they are random",
    )


BACKBONES: dict[str, Shape] = {
    "resnet18": resnet18,
    "vgg16": vgg16,
}
