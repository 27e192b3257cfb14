"""Attaches the ways to a network: logits and loss for any training loop."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcl.baselines.baseline import BaselineMethod, Outputs, StageHook
from imcl.errors import UsageError, unknown
from imcl.models.backbone import Backbone, at_least_float32, head, pool
from imcl.study import faults
from imcl.study.options import Output, Way
from imcl.ways import output
from imcl.ways.parts import NOTHING, Observer, Parts, Stages, total
from imcl.ways.ramp import ramp_up

Model = TypeVar("Model", bound=nn.Module)


class Step(NamedTuple):
    """The result of one call.

    Attributes:
        logits: (B, classes) of the first view, mean over the parts of the output layer; detached.
        loss: the scalar to minimise.
        terms: the loss's terms, detached scalars: first `cross_entropy` or the baseline's, then
            each way's, without its weight.
    """

    logits: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


@runtime_checkable
class HasFeatures(Protocol):
    """A network that returns its stages' features, such as the backbones of this package."""

    def features(self, images: Tensor, hook: StageHook) -> list[Tensor]:
        """The stage features [F_1 .. F_S]; the next stage takes what `hook` returns for each."""


class Collaboration(Generic[Model]):
    """The loss of a network whose own parts teach each other: CE + sum of w(t) weight L.

    The model is not changed: no parameter is added, and between calls nothing is attached to it.

    Args:
        model: a network with `features(images, hook) -> [F_1 .. F_S]` and `classifier`, as the
            backbones here have, or any other together with `stages` and `classifier`.
        ways: options by way; an option that is left out has its default (see
            `imcl.study.options`). Without ways: plain cross-entropy.
        views: the least number of augmentations of each image. Without ways, more than one gives a
            control for the ways, which see several augmentations too.
        stages: names of the model's submodules whose outputs (B, C, H, W) are the stages, in
            order. For torchvision's ResNets: ["layer1", "layer2", "layer3", "layer4"].
        classifier: name of the submodule that maps the last stage's average (B, D) to logits.
        generator: random stream of the ways' masks and splits, on the model's device.
        baseline: a method of `imcl.baselines` instead of plain cross-entropy, for the backbones
            of this package. Its parameters train with the model's.

    Raises:
        UsageError: an unknown way, option, variant or submodule, or a model without the parts that
            a way compares.
    """

    def __init__(
        self,
        model: Model,
        ways: Mapping[str, Mapping[str, Any] | Way],
        *,
        views: int = 1,
        stages: Sequence[str] | None = None,
        classifier: str = "classifier",
        generator: torch.Generator | None = None,
        baseline: BaselineMethod | None = None,
    ):
        self.model = model
        self.baseline, self.generator = baseline, generator
        # One module for the optimizer, and for train() before each epoch.
        self.trained = model if baseline is None else nn.ModuleList([model, baseline])
        self.ways = {name: faults.way(name, options) for name, options in ways.items()}
        compared = 1 if baseline is None else baseline.views
        self.views = max([views, compared, *(way.views for way in self.ways.values())])
        self.calls = 0
        modules = {name: import_module(f"imcl.ways.{name}") for name in self.ways}
        self._losses = {name: module.loss for name, module in modules.items()}
        self._needed = frozenset(
            statistic
            for name, module in modules.items()
            for statistic in getattr(module, "STATISTICS", {}).get(self.ways[name].variant, ())
        )
        named = dict(model.named_modules())
        for name in [*(stages or ()), classifier]:
            if name not in named:
                raise UsageError(unknown("submodule", name, named))
        self._classifier = classifier
        self._run = _pass_through(model, baseline, stages, classifier)
        if "kernel" in self.ways and not self._kernels():
            raise UsageError("kernel: the model has no convolution larger than 1 x 1")

    @property
    def generators(self) -> list[torch.Generator]:
        """The random streams that a call draws from."""
        own = None if self.baseline is None else self.baseline.generator
        return [stream for stream in (self.generator, own) if stream is not None]

    def __call__(
        self,
        images: Tensor | Sequence[Tensor],
        labels: Tensor,
        progress: float | Tensor = 1.0,
        indices: Tensor | None = None,
        step: int | Tensor | None = None,
    ) -> Step:
        """One pass through the network.

        Args:
            images: (B, C, H, W), or for several `views` a sequence of as many such batches:
                augmentations of the same images.
            labels: int64 (B,).
            progress: the share of training that is done, in 0..1, for a baseline: a number, or a
                scalar on the device.
            indices: int64 (B,), the images' sample indices in the training set; a baseline needs
                them.
            step: how many steps of training are done, for the ways' ramp-up: a number, or a scalar
                on the device. By default, the calls so far.

        Raises:
            UsageError: the number of batches is not `views`, a batch has another size than
                `labels`, indices are missing, or `classifier` does not take the average of the
                last stage.
        """
        batches = [images] if isinstance(images, Tensor) else list(images)
        if len(batches) != self.views:
            augmented = any(way.views > 1 for way in self.ways.values())
            raise UsageError(
                f"{self.views} augmentations of each image are needed, {len(batches)} given; "
                f"pass a list of {self.views} batches"
                + (", or choose variants other than 'augment'" if augmented else "")
            )
        if any(len(batch) != len(labels) for batch in batches):
            raise UsageError(f"{len(labels)} labels for batches of {[len(b) for b in batches]}")
        if indices is None and self.baseline is not None:
            raise UsageError("a baseline needs the images' sample indices; pass indices=...")
        step = self.calls if step is None else step
        self.calls += 1
        images = torch.cat(batches) if len(batches) > 1 else batches[0]
        observer = Observer(self._needed)
        last, extra = self._run(images, labels, indices, observer)
        with torch.autocast(last.device.type, enabled=False):
            last = at_least_float32(last)
            logits = self._logits(last)
            if self.baseline is None or indices is None:
                terms = {"cross_entropy": _cross_entropy(logits, labels)}
            else:
                outputs = Outputs(logits, last, labels, indices, progress, extra)
                terms = self.baseline.loss(outputs)
            parts = self._parts(logits, labels, observer.stages())
            return self._step(parts, terms, len(labels), step)

    def _logits(self, last: Tensor) -> Tensor:
        """(K, N, classes) of the K parts of the output layer."""
        options = self.ways.get("output")
        if isinstance(options, Output):
            return output.part_logits(options, last, self._classify, self.views, self.generator)
        if self.baseline is not None:
            return self.baseline.part_logits(last, self._classify)
        return self._classify(pool(last))[None]

    def _parts(self, logits: Tensor, labels: Tensor, stages: Stages) -> Parts:
        weights = self._kernels() if "kernel" in self.ways else []
        kernels = [at_least_float32(weight) for weight in weights]
        misfit = _misfit(logits.detach(), labels) if "output" in self.ways else NOTHING
        return Parts(logits, stages, kernels, self.views, misfit)

    def _classify(self, pooled: Tensor) -> Tensor:
        return head(self.model.get_submodule(self._classifier), pooled)

    def _kernels(self) -> list[Tensor]:
        return [
            module.weight
            for module in self.model.modules()
            if isinstance(module, nn.Conv2d)
            and max(module.kernel_size) > 1
            and module.out_channels > 1
        ]

    def _step(self, parts: Parts, terms: dict[str, Tensor], count: int, step: int | Tensor) -> Step:
        loss = total(terms.values())
        terms = {name: term.detach() for name, term in terms.items()}
        lengths = {options.ramp_up_steps for options in self.ways.values()}
        ramps = {length: ramp_up(step, length) for length in lengths}
        for name, options in self.ways.items():
            term = self._losses[name](options, parts)
            loss = loss + ramps[options.ramp_up_steps] * options.weight * term
            terms[name] = term.detach()
        parts_are_views = "output" in self.ways and self.ways["output"].views > 1
        logits = parts.logits[0] if parts_are_views else parts.logits.mean(0)
        return Step(logits[:count].detach(), loss, terms)


class NamedStages:
    """A model without `features`, whose stages are submodules with known names.

    Args:
        model: the network.
        stages: names of the submodules, in order.
        classifier: name of the submodule that must take the average of the last stage.
    """

    def __init__(self, model: nn.Module, stages: Sequence[str], classifier: str):
        self.model, self.stages, self.classifier = model, list(stages), classifier
        self._checked = False

    def features(self, images: Tensor, hook: StageHook) -> list[Tensor]:
        """As `Backbone.features`."""
        found: dict[str, Tensor] = {}

        def at_stage(name: str) -> Callable[..., Tensor]:
            def forward_hook(module: nn.Module, inputs: tuple[Any, ...], result: Tensor) -> Tensor:
                found[name] = hook(result)
                return found[name]

            return forward_hook

        def at_classifier(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            found[self.classifier] = inputs[0]

        # Hooks for this call only: permanent ones would also run in every later model(x).
        module = self.model.get_submodule
        handles = [module(name).register_forward_hook(at_stage(name)) for name in self.stages]
        handles.append(module(self.classifier).register_forward_pre_hook(at_classifier))
        try:
            self.model(images)
        finally:
            for handle in handles:
                handle.remove()
        for name in [*self.stages, self.classifier]:
            if name not in found:
                raise UsageError(f"{name!r} did not run when the model was called")
        if not self._checked:
            self._check(found[self.classifier], found[self.stages[-1]])
            self._checked = True
        return [found[name] for name in self.stages]

    def _check(self, taken: Tensor, last: Tensor) -> None:
        """Raise UsageError if the classifier does not take the average of the last stage."""
        average = last.mean((2, 3)) if last.ndim == 4 else last
        close = taken.shape == average.shape and torch.allclose(
            taken.float(), average.float(), rtol=1e-2, atol=1e-3
        )
        if not close:
            raise UsageError(
                f"{self.classifier!r} does not take the average (B, D) of the last stage "
                f"{self.stages[-1]!r}; name the submodule whose output is averaged"
            )


def _pass_through(
    model: nn.Module,
    baseline: BaselineMethod | None,
    stages: Sequence[str] | None,
    classifier: str,
) -> Callable[..., tuple[Tensor, Any]]:
    """A function that passes a batch through the network; see `BaselineMethod.run`."""
    if baseline is not None:
        if not isinstance(model, Backbone):
            raise UsageError(f"a baseline needs a backbone of imcl.models, not {_type(model)}")
        return partial(baseline.run, model)
    if stages is not None:
        network: HasFeatures = NamedStages(model, stages, classifier)
    elif isinstance(model, HasFeatures):
        network = model
    else:
        raise UsageError(f"name the stages of {_type(model)} with stages=[...]")

    def run(
        images: Tensor, labels: Tensor, indices: Tensor | None, hook: StageHook
    ) -> tuple[Tensor, None]:
        return network.features(images, hook)[-1], None

    return run


def _type(model: nn.Module) -> str:
    return type(model).__name__


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over parts, views and images; logits (K, V * B, classes), labels (B,)."""
    flat = logits.flatten(0, 1)
    return F.cross_entropy(flat, labels.repeat(len(flat) // len(labels)))


def _misfit(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy as a share of that of a guess; see `Parts`."""
    return (_cross_entropy(logits, labels) / math.log(max(2, logits.shape[2]))).clamp(max=1)
