"""What every peer is: a module with its own training parts, and its loss beside the network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcl.batches import Batches
from imcl.models.backbone import Backbone

Tap = Callable[[Tensor], Tensor]


class Context(NamedTuple):
    """What of the training around it a peer may use.

    Attributes:
        another: makes a further network of the same architecture, initialised anew.
        batches: the training set.
        classes: their number.
        noise_rate: the nominal share of wrong labels, for a peer that must know it.
        epochs: of the training.
        generator: the peer's random stream, on the device.
    """

    another: Callable[[], Backbone]
    batches: Batches
    classes: int
    noise_rate: float
    epochs: int
    generator: torch.Generator


class Seen(NamedTuple):
    """What one step gives a peer's loss, in float32.

    Attributes:
        logits: (K, N, classes) of the network's K parts.
        last: the last stage's map, (V * B, D, H, W), the V views one after another.
        labels: int64 (B,).
        indices: int64 (B,), the images' places in the training set.
        progress: the share of training that is done, in 0..1.
        beside: what `run` returned.
    """

    logits: Tensor
    last: Tensor
    labels: Tensor
    indices: Tensor
    progress: float
    beside: Any

    @property
    def network(self) -> Tensor:
        """The network's logits (V * B, classes): the mean over parts that saw the same images."""
        images = len(self.last)
        return self.logits.mean(0) if self.logits.shape[1] == images else self.logits.flatten(0, 1)

    def repeated(self, values: Tensor, samples: int) -> Tensor:
        """What stands for each of B images (B, ...), for `samples` copies of them in order."""
        return values.repeat(samples // len(values), *[1] * (values.ndim - 1))


class Peer(nn.Module):
    """A method beside the ways. Its parameters train with the network's and are then dropped."""

    def run(
        self, model: Backbone, images: Tensor, labels: Tensor, indices: Tensor, tap: Tap
    ) -> tuple[Tensor, Any]:
        """Pass the images through the network, and through what the peer adds.

        Args:
            model: the network that is served.
            images: (V * B, C, H, W), the V views one after another.
            labels: int64 (B,).
            indices: int64 (B,), the images' places in the training set.
            tap: to be called with each of the network's stages, as `Backbone.features` does.

        Returns:
            The last stage's map, and whatever `loss` wants to find in `seen.beside`.
        """
        return model.features(images, tap)[-1], None

    def part_logits(self, last: Tensor, classify: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits (K, N, classes) of the last stage's features (N, D, H, W)."""
        return classify(last.mean((2, 3)))[None]

    def loss(self, seen: Seen) -> dict[str, Tensor]:
        """The loss as terms to be added, by name."""
        raise NotImplementedError


def cross_entropy(seen: Seen, logits: Tensor, **options) -> Tensor:
    """torch's cross-entropy of logits (..., classes) of the step's images; a scalar in nats."""
    flat = logits.flatten(0, -2)
    return F.cross_entropy(flat, seen.repeated(seen.labels, len(flat)), **options)


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(p_T(teacher) || p_T(student)) of logits (N, classes): mean over N, in nats."""
    log_q = F.log_softmax(teacher / temperature, dim=1)
    log_p = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
