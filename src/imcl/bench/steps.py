"""What a training step asks of the device, counted: operations, memory, waits and captures."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from imcl.bench import overhead
from imcl.bench.options import Row, Steps
from imcl.progress import Progress
from imcl.project import Project
from imcl.study.settings import BACKBONES, Settings
from imcl.training import device as devices
from imcl.training import memory
from imcl.training.loop import EAGER_STEPS
from imcl.training.network import Architecture

# Operations that compute nothing, though they return something that is no view of their arguments.
FREE = ("aten::empty", "aten::new_empty", "aten::_unsafe_view")
# Operations whose result or its size the CPU needs, so that it waits for a GPU.
WAITS = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::equal",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_dim",
}
CAPTURED_EPOCHS = 2


def rows(project: Project, settings: Settings, options: Steps) -> list[Row]:
    """A row for each backbone and method; the ratios are to base of the same backbone.

    A step is forward, backward and update of one batch of CIFAR's shape, with what the training
    loop notes of it. Augmentation is not part of it.

    Returns:
        operations that compute something, `allocated_bytes` of all that the step allocates,
        `waits` for results of a GPU (also counted on a CPU), and `captures`: how many graphs a
        training captures in two epochs, on a GPU.
    """
    device = devices.choose(options.device)
    devices.settle(options.threads, settings.training.precision)
    chosen = {
        name: method
        for name, method in overhead.methods(settings).items()
        if method.baseline is None
    }
    made: list[Row] = []
    with Progress("steps", len(BACKBONES) * len(chosen), "methods") as progress:
        for backbone in BACKBONES:
            architecture = Architecture(backbone, options.width, overhead.SHAPE, overhead.CLASSES)
            needed = memory.of_step(architecture, options.batch_size)
            memory.check(f"bench steps, {backbone}", needed, device)
            base: Row = {}
            for name, method in chosen.items():
                step = overhead.Step(
                    architecture, method, settings.training, options.batch_size, device
                )
                row = {"backbone": backbone, "method": name, "views": method.views, **count(step)}
                base = base or row
                ratios = {
                    "operations_ratio": row["operations"] / base["operations"],
                    "bytes_ratio": row["allocated_bytes"] / base["allocated_bytes"],
                }
                made.append({**row, **ratios})
                progress.advance(note=f"{backbone} {name}")
    return made


def count(step: overhead.Step) -> Row:
    """The counts of one step, after a first one, whose own work is no cost of every step."""
    step()
    with Operations() as counted:
        step()
    return {
        "operations": counted.operations.total(),
        "allocated_bytes": _allocated(step, step.trainer.device),
        "waits": counted.waits.total(),
        "captures": _captures(step),
    }


class Operations(TorchDispatchMode):
    """Counts what is called in it, by name: operations that compute, and waits.

    An operation computes if it writes to an argument or returns a tensor that is not a view.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        name = operation._schema.name
        self.operations[name] += _computes(operation._schema)
        self.waits[name] += name in WAITS or _selects(name, arguments)
        return operation(*arguments, **(options or {}))


def _computes(schema: Any) -> bool:
    if schema.name in FREE:
        return False
    writes = any(
        argument.alias_info and argument.alias_info.is_write for argument in schema.arguments
    )
    new = any("Tensor" in str(found.type) and not found.alias_info for found in schema.returns)
    return writes or new


def _selects(name: str, arguments: Sequence[Any]) -> bool:
    """Whether an index is a mask: how many elements it selects is known on the device alone."""
    if not name.startswith("aten::index"):
        return False
    indices = [index for given in arguments[1:2] if isinstance(given, list) for index in given]
    return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)


def _allocated(run: Callable[[], None], device: torch.device) -> int:
    """The bytes of all tensors that are allocated, whether or not they are freed again."""
    if device.type == "cuda":
        key = "allocated_bytes.all.allocated"
        before = torch.cuda.memory_stats(device)[key]
        run()
        return int(torch.cuda.memory_stats(device)[key] - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        run()
    events = measured.profiler.kineto_results.events()
    return sum(max(0, event.nbytes()) for event in events if event.name() == "[memory]")


def _captures(step: overhead.Step) -> int:
    """The graphs that a training captures in two epochs after its first steps."""
    if step.trainer.device.type != "cuda":
        return 0
    with captures() as made:
        for _ in range(EAGER_STEPS + CAPTURED_EPOCHS):  # of one step each
            step.trainer.epoch()
    return len(made)


@contextmanager
def captures() -> Iterator[list[torch.cuda.graph]]:
    """The graphs that are captured in this context."""
    enter = torch.cuda.graph.__enter__
    made: list[torch.cuda.graph] = []

    def noted(graph: torch.cuda.graph) -> None:
        made.append(graph)
        enter(graph)

    torch.cuda.graph.__enter__ = noted  # type: ignore[method-assign]
    try:
        yield made
    finally:
        torch.cuda.graph.__enter__ = enter  # type: ignore[method-assign]
