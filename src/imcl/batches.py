"""A training set on the device as uint8, and its augmented batches.

Everything random is drawn for a whole epoch at once and applied to whole batches, so no image is
touched alone and nothing waits for the device.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (B, H, W, C) as float32 (B, C, H, W) in channels-last memory, (x / 255 - mean) / std.

    Args:
        images: pixels 0..255.
        mean: (C,), of pixels in 0..1.
        std: (C,), likewise.
    """
    width = images.shape[2]
    # A row of pixels at a time: three channels alone are too short for the machine's vectors.
    rows = images.flatten(2).float().sub_((mean * 255).repeat(width))
    return rows.mul_((1 / (std * 255)).repeat(width)).view(images.shape).permute(0, 3, 1, 2)


def crop_and_flip(images: Tensor, offsets: Tensor, flipped: Tensor, padding: int) -> Tensor:
    """Each image padded with zeros, cropped back at its own offset, mirrored where it says so.

    Args:
        images: uint8 (B, H, W, C).
        offsets: int64 (B, 2), row and column of the crop in 0..2 * padding.
        flipped: bool (B,).
        padding: pixels on every side.

    Returns:
        uint8 (B, H, W, C).
    """
    count, height, width, channels = images.shape
    device = images.device
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    rows = offsets[:, :1] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(count, -1)
    columns = offsets[:, 1:] + torch.where(flipped[:, None], width - 1 - columns, columns)
    # The pixels' places in one long list: six times as fast as an index for each axis.
    rows = rows + torch.arange(count, device=device)[:, None] * padded.shape[1]
    places = rows[:, :, None] * padded.shape[2] + columns[:, None, :]
    return padded.view(-1, channels).index_select(0, places.flatten()).view(images.shape)


class Batches:
    """The training set, shuffled and augmented anew in each epoch.

    Args:
        images: uint8 (N, H, W, C), on the device.
        labels: int64 (N,), on the device.
        mean: (C,), on the device; std likewise.
        padding: pixels of the random crop.
        flip: whether to mirror with probability 1/2.
        batch_size: images in a batch; the incomplete last batch of an epoch is left out.
        shuffling: random stream of the order.
        augmentation: a random stream of crops and flips for each view, the augmentations of an
            image in a batch; so the first view is the same however many there are.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        mean: Tensor,
        std: Tensor,
        padding: int,
        flip: bool,
        batch_size: int,
        shuffling: torch.Generator,
        augmentation: list[torch.Generator],
    ):
        self.images, self.labels = images, labels
        self.mean, self.std = mean, std
        self.padding, self.flip = padding, flip
        self.batch_size = min(batch_size, len(labels))
        self.shuffling, self.augmentation = shuffling, augmentation

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def epoch(self) -> Iterator[tuple[list[Tensor], Tensor, Tensor]]:
        """Yield (views, labels, indices) of each batch.

        `views` are float32 batches (B, C, H, W), labels int64 (B,), indices int64 (B,): the images'
        places in the training set.
        """
        count, device = len(self.labels), self.images.device
        order = torch.randperm(count, generator=self.shuffling, device=device)
        draws = [self._draw(generator, count) for generator in self.augmentation]
        for step in range(len(self)):
            place = slice(step * self.batch_size, (step + 1) * self.batch_size)
            chosen = order[place]
            images = self.images[chosen]
            crops = [
                crop_and_flip(images, offsets[place], flipped[place], self.padding)
                for offsets, flipped in draws
            ]
            views = [normalise(crop, self.mean, self.std) for crop in crops]
            yield views, self.labels[chosen], chosen

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Further images, float32 (B, C, H, W), by their places; augmented by another stream."""
        offsets, flipped = self._draw(generator, len(indices))
        crops = crop_and_flip(self.images[indices], offsets, flipped, self.padding)
        return normalise(crops, self.mean, self.std)

    def _draw(self, generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Offsets (N, 2) and flips (N,) for as many images."""
        drawn = {"generator": generator, "device": self.images.device}
        offsets = torch.randint(2 * self.padding + 1, (count, 2), **drawn)
        return offsets, torch.rand(count, **drawn) < (0.5 if self.flip else 0.0)
