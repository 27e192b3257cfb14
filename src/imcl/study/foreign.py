"""Networks of torchvision and timm: builds them, and measures what they cost.

The libraries, and torch with them, are imported when a network is built, so that nobody else waits
for them.
"""

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from imcl.errors import ImclError, unknown
from imcl.study.backbones import CHANNELS, ForeignOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGES = 2  # in a measured step; with one, BatchNorm cannot train


class Measured(NamedTuple):
    """What a network costs; the attributes are those of `imcl.study.cost.Network`."""

    macs: int
    weights: int
    maps: int


def create(options: ForeignOptions, side: int, classes: int) -> "nn.Module":
    """The network with random weights, drawn from torch's global random stream.

    Args:
        options: which one.
        side: of the images, in pixels; for networks that are built for one size.
        classes: outputs of the classifier.

    Raises:
        ImclError: its library is not installed or has no such network, or the network cannot be
            built for this size.
    """
    try:
        library = import_module(options.source)
    except ImportError:
        raise ImclError(
            f"{options.source} is not installed, which has the network {options.name}; "
            f"`pip install {options.source}`"
        ) from None
    make = _of_timm if options.source == "timm" else _of_torchvision
    try:
        made: nn.Module = make(library, options.name, side, classes)
    except ImclError:
        raise
    except Exception as error:  # each network has its own way to refuse a size
        raise ImclError(
            f"{options.source} cannot build {options.name} for images of {side} x {side} pixels: "
            f"{reason(error)}"
        ) from None
    return made


def reason(error: Exception) -> str:
    """The first line of a library's error."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


@lru_cache
def measured(options: ForeignOptions, side: int, classes: int) -> Measured:
    """What a network costs, found by one training step without numbers.

    Raises:
        ImclError: as for `create`, or it does not take such images.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]):
        model = create(options, side, classes)
    own = {parameter.untyped_storage()._cdata for parameter in model.to("meta").parameters()}
    read: dict[int, Tensor] = {}

    def keep(saved: "Tensor") -> "Tensor":
        storage = saved.untyped_storage()._cdata
        if storage not in own:
            read[storage] = saved
        return saved

    counter = FlopCounterMode(display=False)
    images = torch.empty(IMAGES, CHANNELS, side, side, device="meta")
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved), counter:
            model.train()(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise does_not_take(options, side, error) from None
    return Measured(
        macs=counter.get_total_flops() // (2 * IMAGES),
        weights=sum(parameter.numel() for parameter in model.parameters()),
        maps=sum(saved.numel() for saved in read.values()) // IMAGES,
    )


def does_not_take(options: ForeignOptions, side: int, error: Exception) -> ImclError:
    """The error of a network for which images are too small, or of a wrong size."""
    return ImclError(
        f"{options.name} does not take images of {side} x {side} pixels ({reason(error)}); give "
        "the dataset another `side`"
    )


def _of_torchvision(library: Any, name: str, side: int, classes: int) -> Any:
    known = library.models.list_models(module=library.models)
    if name not in known:
        raise ImclError(f"torchvision: {unknown('network', name, known)}")
    special: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):  # whose auxiliary heads give logits of their own
        special = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        special = {"image_size": side}
    return library.models.get_model(name, num_classes=classes, **special)


def _of_timm(library: Any, name: str, side: int, classes: int) -> Any:
    if not library.is_model(name):
        raise ImclError(f"timm: {unknown('network', name, library.list_models())}")
    fixed = getattr(library.get_pretrained_cfg(name), "fixed_input_size", False)
    special = {"img_size": side} if fixed else {}
    return library.create_model(name, num_classes=classes, **special)
