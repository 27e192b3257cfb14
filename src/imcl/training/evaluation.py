"""Measures of a trained network: accuracy, likelihood, calibration and redundancy."""

import math
from collections.abc import Callable, Iterator
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcl.models.backbone import Backbone, at_least_float32
from imcl.models.classifier import Classifier, Needs
from imcl.records.record import Metrics, Predictions
from imcl.training import memory
from imcl.training.batches import Normalise
from imcl.training.device import exact_products
from imcl.ways import kernel, representation

# Images at once: on a CPU as many, or fewer if they have more pixels; on a GPU as many as take this
# share of its memory.
BATCH = 500
BATCH_PIXELS = 500 * 96**2
MEMORY_SHARE = 1 / 64
MAPS_AT_ONCE = 4  # as large as the first stage's, in float32
BINS = 15
CONFUSION_CLASSES = 20  # a larger matrix is not stored


class Redundancy(TypedDict):
    """How alike the parts of a network are, both in 0..1.

    Attributes:
        channel_correlation: mean squared off-diagonal correlation between a stage's channels,
            mean over stages.
        kernel_cosine: mean squared off-diagonal cosine between a convolution's filters, mean over
            convolutions with k > 1; 0 if there is none.
    """

    channel_correlation: float
    kernel_cosine: float


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, normalise: Normalise, precision: str) -> Tensor:
    """Logits, float32 (N, classes), of uint8 images (N, H, W, C), in evaluation mode.

    With `precision` bf16 the stages run in bf16; pooling and classifier run in float32, as in
    training (on a GPU with products in TF32). Of a network of torchvision or timm all runs in bf16.
    The logits are on the CPU, where
    sums over them have always the same order.
    """
    model.eval()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = [at_least_float32(model(batch)) for batch in _batches(model, images, normalise)]
        return torch.cat(logits).cpu()


def metrics(logits: Tensor, labels: Tensor) -> Metrics:
    """Accuracy (share), nll (nats, mean) and ece of logits (N, classes) for labels (N,).

    With two classes also roc_auc, the area under the ROC curve of the second class's probability.
    """
    logits = logits.double()
    measured: Metrics = {
        "accuracy": (logits.argmax(1) == labels).double().mean().item(),
        "nll": F.cross_entropy(logits, labels).item(),
        "ece": expected_calibration_error(logits.softmax(1), labels),
    }
    if logits.shape[1] == 2:
        from sklearn.metrics import roc_auc_score  # takes 3 s to import

        scores = logits[:, 1] - logits[:, 0]  # in the same order as the probability
        measured["roc_auc"] = float(roc_auc_score(labels, scores))
    return measured


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Sum over bins of equal width of (share of samples) |accuracy - mean confidence|.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equation 3; the bins are
    ((b - 1) / bins, b / bins].

    Args:
        probabilities: (N, classes).
        labels: int64 (N,).
        bins: how many.
    """
    _, confidence, correct = _calibration_sums(probabilities, labels, bins)
    return ((correct - confidence).abs().sum() / len(labels)).item()


def predictions(logits: Tensor, labels: Tensor) -> Predictions:
    """The counts for a calibration curve and a confusion matrix, of logits (N, classes).

    The bins are those of the ECE. More than 20 classes get no confusion matrix, so that records
    stay small.
    """
    logits = logits.double()
    count, confidence, correct = _calibration_sums(logits.softmax(1), labels, BINS)
    found: Predictions = {
        "calibration": {
            "count": count.long().tolist(),
            "confidence": [round(value, 4) for value in confidence.tolist()],
            "correct": correct.long().tolist(),
        }
    }
    classes = logits.shape[1]
    if classes <= CONFUSION_CLASSES:
        pairs = labels * classes + logits.argmax(1)
        found["confusion"] = pairs.bincount(minlength=classes**2).view(classes, classes).tolist()
    return found


def _calibration_sums(probabilities: Tensor, labels: Tensor, bins: int) -> tuple[Tensor, ...]:
    """By bin of confidence: samples, the sum of their confidence, and how many are right."""
    confidence, predicted = probabilities.max(1)
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    values = torch.stack(
        [torch.ones_like(confidence), confidence, (predicted == labels).to(confidence.dtype)]
    )
    return tuple(values.new_zeros(3, bins).index_add_(1, bin_of, values))


@torch.no_grad()
@exact_products()
def redundancy(model: nn.Module, images: Tensor, normalise: Normalise) -> Redundancy:
    """How alike the network's parts are, in float32 over all images (N, H, W, C)."""
    model.eval()
    stages = model.features if isinstance(model, Backbone) else _found_stages(model)
    moments: list[_Moments] = []
    for batch in _batches(model, images, normalise):
        for index, stage in enumerate(stages(batch)):
            positions = stage.permute(0, 2, 3, 1).flatten(0, 2)
            if index == len(moments):
                moments.append(_Moments(positions.mean(0)))
            moments[index].add(positions)
    correlations = [
        representation.mean_squared_off_diagonal(m.covariance()).item() for m in moments
    ]
    kernels = [
        m.weight
        for m in model.modules()
        if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 and m.out_channels > 1
    ]
    cosines = [kernel.cosine(weight.double()).item() for weight in kernels]
    return {
        "channel_correlation": sum(correlations) / len(correlations),
        "kernel_cosine": sum(cosines) / max(1, len(cosines)),
    }


def _found_stages(model: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    """What gives the maps (N, C, H, W) of the stages that are found in any classifier."""
    classifier = Classifier(model, Needs(True, None))

    def maps(batch: Tensor) -> list[Tensor]:
        found: list[Tensor] = []

        def keep(stage: Tensor) -> Tensor:
            found.append(stage)
            return stage

        classifier(batch, keep)
        return found

    return maps


class _Moments:
    """Covariance of C channels over batches of positions (M, C).

    Args:
        pivot: (C,), near the mean, so that products in float32 do not cancel.
    """

    def __init__(self, pivot: Tensor):
        self.pivot, self.count = pivot, 0
        channels = len(pivot)
        self.sums = pivot.new_zeros(channels, dtype=torch.float64)
        self.products = pivot.new_zeros(channels, channels, dtype=torch.float64)

    def add(self, positions: Tensor) -> None:
        positions = positions - self.pivot
        self.count += len(positions)
        self.sums += positions.sum(0).double()
        self.products += (positions.T @ positions).double()

    def covariance(self) -> Tensor:
        average = self.sums / self.count
        return self.products / self.count - torch.outer(average, average)


def _batches(model: nn.Module, images: Tensor, normalise: Normalise) -> Iterator[Tensor]:
    for batch in images.split(_at_once(model, images)):
        yield normalise(batch)


def _at_once(model: nn.Module, images: Tensor) -> int:
    """How many images (N, H, W, C) go through the network at once."""
    pixels = images.shape[1:3].numel()
    if images.device.type == "cpu":
        return min(BATCH, max(1, BATCH_PIXELS // pixels))
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    numbers = pixels if first is None else first.out_channels * pixels // math.prod(first.stride)
    each = MAPS_AT_ONCE * memory.FLOAT * numbers
    return max(1, int(memory.there(images.device) * MEMORY_SHARE / each))
