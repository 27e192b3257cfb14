"""The machine that trains: which device, how it is set up, and how a record describes it."""

import ctypes
import os
import platform
import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from imcl.errors import ImclError
from imcl.models.backbone import Backbone
from imcl.records.record import Environment
from imcl.training.places import Gpu

# Of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20


def choose(name: str, needed_by: str | None = None) -> torch.device:
    """The device by name: `cpu`, `cuda`, or `auto` for the GPU if there is one.

    Args:
        name: of the device.
        needed_by: what must not be trained on a CPU unless `name` says so.

    Raises:
        ImclError: a GPU is asked for or needed, but torch can use none; it says why.
    """
    if name == "auto" and not needed_by:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu":
        require_gpu(
            "--device cuda asks for a GPU" if name == "cuda" else f"{needed_by} needs a GPU"
        )
        name = "cuda"
    return torch.device(name)


def require_gpu(what: str) -> None:
    """Make sure that torch can use a GPU.

    Args:
        what: asks for it, for the message.

    Raises:
        ImclError: it can use none: there is none, its driver is too old, or torch is built without.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning says what the error says
        try:
            torch.cuda.init()
        except (AssertionError, RuntimeError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise ImclError(
                f"{what}, but torch can use none: {reason}. To train on the CPU all the same, "
                "take --device cpu or set IMCL_DEVICE=cpu"
            ) from None


def visible() -> list[str]:
    """The names of the GPUs for CUDA_VISIBLE_DEVICES: those in it, else the GPUs' numbers."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if any(named) else [str(index) for index in range(count)]


def gpus() -> list[Gpu]:
    """The GPUs that this process may use."""
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [Gpu(i, str(each.uuid), each.total_memory) for i, each in enumerate(found)]


def settle(threads: int, precision: str, deterministic: bool = True) -> None:
    """Set this process up for training. The same settings give the same numbers.

    Args:
        threads: of the CPU.
        precision: of params.yaml. tf32 is float32 except in a GPU's convolutions and products;
            with bf16, what stays float32 takes TF32 in a GPU's products too.
        deterministic: take only algorithms of a GPU that repeat to the bit; else the fastest.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    # For the ways' products. Maps in bf16 lose nothing by it; kernels and the classifier's numbers
    # are rounded to 11 bits.
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    _keep_memory()


@contextmanager
def exact_products() -> Iterator[None]:
    """No TF32, for what is measured in float32."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = False
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def compile_stages(model: nn.Module) -> None:
    """Let torch's compiler fuse the operations between the convolutions, stage by stage.

    A further network of the same shape, such as that of the next seed, uses the same compiled code.

    Raises:
        ImclError: torch is installed below a path with a space, and the network is on the CPU.
    """
    assert isinstance(model, Backbone), "others are never compiled"
    on_cpu = model.classifier.weight.device.type == "cpu"
    if on_cpu and cannot_compile():
        raise ImclError(
            f"--compile: torch's compiler cannot work below a path with a space ({_torch_folder()})"
            "; move the environment, or leave --compile out"
        )
    from torch import _dynamo  # takes 3.5 s to import

    _dynamo.config.recompile_limit = 64  # each block in training, and in evaluation

    def compiled(stage: nn.Module) -> Callable[[Tensor], Tensor]:
        layers = list(stage.children())

        # torch does not compile its own frames, such as a Sequential's, but it does this one.
        def forward(x: Tensor) -> Tensor:
            for layer in layers:
                x = layer(x)
            return x

        return torch.compile(forward, dynamic=False, fullgraph=True)

    for stage in model.stages:
        stage.forward = compiled(stage)


def cannot_compile() -> bool:
    """Whether g++ would get wrong paths: torch hands it that of its own libraries unquoted."""
    return " " in str(_torch_folder())


def _torch_folder() -> Path:
    return Path(torch.__file__).parent


def _keep_memory() -> None:
    """Let the C library keep freed memory, if it is glibc.

    Otherwise it returns large blocks to the system, which has to clear them again at the next step:
    5 to 15 % of a step on two cores of an AMD EPYC.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """The most bytes that were allocated on the GPU, or else that this process used."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on the GPU or the CPU."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)


def environment(device: torch.device, threads: int) -> Environment:
    """How a record describes the machine: device, threads, platform and library versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": device.type,
        "device_name": name,
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "scikit-learn": version("scikit-learn"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name")).partition(": ")[2]
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"
