"""The network that a seed trains: a backbone as the seed initialises it, with ways and baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from imcl.baselines.baseline import BaselineMethod, Context, TrainingSet
from imcl.collaboration import Collaboration, global_stream
from imcl.models.backbone import Backbone
from imcl.models.foreign import Blueprint
from imcl.study.options import Baseline, Way
from imcl.training.streams import stream

Module = TypeVar("Module", bound=nn.Module)


class Architecture(NamedTuple):
    """A backbone for images of a shape.

    Attributes:
        backbone: name of a module in `imcl.models`, or a network of torchvision or timm.
        width: channels of the first stage.
        shape: height, width and channels of the images.
        classes: outputs of the classifier.
    """

    backbone: str | Blueprint
    width: int
    shape: Sequence[int]
    classes: int


@dataclass(frozen=True)
class Method:
    """How a network is trained, besides its step size and schedule.

    Attributes:
        ways: their options by name.
        baseline: name and options of the baseline that trains instead of plain cross-entropy.
        least_views: augmentations of each image, if the ways and the baseline do not compare more.
        noise_rate: the share of the training labels that are wrong, for a baseline that has to
            know it.
        epochs: of the training, for a baseline whose loss depends on them.
    """

    ways: Mapping[str, Way] = field(default_factory=dict)
    baseline: tuple[str, Baseline] | None = None
    least_views: int = 1
    noise_rate: float = 0.0
    epochs: int = 1

    @property
    def views(self) -> int:
        """Augmentations of each image in a step."""
        compared = 1 if self.baseline is None else self.baseline[1].views
        return max([self.least_views, compared, *(way.views for way in self.ways.values())])


def build(backbone: str | Blueprint, width: int, shape: Sequence[int], classes: int) -> nn.Module:
    """The untrained network of an `Architecture`, drawn from torch's global random stream.

    Raises:
        ImclError: a network of torchvision or timm cannot be built; see `Blueprint.build`.
    """
    if isinstance(backbone, Blueprint):
        return backbone.build(shape[0], classes)
    model: Backbone = import_module(f"imcl.models.{backbone}").build(classes, shape[2], width)
    return model


def assemble(
    architecture: Architecture, method: Method, seed: int, training_set: TrainingSet
) -> Collaboration[nn.Module]:
    """The network with its ways and baseline, on the training set's device.

    The initial weights depend on the seed, not on the method, so that methods can be compared seed
    by seed. So does what a network of torchvision or timm draws in training, such as its dropout.
    """
    device = training_set.labels.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(*architecture)
    model = _placed(model, device)
    baseline = _baseline(architecture, method, seed, training_set, model)  # draws from all streams
    if not isinstance(model, Backbone):
        global_stream(device).manual_seed(stream(seed, "global", device).initial_seed())
    return Collaboration(
        model,
        method.ways,
        views=method.views,
        generator=stream(seed, "ways", device),
        baseline=baseline,
    )


def _baseline(
    architecture: Architecture,
    method: Method,
    seed: int,
    training_set: TrainingSet,
    model: nn.Module,
) -> BaselineMethod | None:
    """The baseline, its own weights initialised by a seed of their own."""
    if method.baseline is None:
        return None
    name, options = method.baseline
    device = training_set.labels.device
    context = Context(
        another=partial(_another, architecture),
        training_set=training_set,
        classes=architecture.classes,
        noise_rate=method.noise_rate,
        epochs=method.epochs,
        generator=stream(seed, "baseline", device),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "networks", torch.device("cpu")).initial_seed())
        module = import_module(f"imcl.baselines.{name}")
        baseline: BaselineMethod = module.build(model, options, context)
    return _placed(baseline, device)


def _another(architecture: Architecture) -> Backbone:
    made = build(*architecture)
    assert isinstance(made, Backbone), "params.yaml is checked: others have no such baseline"
    return made


def _placed(module: Module, device: torch.device) -> Module:
    """On the device, in channels-last memory."""
    # torch's stubs do not have `memory_format`.
    placed: Module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed
