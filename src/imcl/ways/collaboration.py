"""Attaches the ways to a network: logits and loss for any training loop."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcl.errors import UsageError, unknown
from imcl.peers.peer import Seen
from imcl.ways import DEFAULTS, WAYS, output
from imcl.ways.parts import Parts, Statistics, tap
from imcl.ways.ramp import ramp_up

# What params.yaml's schema says of the same options.
VALID = {
    "weight": lambda value: value >= 0,
    "ramp_up": lambda value: 0 <= value <= 1,
    "temperature": lambda value: value > 0,
    "parts": lambda value: isinstance(value, int) and value >= 2,
    "dropout_rate": lambda value: 0 <= value < 1,
    "centred": lambda value: isinstance(value, bool),
}


class Step(NamedTuple):
    """What one call gives.

    Attributes:
        logits: (B, classes) of the first view, mean over the parts of the output layer; detached.
        loss: the scalar to minimise.
        terms: the loss's terms, detached scalars: first `cross_entropy` or a peer's, then each
            way's before its weight.
    """

    logits: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


class Collaboration:
    """The loss of a network whose own parts teach each other: CE + sum of w(t) weight L.

    The model is not changed: no parameter is added, and between calls nothing is attached to it.

    Args:
        model: a network with `features(images) -> [F_1 .. F_S]` and `classifier`, as the
            backbones here have, or any other together with `stages` and `classifier`.
        ways: options by way; what is left out is as in `imcl.ways.DEFAULTS`. Empty: plain
            cross-entropy.
        views: the least number of augmentations of each image; more than the ways need makes a
            control for them.
        stages: names of the model's submodules whose outputs (B, C, H, W) are the stages, in
            order. For torchvision's ResNets: ["layer1", "layer2", "layer3", "layer4"].
        classifier: name of the submodule that maps the last stage's average (B, D) to logits.
        generator: random stream of the ways' masks and splits, on the model's device.
        peer: a method of `imcl.peers` in the place of plain cross-entropy, for the backbones here;
            its parameters train with the model's.

    Raises:
        UsageError: an unknown way, option, variant or submodule, or a model without what a way
            compares.
    """

    def __init__(
        self,
        model: nn.Module,
        ways: dict[str, dict],
        *,
        views: int = 1,
        stages: Sequence[str] | None = None,
        classifier: str = "classifier",
        generator: torch.Generator | None = None,
        peer: nn.Module | None = None,
    ):
        self.model, self.peer = model, peer
        # One module for the optimizer, and for train() before each epoch.
        self.trained = model if peer is None else nn.ModuleList([model, peer])
        self.ways = {way: _complete(way, options) for way, options in ways.items()}
        self.generator = generator
        modules = {way: import_module(f"imcl.ways.{way}") for way in self.ways}
        self._losses = {way: module.loss for way, module in modules.items()}
        self._wanted = frozenset(
            statistic
            for way, module in modules.items()
            for statistic in getattr(module, "STATISTICS", {}).get(self.ways[way]["variant"], ())
        )
        self._stages, self._classifier = stages, classifier
        named = dict(model.named_modules())
        for name in [*(stages or ()), classifier]:
            if name not in named:
                raise UsageError(unknown("submodule", name, named))
        if stages is None and not hasattr(model, "features"):
            raise UsageError(f"name the stages of {type(model).__name__} with stages=[...]")
        if "kernel" in self.ways and not self._kernels():
            raise UsageError("kernel: the model has no convolution larger than 1 x 1")
        augmented = [o for o in self.ways.values() if o["variant"] == "augment"]
        self.views = max([views, *(o.get("parts", 2) for o in augmented)])
        self._checked = stages is None

    @property
    def generators(self) -> list[torch.Generator]:
        """The random streams that a call draws from."""
        return [g for g in (self.generator, getattr(self.peer, "generator", None)) if g]

    def __call__(
        self,
        images: Tensor | Sequence[Tensor],
        labels: Tensor,
        progress: float = 1.0,
        indices: Tensor | None = None,
    ) -> Step:
        """One pass through the network.

        Args:
            images: (B, C, H, W), or for several `views` a sequence of as many such batches:
                augmentations of the same images.
            labels: int64 (B,).
            progress: the share of training that is done, in 0..1, for the ramp-up.
            indices: int64 (B,), the images' places in the training set, where a peer wants them.

        Raises:
            UsageError: other than `views` batches were given, or batches of other sizes than
                labels, or `classifier` does not take the average of the last stage.
        """
        batches = [images] if isinstance(images, Tensor) else list(images)
        if len(batches) != self.views:
            raise UsageError(
                f"{self.views} augmentations of each image are needed, {len(batches)} given; "
                f"pass a list of {self.views} batches"
                + (", or choose variants other than 'augment'" if self.views > 1 else "")
            )
        if any(len(batch) != len(labels) for batch in batches):
            raise UsageError(f"{len(labels)} labels for batches of {[len(b) for b in batches]}")
        images = torch.cat(batches) if len(batches) > 1 else batches[0]
        stages: list[Statistics] = []

        def look(stage: Tensor) -> Tensor:
            passed, statistics = tap(stage, self._wanted)
            stages.append(statistics)
            return passed

        beside = None
        if self.peer is not None:
            last, beside = self.peer.run(self.model, images, labels, indices, look)
        elif self._stages is None:
            last = self.model.features(images, look)[-1]
        else:
            last = self._hooked(images, look)
        with torch.autocast(last.device.type, enabled=False):
            last = _at_least_float32(last)
            parts = self._parts(last, stages)
            if self.peer is None:
                terms = {"cross_entropy": _cross_entropy(parts.logits, labels)}
            else:
                seen = Seen(parts.logits, last, labels, indices, progress, beside)
                terms = self.peer.loss(seen)
            return self._step(parts, terms, len(labels), progress)

    def _hooked(self, images: Tensor, look: Callable[[Tensor], Tensor]) -> Tensor:
        """The last stage of a model that has no `features`; `look` sees each stage in turn."""
        seen: dict[str, Tensor] = {}

        def at_stage(name: str) -> Callable:
            def hook(module, inputs, result):
                seen[name] = look(result)
                return seen[name]

            return hook

        def at_head(module, inputs):
            seen[""] = inputs[0]

        # Hooks for this call alone: others would keep what every later model(x) computes.
        module = self.model.get_submodule
        handles = [module(s).register_forward_hook(at_stage(s)) for s in self._stages]
        handles.append(module(self._classifier).register_forward_pre_hook(at_head))
        try:
            self.model(images)
        finally:
            for handle in handles:
                handle.remove()
        silent = [name for name in [*self._stages, ""] if name not in seen]
        if silent:
            raise UsageError(f"{silent[0] or self._classifier!r} did not run in the model's pass")
        self._check_head(seen[""], seen[self._stages[-1]])
        return seen[self._stages[-1]]

    def _check_head(self, taken: Tensor, last: Tensor) -> None:
        """Once: that the classifier really works on the average of the last stage."""
        if self._checked:
            return
        average = last.mean((2, 3)) if last.ndim == 4 else last
        close = taken.shape == average.shape and torch.allclose(
            taken.float(), average.float(), rtol=1e-2, atol=1e-3
        )
        if not close:
            raise UsageError(
                f"{self._classifier!r} does not take the average (B, D) of the last stage "
                f"{self._stages[-1]!r}; name the submodule whose output is averaged"
            )
        self._checked = True

    def _classify(self, pooled: Tensor) -> Tensor:
        classifier = self.model.get_submodule(self._classifier)
        dtype = next((p.dtype for p in classifier.parameters()), pooled.dtype)
        return _at_least_float32(classifier(pooled.to(dtype)))

    def _kernels(self) -> list[Tensor]:
        return [
            module.weight
            for module in self.model.modules()
            if isinstance(module, nn.Conv2d)
            and max(module.kernel_size) > 1
            and module.out_channels > 1
        ]

    def _parts(self, last: Tensor, stages: list[Statistics]) -> Parts:
        if "output" in self.ways:
            logits = output.part_logits(
                self.ways["output"], last, self._classify, self.views, self.generator
            )
        elif self.peer is not None:
            logits = self.peer.part_logits(last, self._classify)
        else:
            logits = self._classify(last.mean((2, 3)))[None]
        kernels = [_at_least_float32(weight) for weight in self._kernels()]
        return Parts(logits, stages, kernels, self.views)

    def _step(self, parts: Parts, terms: dict[str, Tensor], count: int, progress: float) -> Step:
        loss = sum(terms.values())
        terms = {name: term.detach() for name, term in terms.items()}
        for way, options in self.ways.items():
            term = self._losses[way](options, parts)
            loss = loss + ramp_up(progress, options["ramp_up"]) * options["weight"] * term
            terms[way] = term.detach()
        views = self.ways.get("output", {}).get("variant") == "augment"
        logits = parts.logits[0] if views else parts.logits.mean(0)
        return Step(logits[:count].detach(), loss, terms)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over parts, views and images; logits (K, V * B, classes), labels (B,)."""
    flat = logits.flatten(0, 1)
    return F.cross_entropy(flat, labels.repeat(len(flat) // len(labels)))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _complete(way: str, options: dict) -> dict:
    if way not in WAYS:
        raise UsageError(unknown("way", way, WAYS))
    for key in options:
        if key not in DEFAULTS[way]:
            raise UsageError(f"{way}: {unknown('option', key, DEFAULTS[way])}")
    options = {**DEFAULTS[way], **options}
    if options["variant"] not in WAYS[way]:
        raise UsageError(f"{way}: {unknown('variant', options['variant'], WAYS[way])}")
    for key, good in VALID.items():
        if key in options and not good(options[key]):
            raise UsageError(f"{way}: {key} cannot be {options[key]!r}")
    return options
