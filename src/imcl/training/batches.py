"""A training set on the device as uint8, and its augmented batches.

All random numbers of an epoch are drawn at once and applied to whole batches. So no image is
handled on its own, and nothing waits for the device.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_STD = 1e-6  # so that a channel with a single value is not divided by zero


class Normalise(NamedTuple):
    """Scales pixels to mean 0 and standard deviation 1 by channel.

    Attributes:
        mean: (C,), of pixels in 0..1, on the images' device.
        std: (C,), of the same.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def to(cls, mean: Sequence[float], std: Sequence[float], device: torch.device) -> Self:
        """From the statistics of a training set, on the device."""
        scale = torch.tensor(std, device=device).clamp(min=LEAST_STD)
        return cls(torch.tensor(mean, device=device), scale)

    def __call__(self, images: Tensor) -> Tensor:
        """Images uint8 (B, H, W, C) as float32 (B, C, H, W) in channels-last memory."""
        width = images.shape[2]
        # A row of pixels at a time: three channels alone are too short for vector instructions.
        rows = images.flatten(2).float().sub_((self.mean * 255).repeat(width))
        scaled = rows.mul_((1 / (self.std * 255)).repeat(width))
        return scaled.view(images.shape).permute(0, 3, 1, 2)


class Augmentation(NamedTuple):
    """A random crop after padding with zeros, and a random mirror image.

    Attributes:
        padding: pixels on every side.
        flip: whether to mirror with probability 1/2.
    """

    padding: int
    flip: bool

    def draw(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Offsets int64 (N, 2) and mirroring bool (N,) of N images, on the stream's device."""
        size, device = 2 * self.padding + 1, stream.device
        offsets = torch.randint(size, (count, 2), generator=stream, device=device)
        drawn = torch.rand(count, generator=stream, device=device)
        return offsets, drawn < (0.5 if self.flip else 0.0)

    def apply(self, images: Tensor, offsets: Tensor, flipped: Tensor) -> Tensor:
        """Each image padded, cropped to its size at its own offset, mirrored if it is `flipped`.

        Args:
            images: uint8 (B, H, W, C).
            offsets: int64 (B, 2), row and column of the crop in 0..2 * padding.
            flipped: bool (B,).

        Returns:
            uint8 (B, H, W, C).
        """
        count, height, width, channels = images.shape
        device, padding = images.device, self.padding
        padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        rows = offsets[:, :1] + torch.arange(height, device=device)
        columns = torch.arange(width, device=device).expand(count, -1)
        columns = offsets[:, 1:] + torch.where(flipped[:, None], width - 1 - columns, columns)
        # One index into the list of all pixels: six times as fast as an index for each axis.
        rows = rows + torch.arange(count, device=device)[:, None] * padded.shape[1]
        pixels = rows[:, :, None] * padded.shape[2] + columns[:, None, :]
        return padded.view(-1, channels).index_select(0, pixels.flatten()).view(images.shape)


class Batch(NamedTuple):
    """What one step trains on.

    Attributes:
        views: float32 (B, C, H, W) each: augmentations of the same images.
        labels: int64 (B,).
        indices: int64 (B,), sample indices in the training set.
    """

    views: list[Tensor]
    labels: Tensor
    indices: Tensor


class Draws(NamedTuple):
    """The random numbers of an epoch of N images, on their device.

    Attributes:
        order: int64 (N,), sample indices.
        augmentations: for each view what `Augmentation.draw` gives, in that order.
    """

    order: Tensor
    augmentations: list[tuple[Tensor, Tensor]]


class Batches:
    """The training set, shuffled and augmented anew in each epoch.

    Args:
        images: uint8 (N, H, W, C), on the device.
        labels: int64 (N,), on the device.
        normalise: applied to every image.
        augmentation: applied before that.
        batch_size: images in a batch; the incomplete last batch of an epoch is left out.
        shuffling: random stream of the order.
        views: a random stream of augmentations for each view. So the first view does not depend
            on the number of views.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        normalise: Normalise,
        augmentation: Augmentation,
        *,
        batch_size: int,
        shuffling: torch.Generator,
        views: Sequence[torch.Generator],
    ):
        self.images, self.labels = images, labels
        self.normalise, self.augmentation = normalise, augmentation
        self.batch_size = min(batch_size, len(labels))
        self.shuffling, self.views = shuffling, views

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    @property
    def generators(self) -> list[torch.Generator]:
        """The random streams that an epoch draws from."""
        return [self.shuffling, *self.views]

    def draw(self) -> Draws:
        """Draw the order and the augmentations of an epoch."""
        count, device = len(self.labels), self.images.device
        order = torch.randperm(count, generator=self.shuffling, device=device)
        return Draws(order, [self.augmentation.draw(count, stream) for stream in self.views])

    def batch(self, draws: Draws, positions: slice | Tensor) -> Batch:
        """A batch of an epoch.

        Args:
            draws: of the epoch.
            positions: of the batch's images in the epoch's order; int64 (B,) on the device, or a
                slice.
        """
        indices = draws.order[positions]
        images = self.images[indices]
        crops = [
            self.augmentation.apply(images, offsets[positions], flipped[positions])
            for offsets, flipped in draws.augmentations
        ]
        return Batch([self.normalise(crop) for crop in crops], self.labels[indices], indices)

    def epoch(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        draws = self.draw()
        return (self.batch(draws, self.positions(step)) for step in range(len(self)))

    def positions(self, step: int) -> slice:
        """Where the images of a step, counted from 0, are in an epoch's order."""
        return slice(step * self.batch_size, (step + 1) * self.batch_size)

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images float32 (B, C, H, W) by their sample indices, augmented by another stream."""
        offsets, flipped = self.augmentation.draw(len(indices), generator)
        return self.normalise(self.augmentation.apply(self.images[indices], offsets, flipped))
