"""Estimates the memory of a training before it is taken, so that too much of it is one sentence.

The estimate is the least that any training needs: weights with their gradients and momentum, and
the maps that the backward pass reads. What else a method keeps comes on top. So only what clearly
does not fit is refused. The sizes are those of two narrow networks, extrapolated: what doubles from
width 2 to 4 doubles again at 8. A network of torchvision or timm is measured as it is.
"""

import math
import os
import resource
from pathlib import Path

import torch
from torch import Tensor, nn

from imcl.errors import ImclError
from imcl.study.foreign import measured
from imcl.study.grid import Cell
from imcl.training.data import RunData
from imcl.training.network import Architecture, build

FLOAT = 4  # bytes
LARGEST_SIDE = 32  # of the image that is measured; maps of larger ones grow with their pixels
# Where Linux states the limit of a container, under its newer and its older rules.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def of_cell(cell: Cell, data: RunData, device: torch.device) -> int:
    """The least bytes that the training of a cell needs on its device."""
    height, width, channels = data.description["shape"]
    classes = len(data.description["class_names"])
    batch, padding = cell.training.batch_size, cell.dataset.options.padding
    padded = batch * (height + 2 * padding) * (width + 2 * padding) * channels
    # On a CPU the images stay in their files.
    images = 0 if device.type == "cpu" else data.arrays.train_images.nbytes
    copies, trained = (
        (cell.baseline[1].copies, cell.baseline[1].trained) if cell.baseline else (1, 1)
    )
    maps = FLOAT // 2 if cell.training.precision == "bf16" else FLOAT
    if cell.foreign:
        network = measured(cell.foreign.options, height, classes)
        step = FLOAT * 3 * network.weights + maps * cell.views * batch * network.maps
    else:
        architecture = Architecture(cell.backbone, cell.width, data.description["shape"], classes)
        step = of_step(architecture, cell.views * batch, copies, maps, trained)
    return images + padded + step


def of_step(
    architecture: Architecture,
    images: int,
    copies: int = 1,
    bytes_each: int = FLOAT,
    trained: int = 1,
) -> int:
    """The least bytes of a training step.

    Args:
        architecture: of the network.
        images: in the step, each augmentation counted.
        copies: networks whose weights are in memory.
        bytes_each: of a number in a map.
        trained: networks with gradients, momentum and maps.
    """
    height, width, channels = architecture.shape
    side = min(height, width, LARGEST_SIDE)
    with torch.random.fork_rng(devices=[]):  # so that no later random number changes
        narrow, wider = (
            _sizes(architecture._replace(width=width, shape=(side, side, channels)))
            for width in (2, 4)
        )
    doublings = math.log2(architecture.width / 2)
    weights, maps = (
        sum(size * (doubled / size) ** doublings for size, doubled in zip(*pair, strict=True))
        for pair in zip(narrow, wider, strict=True)
    )
    maps *= height * width / side**2
    gradients_and_momentum = trained * 2 * weights
    weights_with_them = FLOAT * (copies * weights + gradients_and_momentum)
    return int(weights_with_them + bytes_each * trained * images * maps)


def _sizes(architecture: Architecture) -> tuple[list[int], list[int]]:
    """The numbers in each weight, and in each map of one image that the backward pass reads."""
    maps: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        maps.append(inputs[0].numel())

    model = build(*architecture).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_pre_hook(count)
    height, width, channels = architecture.shape
    with torch.no_grad():
        model(torch.zeros(1, channels, height, width))
    return [parameter.numel() for parameter in model.parameters()], maps


def there(device: torch.device) -> int:
    """The bytes of the GPU's memory, or the most that this process may use of the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    sizes += [int(text) for path in LIMITS if (text := _read(path)).isdigit()]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min([*sizes, own] if own != resource.RLIM_INFINITY else sizes)


def check(what: str, needed: int, device: torch.device) -> None:
    """Raise ImclError if `what` needs more bytes than there are."""
    available = there(device)
    if needed > available:
        raise ImclError(
            f"{what}: needs about {_gigabytes(needed)} GB of memory, {_gigabytes(available)} are "
            "there; lower the width, the batch size, or the number of networks, parts or branches"
        )


def _gigabytes(size: int) -> str:
    """With one decimal below 100, so that two sizes that differ a little are not the same."""
    return f"{size / 1e9:,.{0 if size >= 100e9 else 1}f}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
