"""The machine that trains: which device, how it is set up, and what a record says of it."""

import ctypes
import os
import platform
import resource
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from imcl.errors import ImclError
from imcl.models.backbone import Backbone

# Of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20


def choose(name: str) -> torch.device:
    """The device by name: cpu, cuda, or for auto the GPU where there is one.

    Raises:
        ImclError: cuda was asked for and torch sees none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ImclError("--device cuda: torch sees no GPU; take --device cpu")
    return torch.device(name)


def settle(threads: int, precision: str) -> None:
    """Set this process up for training; the same settings give the same numbers.

    Args:
        threads: of the CPU.
        precision: of params.yaml; tf32 is float32 in all but a GPU's matrix products.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
        backend.allow_tf32 = precision == "tf32"
    _keep_memory()


def compile_stages(model: Backbone) -> None:
    """Have torch's compiler fuse what stands between the convolutions, stage by stage.

    A further network of the same shape, such as that of the next seed, takes the compiled code of
    the first.
    """
    from torch import _dynamo  # 3.5 s to import, and needed here alone

    _dynamo.config.recompile_limit = 64  # each block in training, and in evaluation

    def compiled(stage: nn.Module) -> Callable[[Tensor], Tensor]:
        layers = list(stage)

        # torch compiles no frame of its own, such as a Sequential's, but one that runs its layers.
        def forward(x: Tensor) -> Tensor:
            for layer in layers:
                x = layer(x)
            return x

        return torch.compile(forward, dynamic=False, fullgraph=True)

    for stage in model.stages:
        stage.forward = compiled(stage)


def _keep_memory() -> None:
    """Have the C library keep freed memory, where it is glibc.

    It gives large blocks back to the system, which clears them page by page when the next step asks
    for the same: 5 to 15 % of a step on two cores of an AMD EPYC.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on the GPU, or resident in the process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or Python found no memory, on the GPU or here."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)


def environment(device: torch.device, threads: int) -> dict:
    """What a record says of the machine: device, threads, platform and library versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    libraries = ("torch", "numpy", "scikit-learn")
    return {
        "device": device.type,
        "device_name": name,
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{library: version(library) for library in libraries},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name")).partition(": ")[2]
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"
