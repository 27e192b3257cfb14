"""The base class of all baselines: a module with its own parts for training, and a loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcl.models.backbone import Backbone, pool

# Called with each of the network's stages (B, C, H, W); returns what the next stage takes.
StageHook = Callable[[Tensor], Tensor]


class TrainingSet(Protocol):
    """The training images, on the device."""

    @property
    def labels(self) -> Tensor:
        """int64 (N,)."""

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images float32 (B, C, H, W) by their sample indices (B,), augmented at random."""


class Context(NamedTuple):
    """The part of the training that a baseline may use.

    Attributes:
        another: makes a further network of the same architecture with new weights.
        training_set: the training images.
        classes: number of classes.
        noise_rate: the share of the training labels that are wrong, for a baseline that has to
            know it. Where nobody knows it, an estimate.
        epochs: of the training.
        generator: the baseline's random stream, on the device.
    """

    another: Callable[[], Backbone]
    training_set: TrainingSet
    classes: int
    noise_rate: float
    epochs: int
    generator: torch.Generator


class Outputs(NamedTuple):
    """What a baseline's loss is computed from in one step; floats are float32 or more.

    Attributes:
        logits: (K, N, classes) of the network's K parts.
        last: the last stage's map, (V * B, D, H, W), the V views in turn; empty for a method that
            needs only the logits, with a network that is no backbone of this package.
        labels: int64 (B,).
        indices: int64 (B,), sample indices in the training set.
        progress: the share of training that is done, in 0..1: a number, or a scalar on the device.
        extra: what `run` returned after the last stage's map.
        images: how many, V * B.
    """

    logits: Tensor
    last: Tensor
    labels: Tensor
    indices: Tensor
    progress: float | Tensor
    extra: Any
    images: int

    @property
    def network(self) -> Tensor:
        """The network's logits (V * B, classes): the mean over parts that saw the same images."""
        alike = self.logits.shape[1] == self.images
        return self.logits.mean(0) if alike else self.logits.flatten(0, 1)

    def repeated(self, values: Tensor, samples: int) -> Tensor:
        """Values of the B images (B, ...), repeated in order to `samples` rows."""
        return values.repeat(samples // len(values), *[1] * (values.ndim - 1))


class BaselineMethod(nn.Module, ABC):
    """A training method to compare with.

    Its parameters train together with the network's. After training only the network is kept.
    """

    generator: torch.Generator | None = None
    views = 1  # augmentations of each image that it compares

    @property
    def only_loss(self) -> bool:
        """Whether it needs nothing of the network but its logits, so that any network will do."""
        own = type(self)
        return own.run is BaselineMethod.run and own.part_logits is BaselineMethod.part_logits

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, hook: StageHook
    ) -> tuple[Tensor, Any]:
        """Pass the images through the network, and through the baseline's own parts.

        Args:
            model: the network that is evaluated.
            images: (V * B, C, H, W), the V views in turn.
            labels: int64 (B,).
            indices: int64 (B,), sample indices in the training set.
            hook: called with each of the network's stages in turn.

        Returns:
            The last stage's map, and what `loss` needs as `outputs.extra`.
        """
        return model.features(images, hook)[-1], None

    def part_logits(self, last: Tensor, classify: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits (K, N, classes) of the last stage's map (N, D, H, W)."""
        return classify(pool(last))[None]

    @abstractmethod
    def loss(self, outputs: Outputs) -> dict[str, Tensor]:
        """The terms of the loss by name: scalars, whose sum is minimised."""


def cross_entropy(outputs: Outputs, logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy, in nats, of logits (..., classes) of the step's images."""
    flat = logits.flatten(0, -2)
    labels = outputs.repeated(outputs.labels, len(flat))
    return F.cross_entropy(flat, labels, label_smoothing=label_smoothing)


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(p_T(teacher) || p_T(student)) of logits (N, classes): mean over N, in nats."""
    log_q = F.log_softmax(teacher / temperature, dim=1)
    log_p = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
