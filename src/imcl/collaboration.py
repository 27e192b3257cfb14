"""Attaches the ways to a network: logits and loss for any training loop."""

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Generic, NamedTuple, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from imcl.baselines.baseline import BaselineMethod, Outputs
from imcl.errors import UsageError, shown, unknown
from imcl.models.backbone import Backbone, at_least_float32, head, pool
from imcl.models.classifier import Classifier, Needs, Place, Split, unwrapped
from imcl.study import faults
from imcl.study.options import PAPER_WAYS, Output, Way
from imcl.ways import output
from imcl.ways.parts import NOTHING, Observer, Parts, Stages, mean, total
from imcl.ways.ramp import ramp_up

Model = TypeVar("Model", bound=nn.Module)
Criterion = Callable[[Tensor, Any], Tensor]
IGNORED = -100  # the label that torch's cross-entropy ignores


class Step(NamedTuple):
    """The result of one call.

    Attributes:
        logits: (B, classes) of the first view, mean over the parts of the output layer; detached
            unless the call asked otherwise.
        loss: the scalar to minimise.
        terms: the loss's terms, detached scalars: first `cross_entropy`, `criterion` or the
            baseline's, then each way's, without its weight.
    """

    logits: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


class Collaboration(Generic[Model]):
    """The loss of a network whose own parts teach each other: CE + sum of w(t) weight L.

    The model is not changed: no parameter is added, and between calls nothing is attached to it.
    Its stages and its head are found in the first call; `describe` shows them.

    Args:
        model: any classifier: a module that maps images (B, ...) to logits (B, classes). With
            several processes, the `DistributedDataParallel` that wraps it. Of one that
            `torch.compile` made, the calls that look inside run uncompiled.
        ways: options by way; an option that is left out has its default (see
            `imcl.study.options`). Or the names alone, as a list, for the defaults. Then, if the
            first call has one augmentation of each image, ways that compare several take a variant
            that compares one (`output` takes `dropout`, `intermediate` takes `relation`). Without
            ways: plain cross-entropy.
        views: the least number of augmentations of each image. Without ways, more than one gives a
            control for the ways, which see several augmentations too.
        stages: names of the model's submodules whose outputs are the stages, in order: maps
            (B, C, H, W) or (B, H, W, C), tokens (B, N, C) or features (B, C). Without it: timm's
            `feature_info`, or the last map of each resolution, or the blocks of a transformer at
            quarters of its depth. `kernel` needs none.
        classifier: name of the submodule that maps features (B, D) to logits. Without it: the last
            linear layer. Only the variants `dropout` and `channel` of `output` need it.
        generator: random stream of the ways' masks and splits, on the model's device.
        baseline: a method of `imcl.baselines` instead of plain cross-entropy. One that is more
            than a loss of logits is for the backbones of this package. Its parameters train with
            the model's.
        criterion: the loss of logits (B, classes) and labels, a scalar, instead of cross-entropy;
            the mean over parts and views counts. `output` also takes it for the labels' misfit.

    Attributes:
        model: as given.
        trained: all that trains, as one module: the model, and what a baseline adds to it.
        ways: the options in use, by way.
        views: how many augmentations of each image a call takes.
        calls: how many calls were made.

    Raises:
        UsageError: an unknown way, option, variant or submodule, or a model without the parts that
            a way compares.
    """

    def __init__(
        self,
        model: Model,
        ways: Mapping[str, Mapping[str, Any] | Way] | Sequence[str],
        *,
        views: int = 1,
        stages: Sequence[str] | None = None,
        classifier: str | None = None,
        generator: torch.Generator | None = None,
        baseline: BaselineMethod | None = None,
        criterion: Criterion | None = None,
    ):
        self.model = model
        self.baseline, self.generator, self.criterion = baseline, generator, criterion
        # One module for the optimizer, and for train() before each epoch.
        self.trained = model if baseline is None else nn.ModuleList([model, baseline])
        self.calls = 0
        self._least_views, self._named_parts = views, (stages, classifier)
        self._by_name_alone = not isinstance(ways, Mapping)
        self._choose(_ways(ways))
        if "kernel" in self.ways and not self._kernels():
            raise UsageError("kernel: the model has no convolution larger than 1 x 1")

    def _choose(self, ways: dict[str, Way]) -> None:
        """Take these ways, and what they need."""
        self.ways = ways
        compared = 1 if self.baseline is None else self.baseline.views
        self.views = max([self._least_views, compared, *(way.views for way in self.ways.values())])
        modules = {name: import_module(f"imcl.ways.{name}") for name in self.ways}
        self._losses = {name: module.loss for name, module in modules.items()}
        self._needed = frozenset(
            statistic
            for name, module in modules.items()
            for statistic in getattr(module, "STATISTICS", {}).get(self.ways[name].variant, ())
        )
        self._classifier = self._looked_into(*self._named_parts)

    @property
    def generators(self) -> list[torch.Generator]:
        """The random streams that a call draws from."""
        own = None if self.baseline is None else self.baseline.generator
        found = [stream for stream in (self.generator, own) if stream is not None]
        if not isinstance(self.model, Backbone):  # it may have dropout
            parameter = next(self.model.parameters(), torch.empty(0))
            found.append(global_stream(parameter.device))
        return found

    def describe(self, images: Tensor | None = None) -> None:
        """Print a table of the parts that are found in the model.

        Args:
            images: a batch of what the model takes. Without it: blank images of the size that the
                model states, or of 224 x 224 pixels.

        Raises:
            UsageError: the model does not take such images.
        """
        classifier = self._classifier or Classifier(self.model, Needs(False, None))
        print(classifier.described(images))

    def __call__(
        self,
        images: Tensor | Sequence[Tensor],
        labels: Any,
        progress: float | Tensor = 1.0,
        indices: Tensor | None = None,
        step: int | Tensor | None = None,
        *,
        detach: bool = True,
    ) -> Step:
        """One pass through the network.

        Args:
            images: (B, C, H, W) or what else the model takes, or for several `views` a sequence of
                as many such batches: augmentations of the same images.
            labels: class numbers (B,), of which cross-entropy ignores -100, or probabilities
                (B, classes), as of mixup; for a criterion of your own whatever it takes.
            progress: the share of training that is done, in 0..1, for a baseline: a number, or a
                scalar on the device.
            indices: int64 (B,), the images' sample indices in the training set; a baseline needs
                them.
            step: how many steps of training are done, for the ways' ramp-up: a number, or a scalar
                on the device. By default, the calls so far.
            detach: whether the returned logits are cut off from the graph. If not, a further loss
                of them can be added.

        Raises:
            UsageError: the batches, labels or progress do not fit, indices are missing, or the
                model has not the parts that a way compares.
        """
        if torch.compiler.is_compiling():
            raise UsageError("a collaboration cannot be compiled; compile the model alone")
        batches = self._batches(images, labels)
        if indices is None and self.baseline is not None:
            raise UsageError("a baseline needs the images' sample indices; pass indices=...")
        if not isinstance(progress, Tensor) and not 0 <= progress <= 1:
            raise UsageError(
                f"progress is {progress}; give the share of the training that is done, in 0..1, "
                "such as epoch / epochs"
            )
        if not self.calls:
            _check_wrapped(self.model)
        images = torch.cat(batches) if len(batches) > 1 else batches[0]
        observer = Observer(self._needed)
        logits, last, extra = self._pass(images, labels, indices, observer)
        with torch.autocast(logits.device.type, enabled=False):
            if self.baseline is None or indices is None:
                terms = self._hard_terms(logits, labels)
            else:
                outputs = Outputs(logits, last, labels, indices, progress, extra, len(images))
                terms = self.baseline.loss(outputs)
            parts = self._parts(logits, self._misfit(logits, labels, terms), observer.stages())
            step = self.calls if step is None else step
            self.calls += 1
            return self._step(parts, terms, len(batches[0]), step, detach)

    def _looked_into(
        self, stages: Sequence[str] | None, classifier: str | None
    ) -> Classifier | None:
        """The model with the parts to look at; None for a backbone, which gives them itself."""
        inner = unwrapped(self.model)
        if self.baseline is not None and not self.baseline.only_loss:
            name = _type(self.baseline)
            if not isinstance(self.model, Backbone):
                raise UsageError(
                    f"{name} takes a backbone of imcl.models apart, not {_type(inner)}"
                )
            if stages is not None:
                raise UsageError(f"{name} takes the backbone apart itself; leave stages out")
        if self.baseline is not None and self.criterion is not None:
            raise UsageError("a baseline has a loss of its own; leave the criterion out")
        if isinstance(stages, str) or (stages is not None and not stages):
            raise UsageError(
                f"stages={stages!r} names no stages; give a list of submodules, or leave it out to "
                "find them"
            )
        named = dict(inner.named_modules())
        for name in [*(stages or ()), *([] if classifier is None else [classifier])]:
            if name not in named:
                raise UsageError(unknown("submodule", name, named))
        if isinstance(self.model, Backbone) and stages is None:
            return None
        options, place = self.ways.get("output"), None
        if options is not None and options.views == 1:
            place = Place.AVERAGE if options.variant == "spatial" else Place.HEAD
        return Classifier(self.model, Needs(bool(self._needed), place), stages, classifier)

    def _batches(self, images: Tensor | Sequence[Tensor], labels: Any) -> list[Tensor]:
        """The views' batches, once they and the labels are checked."""
        batches = [images] if isinstance(images, Tensor) else list(images)
        if self._by_name_alone and self._least_views == len(batches) == 1 and not self.calls:
            self._choose({name: _with_one_view(way) for name, way in self.ways.items()})
        if not all(isinstance(batch, Tensor) for batch in batches):
            raise UsageError(
                f"images are {type(images).__name__}; give a tensor, or a list of them"
            )
        if len(batches) != self.views:
            augmented = any(way.views > 1 for way in self.ways.values())
            raise UsageError(
                f"{self.views} augmentations of each image are needed, {len(batches)} given; "
                f"pass a list of {self.views} batches"
                + (", or choose variants other than 'augment'" if augmented else "")
            )
        count = len(batches[0])
        if count == 0:
            raise UsageError("the batch is empty; leave it out")
        if self.criterion is None:
            _check_labels(labels)
        if isinstance(labels, Tensor) and any(len(batch) != len(labels) for batch in batches):
            raise UsageError(f"{len(labels)} labels for batches of {[len(b) for b in batches]}")
        if any(batch.shape != batches[0].shape for batch in batches):
            shapes = " and ".join(str(tuple(batch.shape)) for batch in batches)
            raise UsageError(f"the augmentations' shapes differ: {shapes}; give them one size")
        return batches

    def _pass(
        self, images: Tensor, labels: Tensor, indices: Tensor | None, observer: Observer
    ) -> tuple[Tensor, Tensor, Any]:
        """The parts' logits (K, N, classes), a backbone's last map, and what a baseline adds.

        The map is empty if the model is no backbone.
        """
        if self._classifier is not None:
            split, options = None, self.ways.get("output")
            parts = repeats = 1  # K, and how many of them see the same images
            if isinstance(options, Output):
                parts = repeats = options.parts
                split = self._split(options)
                if split is None:
                    parts, repeats = self.views, 1
            logits = self._classifier(images, observer, split)
            if len(logits) != repeats * len(images):
                raise UsageError(
                    f"the model gives {len(logits)} rows of logits for {repeats * len(images)} "
                    "images; give a model with a row for each image"
                )
            return at_least_float32(logits).unflatten(0, (parts, -1)), NOTHING, None
        assert isinstance(self.model, Backbone)
        if self.baseline is not None and indices is not None:
            last, extra = self.baseline.run(self.model, images, labels, indices, observer)
        else:
            last, extra = self.model.features(images, observer)[-1], None
        with torch.autocast(last.device.type, enabled=False):
            last = at_least_float32(last)
            return self._part_logits(last), last, extra

    def _split(self, options: Output) -> Split | None:
        """What makes the parts of the output layer inside the model, if they are made there."""
        if options.views > 1:
            return None
        return lambda features: output.split(options, features, self.generator).flatten(0, 1)

    def _part_logits(self, last: Tensor) -> Tensor:
        """A backbone's logits (K, N, classes) of its last map."""
        options = self.ways.get("output")
        classify = partial(head, self.model.get_submodule("classifier"))
        if isinstance(options, Output):
            return output.part_logits(options, last, classify, self.views, self.generator)
        if self.baseline is not None:
            return self.baseline.part_logits(last, classify)
        return classify(pool(last))[None]

    def _misfit(self, logits: Tensor, labels: Any, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss of the labels as a share of the cross-entropy of a guess; see `Parts`."""
        if "output" not in self.ways:
            return NOTHING
        if self.baseline is None:
            loss = total(terms.values()).detach()
        else:
            loss = _cross_entropy(logits.detach(), labels)
        return (loss / math.log(max(2, logits.shape[2]))).clamp(0, 1)

    def _parts(self, logits: Tensor, misfit: Tensor, stages: Stages) -> Parts:
        weights = self._kernels() if "kernel" in self.ways else []
        # FSDP leaves them in shards between the passes through their modules.
        whole = [w.full_tensor() if hasattr(w, "full_tensor") else w for w in weights]
        kernels = [at_least_float32(weight) for weight in whole]
        return Parts(logits, stages, kernels, self.views, misfit)

    def _kernels(self) -> list[Tensor]:
        return [
            module.weight
            for module in self.model.modules()
            if isinstance(module, nn.Conv2d)
            and max(module.kernel_size) > 1
            and module.out_channels > 1
        ]

    def _hard_terms(self, logits: Tensor, labels: Any) -> dict[str, Tensor]:
        """What the labels alone teach, from logits (K, N, classes)."""
        images = logits.shape[1] // self.views
        if self.criterion is None:
            if not self.calls:
                _check_range(labels, logits.shape[-1])
            return {"cross_entropy": _cross_entropy(logits, labels)}
        losses = [self.criterion(each, labels) for each in logits.flatten(0, 1).split(images)]
        for loss in losses:
            if not isinstance(loss, Tensor) or loss.ndim:
                found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
                raise UsageError(f"the criterion gives {found}, not a scalar; take its mean")
        return {"criterion": mean(losses)}

    def _step(
        self,
        parts: Parts,
        terms: dict[str, Tensor],
        count: int,
        step: int | Tensor,
        detach: bool,
    ) -> Step:
        loss = total(terms.values())
        terms = {name: term.detach() for name, term in terms.items()}
        lengths = {options.ramp_up_steps for options in self.ways.values()}
        ramps = {length: ramp_up(step, length) for length in lengths}
        for name, options in self.ways.items():
            term = self._losses[name](options, parts)
            weight = ramps[options.ramp_up_steps] * options.weight
            if isinstance(weight, Tensor):
                loss = torch.addcmul(loss, term, weight)
            else:
                loss = torch.add(loss, term, alpha=weight)
            terms[name] = term.detach()
        parts_are_views = "output" in self.ways and self.ways["output"].views > 1
        logits = parts.logits[0] if parts_are_views else parts.logits.mean(0)
        logits = logits[:count]
        return Step(logits.detach() if detach else logits, loss, terms)


def global_stream(device: torch.device) -> torch.Generator:
    """The random stream that torch's modules draw from on a device."""
    if device.type != "cuda":
        return torch.default_generator
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]


def _ways(ways: Mapping[str, Mapping[str, Any] | Way] | Sequence[str]) -> dict[str, Way]:
    """The options by way."""
    if isinstance(ways, Mapping):
        return {name: faults.way(name, options) for name, options in ways.items()}
    names = [ways] if isinstance(ways, str) else ways
    names = [name for given in names for name in (PAPER_WAYS if given == "all" else [given])]
    return {name: faults.way(name, {}) for name in names}


def _with_one_view(way: Way) -> Way:
    """The way, in its first variant that compares what one augmentation gives."""
    if way.views == 1:
        return way
    variants = get_args(type(way).model_fields["variant"].annotation)
    made = (type(way)(variant=variant) for variant in variants)
    return next(way for way in made if way.views == 1)


def _check_wrapped(model: nn.Module) -> None:
    """Raise UsageError if another object wraps the model to reduce its gradients."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    inner = unwrapped(model)
    if any(isinstance(module, DistributedDataParallel) for module in model.modules()):
        return
    wrappers = [found for found in gc.get_objects() if type(found) is DistributedDataParallel]
    if any(unwrapped(wrapper) is inner for wrapper in wrappers):
        raise UsageError(
            f"DistributedDataParallel wraps {_type(inner)}, but the collaboration calls it "
            "without the wrapper, so no gradient would be reduced; give Collaboration the wrapper"
        )


def _check_labels(labels: Any) -> None:
    """Raise UsageError unless labels are class numbers (B,) or probabilities (B, classes)."""
    if not isinstance(labels, Tensor):
        raise UsageError(
            f"labels are {shown(labels)}; give a tensor, or a criterion that takes them"
        )
    numbers = not labels.is_floating_point() and not labels.is_complex()
    if labels.dtype == torch.bool or labels.ndim != (1 if numbers else 2) or labels.is_complex():
        raise UsageError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give class numbers as "
            "integers (B,), probabilities as floats (B, classes), or a criterion that takes them"
        )


def _check_range(labels: Tensor, classes: int) -> None:
    """Raise UsageError if cross-entropy cannot be taken of the labels."""
    if classes < 2:
        raise UsageError(
            f"the model gives {classes} logit for each image, for which cross-entropy is always "
            "zero; give it an output for each class, or pass a criterion"
        )
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise UsageError(f"labels of {labels.shape[1]} classes for logits of {classes}")
        return
    wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= classes))]
    if len(wrong):
        raise UsageError(
            f"label {int(wrong[0])} is out of range; the model has the classes 0 to {classes - 1}"
        )


def _type(model: nn.Module) -> str:
    return type(model).__name__


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over parts, views and images; logits (K, V * B, classes), labels as for a call."""
    flat = logits.flatten(0, 1)
    repeated = labels.repeat(len(flat) // len(labels), *[1] * (labels.ndim - 1))
    repeated = repeated.to(flat.dtype if labels.is_floating_point() else torch.int64)
    try:
        return F.cross_entropy(flat, repeated)
    except (IndexError, RuntimeError):
        _check_range(labels, logits.shape[-1])
        raise
