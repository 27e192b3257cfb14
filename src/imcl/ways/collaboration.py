"""Attaches the ways to a network: logits and loss for any training loop."""

import math
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcl.errors import UsageError, unknown
from imcl.ways import DEFAULTS, WAYS, output
from imcl.ways.parts import Parts


class Step(NamedTuple):
    """What one call gives.

    Attributes:
        logits: (B, classes) float32 of the first view, mean over the parts of the output layer.
        loss: the scalar to minimise.
        terms: each loss term before its weight, detached scalars; `cross_entropy` is the first.
    """

    logits: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


def ramp_up(progress: float, share: float) -> float:
    """w = exp(-5 (1 - t / r)^2) up to t = r, then 1: Laine and Aila, "Temporal Ensembling" (2017).

    Args:
        progress: t, the share of training that is done, in 0..1.
        share: r, the share of training over which the weight grows; 0 for none.
    """
    if progress >= share:
        return 1.0
    return math.exp(-5 * (1 - progress / share) ** 2)


class Collaboration:
    """The loss of a network whose own parts teach each other: CE + sum of w(t) weight L.

    Args:
        model: a network with `features(images) -> [F_1 .. F_S]` and `classifier`, as the
            backbones here have, or any other together with `stages` and `classifier`.
        ways: options by way; what is left out is as in `imcl.ways.DEFAULTS`. Empty: plain
            cross-entropy.
        stages: names of the model's submodules whose outputs (B, C, H, W) are the stages, in
            order. For torchvision's ResNets: ["layer1", "layer2", "layer3", "layer4"].
        classifier: name of the submodule that maps the last stage's average (B, D) to logits.
        generator: random stream of the ways' masks and splits, on the model's device.

    Raises:
        UsageError: an unknown way, option or variant.
    """

    def __init__(
        self,
        model: nn.Module,
        ways: dict[str, dict],
        *,
        stages: Sequence[str] | None = None,
        classifier: str = "classifier",
        generator: torch.Generator | None = None,
    ):
        self.model = model
        self.ways = {way: _complete(way, options) for way, options in ways.items()}
        self.generator = generator
        self._losses = {way: import_module(f"imcl.ways.{way}").loss for way in self.ways}
        self._classifier = model.get_submodule(classifier)
        self._kernels = [
            module.weight
            for module in model.modules()
            if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
        ]
        self._captured: list[Tensor] = []
        self._hooked = stages is not None
        for stage in stages or ():
            model.get_submodule(stage).register_forward_hook(
                lambda module, inputs, result: self._captured.append(result)
            )

    @property
    def views(self) -> int:
        """How many augmentations of each image a call needs."""
        augmented = [o for o in self.ways.values() if o["variant"] == "augment"]
        return max((o.get("parts", 2) for o in augmented), default=1)

    def __call__(
        self, images: Tensor | Sequence[Tensor], labels: Tensor, progress: float = 1.0
    ) -> Step:
        """One pass through the network.

        Args:
            images: (B, C, H, W), or for the `augment` variants a sequence of `views` such
                batches: augmentations of the same images.
            labels: int64 (B,).
            progress: the share of training that is done, in 0..1, for the ramp-up.

        Raises:
            UsageError: as many batches as `views` were not given.
        """
        batches = [images] if isinstance(images, Tensor) else list(images)
        if len(batches) != self.views:
            raise UsageError(
                f"{self.views} augmentations of each image are needed, {len(batches)} given; "
                f"pass a list of {self.views} batches, or choose variants other than 'augment'"
            )
        features = self._features(torch.cat(batches) if len(batches) > 1 else batches[0])
        with torch.autocast(features[-1].device.type, enabled=False):
            parts = self._parts([stage.float() for stage in features])
            return self._step(parts, labels, progress)

    def _features(self, images: Tensor) -> list[Tensor]:
        if not self._hooked:
            return self.model.features(images)
        self._captured.clear()
        self.model(images)
        features = list(self._captured)
        self._captured.clear()
        return features

    def _parts(self, features: list[Tensor]) -> Parts:
        last, views = features[-1], self.views
        if "output" in self.ways:
            logits = output.part_logits(
                self.ways["output"], last, self._classifier, views, self.generator
            )
        else:
            logits = self._classifier(last.mean((2, 3)))[None]
        return Parts(logits, features, self._kernels, views)

    def _step(self, parts: Parts, labels: Tensor, progress: float) -> Step:
        samples = parts.logits.shape[:2].numel()
        targets = labels.repeat(samples // len(labels))
        loss = F.cross_entropy(parts.logits.flatten(0, 1), targets)
        terms = {"cross_entropy": loss.detach()}
        for way, options in self.ways.items():
            term = self._losses[way](options, parts)
            loss = loss + ramp_up(progress, options["ramp_up"]) * options["weight"] * term
            terms[way] = term.detach()
        return Step(parts.logits.mean(0)[: len(labels)], loss, terms)


def _complete(way: str, options: dict) -> dict:
    if way not in WAYS:
        raise UsageError(unknown("way", way, WAYS))
    for key in options:
        if key not in DEFAULTS[way]:
            raise UsageError(f"{way}: {unknown('option', key, DEFAULTS[way])}")
    options = {**DEFAULTS[way], **options}
    if options["variant"] not in WAYS[way]:
        raise UsageError(f"{way}: {unknown('variant', options['variant'], WAYS[way])}")
    return options
