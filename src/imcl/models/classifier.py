"""Passes images once through any classifier, and looks at its parts on the way."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum, auto
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.overrides import TorchFunctionMode

from imcl.errors import UsageError
from imcl.models.structure import (
    AVERAGES,
    Average,
    Stage,
    Trial,
    blank_images,
    logits_of,
    only_tensor,
    quietly,
    two,
)

# Called with the map (N, C, H, W) of each stage; returns what the next stage takes.
StageHook = Callable[[Tensor], Tensor]
# From features (N, D), or a map (N, D, positions), to features (K * N, D) of K parts in turn.
Split = Callable[[Tensor], Tensor]


class Place(Enum):
    """Where the parts of the output layer are made."""

    HEAD = auto()
    AVERAGE = auto()


class Needs(NamedTuple):
    """The parts of a classifier that are looked at.

    Attributes:
        stages: whether its stages are.
        split: where parts of the output layer are made, if they are.
    """

    stages: bool
    split: Place | None


class Classifier:
    """Any classifier, with the parts that are looked at in a pass.

    The parts are found at the first pass, from its images. Between passes nothing is attached to
    the model.

    Args:
        model: the classifier, or a wrapper of it by `DistributedDataParallel` or `torch.compile`.
        needs: the parts to look at.
        stages: names of submodules, or None to find the stages.
        head: name of the submodule that takes the features (B, D), or None to find it.

    Raises:
        UsageError: the model is wrapped by `DataParallel`.
    """

    def __init__(
        self,
        model: nn.Module,
        needs: Needs,
        stages: Sequence[str] | None = None,
        head: str | None = None,
    ):
        self.model, self.needs = model, needs
        self.inner = unwrapped(model)
        self.stages: list[Stage] | None = None
        self.head: str | None = None
        self.average: Average | None = None
        self._names, self._head_name = stages, head

    def find(self, images: Tensor) -> None:
        """Find the parts with a trial pass, unless that is done.

        Raises:
            UsageError: a part is missing or does not fit; see `Trial`.
        """
        if self.stages is not None or self.needs == Needs(False, None):
            return
        with uncompiled():
            trial = Trial(self.inner, images)
        stages = self._stages(trial) if self.needs.stages else []
        if self.needs.split is Place.HEAD:
            self.head = self._head(trial)
        elif self.needs.split is Place.AVERAGE:
            self.average = trial.averages[-1] if trial.averages else None
        self._check_split(images)
        self.stages = stages

    def __call__(self, images: Tensor, hook: StageHook, split: Split | None = None) -> Tensor:
        """The model's logits (K * N, classes) of images (N, ...); K is 1 without `split`.

        Args:
            images: what the model takes.
            hook: called with each stage in turn.
            split: makes K parts at `needs.split`.

        Raises:
            UsageError: as for `find`, or a part did not run as in the trial.
        """
        self.find(images)
        with ExitStack() as attached:
            missing = [
                attached.enter_context(_stage(self.inner, stage, hook))
                for stage in self.stages or ()
            ]
            if split is not None:
                missing.append(attached.enter_context(self._at_split(split)))
            if missing:
                attached.enter_context(uncompiled())
            logits = logits_of(self.model(images))
        for seen in missing:
            if seen.times != 1:
                times = f"ran {seen.times} times" if seen.times else "did not run"
                raise UsageError(
                    f"{seen.what} {times} in this pass; name a submodule that runs once in each"
                )
        return logits

    def described(self, images: Tensor | None) -> str:
        """A table of the parts that are found, whether or not they are needed.

        Args:
            images: what the model takes, or None for blank images.

        Raises:
            UsageError: the model does not take the blank images.
        """
        with uncompiled():
            try:
                trial = Trial(self.inner, blank_images(self.inner) if images is None else images)
            except Exception as error:
                if images is not None:
                    raise
                reason = str(error).partition("\n")[0]
                raise UsageError(
                    f"{type(self.inner).__name__} does not take blank images ({reason}); pass some "
                    "that it takes: describe(images)"
                ) from None
        rows = [("part", "submodule", "output of one pass")]
        try:
            stages = self._stages(trial)
            rows += [(f"stage {i}", stage.name, str(stage)) for i, stage in enumerate(stages, 1)]
        except UsageError as error:
            rows.append(("stages", "none", str(error)))
        try:
            head = self._head(trial)
            rows.append(("head", head, f"logits (B, {trial.logits[1]})"))
        except UsageError as error:
            rows.append(("head", "none", str(error)))
        for average in trial.averages[-1:]:
            shape = ", ".join(map(str, average.shape))
            rows.append(("last average", "", f"of (B, {shape}) over its positions"))
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows)

    def _stages(self, trial: Trial) -> list[Stage]:
        return trial.stages() if self._names is None else [trial.stage(n) for n in self._names]

    def _head(self, trial: Trial) -> str:
        name = self._head_name
        return trial.head() if name is None else trial.run(name, "classifier").name

    @contextmanager
    def _at_split(self, split: Split) -> Iterator["_Seen"]:
        if self.head is None:
            assert self.average is not None
            with _AtAverage(self.average, split) as mode:
                yield mode.seen
            return
        seen = _Seen(f"classifier {self.head!r}", saves=True)

        def before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            (features,) = inputs
            if features.ndim != 2:
                raise UsageError(
                    f"{seen.what} takes a tensor of shape {tuple(features.shape)}, not features "
                    "(B, D); take variant 'augment' of output, or name another submodule"
                )
            seen.enter()
            return (split(features),)

        handle = self.inner.get_submodule(self.head).register_forward_pre_hook(before)
        try:
            yield seen
        finally:
            handle.remove()

    def _check_split(self, images: Tensor) -> None:
        """Raise UsageError unless the logits depend on nothing but what is split."""
        place = self.needs.split
        if place is None:
            return
        if place is Place.HEAD or self.average:
            blank = torch.zeros_like if place is Place.HEAD else _blank
            with quietly(self.inner), self._at_split(blank), uncompiled():
                first, second = logits_of(self.inner(two(images)))
            if torch.equal(first, second):
                return
        source = f"what {self.head!r} takes" if place is Place.HEAD else "one average of a map"
        raise UsageError(
            f"{type(self.inner).__name__}: the logits depend on more than {source}; take another "
            "variant of output"
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, whose submodules have the names that its user knows.

    Raises:
        UsageError: the model is wrapped by `DataParallel`.
    """
    while True:
        if isinstance(model, DataParallel):
            raise UsageError(
                "DataParallel runs copies of the model, whose parts cannot be compared; wrap the "
                "model with DistributedDataParallel"
            )
        wrapped = "module" if isinstance(model, DistributedDataParallel) else "_orig_mod"
        if not hasattr(model, wrapped):  # `_orig_mod` is that of torch.compile
            return model
        model = getattr(model, wrapped)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Passes in here ignore `torch.compile`, whose code would not call the hooks."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def saved_hooks() -> Any:
    """What autograd calls for each tensor that it saves: something in a checkpoint, or None."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


class _Seen:
    """Counts the runs of a part in a pass, and refuses a checkpoint that it does not work in.

    Args:
        what: the part.
        saves: whether what is done to the part must not be left out if a checkpoint computes it
            again.
    """

    def __init__(self, what: str, saves: bool = False):
        self.what, self.times = what, 0
        self._gradients = torch.is_grad_enabled()
        self._hooks = saved_hooks() if saves else None
        self._saves = saves

    def enter(self) -> None:
        """The part runs."""
        self.times += 1
        if self._gradients and not torch.is_grad_enabled():
            raise UsageError(
                f"{self.what} runs without gradients, as in a checkpoint with use_reentrant=True; "
                "take use_reentrant=False, or name a submodule outside"
            )
        if self._saves and saved_hooks() != self._hooks:
            raise UsageError(
                f"{self.what} runs in an activation checkpoint, which would compute it again "
                "without the parts of output; take variant 'augment', or checkpoint less"
            )


@contextmanager
def _stage(model: nn.Module, stage: Stage, hook: StageHook) -> Iterator[_Seen]:
    """Calls the hook with the stage's map, in this context only."""
    seen = _Seen(f"stage {stage.name!r}")

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        seen.enter()
        given = only_tensor(output)
        if given is None or given.ndim != len(stage.shape) + 1:
            raise UsageError(
                f"{seen.what} gives something else in training than in evaluation; name another"
            )
        passed = stage.as_given(hook(stage.as_map(given)))
        passed = passed.clone() if stage.written else passed
        return passed if given is output else (passed, *output[1:])

    handle = model.get_submodule(stage.name).register_forward_hook(after)
    try:
        yield seen
    finally:
        handle.remove()


class _AtAverage(TorchFunctionMode):
    """Puts parts of a map, each averaged, in the place of its average."""

    def __init__(self, average: Average, split: Split):
        super().__init__()
        self.average, self.split = average, split
        self.seen = _Seen("the average before the classifier", saves=True)
        self._calls = 0

    def __torch_function__(
        self, operation: Any, types: Any, arguments: Sequence[Any] = (), options: Any = None
    ) -> Any:
        if operation.__name__ not in AVERAGES:
            return operation(*arguments, **(options or {}))
        call, self._calls = self._calls, self._calls + 1
        result = operation(*arguments, **(options or {}))
        if call != self.average.call:
            return result
        self.seen.enter()
        stage = arguments[0].movedim(self.average.axis, 1)
        return self.split(stage).reshape(-1, *result.shape[1:])


def _blank(stage: Tensor) -> Tensor:
    """An average of zeros, (N, C), of a map (N, C, ...)."""
    return torch.zeros_like(stage.flatten(2)[..., 0])
