"""Finds the parts of any classifier by a trial pass: its stages, its head, and its last average.

Nothing is assumed of the model's code. The pass runs in evaluation mode and without gradients, and
leaves no trace in the model. It notes which submodule calls which, which axis of each tensor holds
the channels, and where the positions of a map are averaged.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from imcl.errors import UsageError, unknown

AVERAGES = {"mean", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d"}
CHANNELS_SECOND = {
    *("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"),
    *("batch_norm", "group_norm", "instance_norm"),
}
CHANNELS_LAST = {"linear", "layer_norm", "rms_norm", "embedding"}
# Other operations keep the order of axes if they keep their number.
REORDERING = {
    *("permute", "transpose", "swapaxes", "movedim", "moveaxis", "__get__", "__getitem__"),
    *("reshape", "reshape_as", "view", "flatten", "unflatten", "squeeze", "unsqueeze"),
}
COUNT = 2  # images in a trial
LEAST_STEP = 2 / 3  # the positions of a new resolution; a convolution without padding keeps more
QUARTERS = 4  # stages of a network whose blocks are all alike


class Stage(NamedTuple):
    """A stage.

    Attributes:
        name: of the submodule whose output it is.
        axis: of the output that holds the channels; the first axis is the batch.
        shape: of the output for one image.
        written: whether a later operation overwrites the output.
    """

    name: str
    axis: int
    shape: tuple[int, ...]
    written: bool

    def __str__(self) -> str:
        """The shape of the output, and how it is read."""
        axes = ["B", *map(str, self.shape)]
        kind = {1: "features", 2: "tokens", 3: "map"}[len(self.shape)]
        return f"{kind} ({', '.join(axes)}), channels: {self.shape[self.axis - 1]}"

    def as_map(self, output: Tensor) -> Tensor:
        """The output as a map (N, C, H, W). Tokens are a column of H positions."""
        output = output.movedim(self.axis, 1)
        return output[(..., *[None] * (4 - output.ndim))]

    def as_given(self, stage: Tensor) -> Tensor:
        """The output again, from its map."""
        return stage.flatten(len(self.shape)).movedim(1, self.axis)


class Average(NamedTuple):
    """Where a map is averaged.

    Attributes:
        call: the number of the operation among those of `AVERAGES` in the pass.
        axis: of the map that holds the channels.
        shape: of the map of one image.
    """

    call: int
    axis: int
    shape: tuple[int, ...]


@dataclass
class Run:
    """A submodule's run in the trial pass, and the runs that it called.

    Attributes:
        name: of the submodule.
        module: it.
        shape: of its output, if there is one tensor in it.
        axis: of the output that holds the channels, if known.
        positions: of one image in the output, if it is a map or tokens.
        averages: how many maps were averaged before the run ended.
        written: whether an operation wrote to the output after the run.
    """

    name: str
    module: nn.Module
    calls: "list[Run]" = field(default_factory=list)
    shape: tuple[int, ...] | None = None
    axis: int | None = None
    positions: int | None = None
    averages: int = 0
    written: bool = False


class Trial:
    """A pass of two images through a model.

    Args:
        model: any classifier.
        images: a batch; its first image is used, and a blank one.

    Attributes:
        root: the model's run.
        runs: all runs, in the order in which they ended.
        averages: of maps, in order.
        logits: the shape of the model's output.
    """

    def __init__(self, model: nn.Module, images: Tensor):
        self.root = Run("", model)
        self.runs: list[Run] = []
        trace = _Trace()
        open_runs = [self.root]

        def begins(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any) -> None:
                run = Run(name, module)
                open_runs[-1].calls.append(run)
                open_runs.append(run)

            return hook

        def ends(module: nn.Module, inputs: Any, output: Any) -> None:
            run = open_runs.pop()
            run.averages = len(trace.averages)
            self.runs.append(run)
            output = only_tensor(output)
            if output is not None:
                run.shape, axes = tuple(output.shape), trace.axes.get(output, ())
                run.axis = axes[0] if len(axes) == 1 else None
                if run.axis is not None and len(run.shape) > 2 and run.shape[0] == COUNT:
                    run.positions = math.prod(run.shape[1:]) // run.shape[run.axis]
                trace.outputs.setdefault(output, []).append(run)

        handles = []
        for name, module in model.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(begins(name)))
                handles.append(module.register_forward_hook(ends))
        try:
            with quietly(model), trace:
                output = logits_of(model(two(images)))
        finally:
            for handle in handles:
                handle.remove()
        self.averages, self.logits = trace.averages, tuple(output.shape)
        self._times = Counter(run.name for run in self.runs)

    def run(self, name: str, what: str) -> Run:
        """The only run of a submodule.

        Raises:
            UsageError: the model has no such submodule, or it does not run just once.
        """
        named = dict(self.root.module.named_modules())
        if name not in named:
            raise UsageError(unknown("submodule", name, named))
        found = [run for run in self.runs if run.name == name]
        if len(found) != 1:
            times = f"runs {len(found)} times" if found else "did not run"
            raise UsageError(
                f"{what} {name!r} {times} when the model was called; name a submodule that runs "
                "once in a pass"
            )
        return found[0]

    def stage(self, name: str) -> Stage:
        """A stage by its name; errors as for `run`, or if its output is no map."""
        run = self.run(name, "stage")
        if run.shape is None or not 2 <= len(run.shape) <= 4:
            given = "several tensors" if run.shape is None else f"a tensor of shape {run.shape}"
            raise UsageError(
                f"stage {name!r} gives {given}; name a submodule that gives one tensor: a map "
                "(B, C, H, W) or (B, H, W, C), tokens (B, N, C) or features (B, C)"
            )
        dimensions = len(run.shape)
        if run.shape[0] != self.logits[0]:
            raise UsageError(
                f"stage {name!r} gives a tensor of shape {run.shape} for {self.logits[0]} images; "
                "name a submodule whose output has the images on its first axis"
            )
        usual = dimensions - 1 if dimensions == 3 else 1
        axis = usual if run.axis is None else run.axis
        return Stage(name, axis, run.shape[1:], run.written)

    def stages(self) -> list[Stage]:
        """The stages that the trial shows.

        Raises:
            UsageError: there is none.
        """
        maps = self._resolutions()
        found = (self._announced(), maps, self._blocks())
        names = next((names for names in found if len(names) > 1), maps or self._layers())
        if not names:
            raise UsageError(
                f"{type(self.root.module).__name__}: no stages found; name the submodules whose "
                "outputs are maps or tokens with stages=[...]"
            )
        return [self.stage(name) for name in names]

    def head(self) -> str:
        """The name of the last linear layer that gives the logits.

        Raises:
            UsageError: there is none.
        """
        for run in reversed(self.runs):
            linear = isinstance(run.module, nn.Linear)
            if linear and self._once(run) and run.shape == self.logits:
                return run.name
        raise UsageError(
            f"{type(self.root.module).__name__}: no single linear layer gives the logits; take "
            "variant 'augment' or 'spatial' of output, or name the submodule that takes the "
            "features (B, D) with classifier=..."
        )

    def _announced(self) -> list[str]:
        """By timm's `feature_info`: the last of each resolution, or blocks at quarters."""
        info: Any = getattr(self.root.module, "feature_info", ())
        entries = info.get_dicts() if hasattr(info, "get_dicts") else info
        if not all(isinstance(entry, Mapping) and "module" in entry for entry in entries):
            return []
        names = {entry.get("reduction", i): entry["module"] for i, entry in enumerate(entries)}
        chosen = list(names.values())
        if len(names) == 1:
            chosen = _quarters([entry["module"] for entry in entries])
        known = {run.name for run in self.runs if run.axis is not None and self._once(run)}
        return chosen if known.issuperset(chosen) else []

    def _resolutions(self) -> list[str]:
        """The last map of each resolution, before the last average."""
        names: list[str] = []
        before = math.inf
        for run in _units(self.root):
            if run.positions is None or run.positions > before:
                continue
            if self._after_average(run) or not self._once(run):
                continue
            if names and run.positions > before * LEAST_STEP:
                names.pop()
            names.append(run.name)
            before = run.positions
        return names

    def _blocks(self) -> list[str]:
        """Quarters of the longest row of blocks of one type, all of whose outputs are alike."""
        rows: list[list[str]] = [[]]
        for parent in [self.root, *self.runs]:
            alike: dict[Any, list[str]] = {}
            for run in parent.calls:
                fit = run.positions and run.calls and self._once(run)
                if fit and not self._after_average(run):
                    alike.setdefault((type(run.module), run.shape), []).append(run.name)
            rows += alike.values()
        return _quarters(max(rows, key=len))

    def _layers(self) -> list[str]:
        """What each linear layer but the first takes, in a network without maps."""
        units = [run for run in _leaves(self.root) if run.shape is not None]
        return [
            before.name
            for before, after in pairwise(units)
            if isinstance(after.module, nn.Linear)
            and before.axis is not None
            and self._once(before)
        ]

    def _once(self, run: Run) -> bool:
        """Whether a run's submodule runs once in a pass."""
        return self._times[run.name] == 1

    def _after_average(self, run: Run) -> bool:
        """Whether a run's output comes after the last average."""
        return bool(self.averages) and run.averages == len(self.averages)


class _Trace(TorchFunctionMode):
    """Follows the axis of the channels through the operations of a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.axes = WeakTensorKeyDictionary()
        self.outputs = WeakTensorKeyDictionary()  # the runs whose output a tensor is
        self.averages: list[Average] = []
        self._calls = 0

    def __torch_function__(
        self,
        operation: Any,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        options = options or {}
        given = list(_tensors((*arguments, *options.values())))
        versions = [tensor._version for tensor in given]
        result = operation(*arguments, **options)
        for tensor, version in zip(given, versions, strict=True):
            if tensor._version != version:
                for run in self.outputs.get(tensor, ()):
                    run.written = True
        for made in _tensors((result,)):
            axes = self._axes(operation, given, made, arguments, options)
            if axes:
                self.axes[made] = axes
        if operation.__name__ in AVERAGES:
            self._average(operation, given[0], result, arguments, options)
        return result

    def _axes(
        self,
        operation: Any,
        given: list[Tensor],
        made: Tensor,
        arguments: Sequence[Any],
        options: Mapping[str, Any],
    ) -> tuple[int, ...]:
        """The axes of a result that hold the channels; several in between, or none if unknown."""
        name = operation.__name__
        if name in CHANNELS_SECOND:
            return (1,)
        if name in CHANNELS_LAST:
            return (made.ndim - 1,)
        source = next((tensor for tensor in given if tensor in self.axes), None)
        if source is None:
            return ()
        axes: tuple[int, ...] = self.axes[source]
        if name not in REORDERING or any(isinstance(a, torch.dtype) for a in arguments):
            return axes if made.ndim == source.ndim else ()
        # The same operation on a tensor of channel numbers shows where the channels go.
        sizes = [size if axis in axes else 1 for axis, size in enumerate(source.shape)]
        numbers = torch.arange(math.prod(sizes), device=source.device).view(sizes)
        if name == "view":  # which would need the source's strides
            operation = Tensor.reshape
        moved = operation(numbers.expand(source.shape), *arguments[1:], **options)
        if not isinstance(moved, Tensor):
            return ()
        return tuple(
            axis
            for axis, size in enumerate(moved.shape)
            if size > 1 and not torch.equal(moved.select(axis, 0), moved.select(axis, 1))
        )

    def _average(
        self,
        operation: Any,
        stage: Tensor,
        result: Tensor,
        arguments: Sequence[Any],
        options: Mapping[str, Any],
    ) -> None:
        call, self._calls = self._calls, self._calls + 1
        axes = self.axes.get(stage, ())
        if len(axes) != 1 or stage.ndim < 3:
            return
        (axis,) = axes
        positions = set(range(1, stage.ndim)) - {axis}
        averaged = set(range(2, stage.ndim))
        if operation.__name__ == "mean":
            dimensions = options.get("dim", arguments[1] if len(arguments) > 1 else ())
            listed = [dimensions] if isinstance(dimensions, int) else dimensions
            averaged = {dimension % stage.ndim for dimension in listed}
        if averaged == positions and result.numel() == len(stage) * stage.shape[axis]:
            self.averages.append(Average(call, axis, tuple(stage.shape[1:])))


@contextmanager
def quietly(model: nn.Module) -> Iterator[None]:
    """Passes in here change neither the model nor torch's random streams."""
    modes = [(module, module.training) for module in model.modules()]
    devices = {parameter.device for parameter in model.parameters()}
    with torch.no_grad(), torch.random.fork_rng([d for d in devices if d.type == "cuda"]):
        for module, _ in modes:
            module.training = False
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def two(images: Tensor) -> Tensor:
    """The first image of a batch and a blank one."""
    return torch.cat([images[:1], torch.zeros_like(images[:1])])


def logits_of(output: Any) -> Tensor:
    """The logits (B, classes) among what a model gives.

    Raises:
        UsageError: it gives no tensor, several, or one of another shape.
    """
    if isinstance(output, Mapping) and "logits" in output:  # as models of Hugging Face do
        output = output["logits"]
    if not isinstance(output, Tensor):
        raise UsageError(
            f"the model gives {type(output).__name__}, not one tensor of logits; switch its "
            "auxiliary heads off, or give a model whose output is the logits alone"
        )
    if output.ndim != 2:
        raise UsageError(
            f"the model gives a tensor of shape {tuple(output.shape)}, not logits (B, classes)"
        )
    return output


def blank_images(model: nn.Module) -> Tensor:
    """Blank images of the size that a model states, or of 224 x 224 pixels; (2, D) for an MLP."""
    layers = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    first = next((module for module in model.modules() if isinstance(module, layers)), None)
    stated = getattr(model, "default_cfg", {}).get("input_size")
    if isinstance(first, nn.Linear):
        stated = (first.in_features,)
    elif stated is None:
        side = getattr(model, "image_size", 224)
        channels = 3 if first is None else first.in_channels
        stated = (channels, *[side] * (2 if first is None else len(first.kernel_size)))
    like = next(model.parameters(), torch.empty(0))
    return like.new_zeros(COUNT, *stated)


def only_tensor(output: Any) -> Tensor | None:
    """What a submodule gives, or the first entry of a tuple without further tensors."""
    if isinstance(output, Tensor):
        return output
    tensors = list(_tensors((output,)))
    alone = isinstance(output, tuple) and len(tensors) == 1 and tensors[0] is output[0]
    return tensors[0] if alone else None


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _units(run: Run) -> Iterator[Run]:
    """A run, or if it makes maps of several new resolutions, the runs that it called."""
    before: int | None = None
    for call in run.calls:
        new = {inner.positions for inner in call.calls} - {None, before}
        if call.calls and (call.positions is None or len(new) > 1):
            for unit in _units(call):
                yield unit
                before = unit.positions or before
        else:
            yield call
            before = call.positions or before


def _leaves(run: Run) -> Iterator[Run]:
    for call in run.calls:
        yield from _leaves(call) if call.calls else [call]


def _quarters(names: Sequence[str]) -> list[str]:
    """The entries at each quarter of a list; fewer if it is short."""
    ends = {math.ceil(len(names) * quarter / QUARTERS) for quarter in range(1, QUARTERS + 1)}
    return [names[end - 1] for end in sorted(ends) if end]
