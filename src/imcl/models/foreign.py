"""Networks of torchvision and timm, with pretrained weights from a file of the user's."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imcl.errors import ImclError, UsageError
from imcl.files import read_bytes
from imcl.models.classifier import Classifier, Needs
from imcl.study.backbones import CHANNELS, ForeignOptions
from imcl.study.foreign import create, does_not_take
from imcl.study.grid import Foreign

# Under these keys a checkpoint holds the weights beside other things.
NESTED = ("state_dict", "model")
# Heads beside the classifier of googlenet and inception_v3, which are not trained here.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
LISTED = 4  # names in a message


class Blueprint(NamedTuple):
    """What a network is built from.

    Attributes:
        options: its library and its name.
        weights: that training starts from, by name; None for random ones.
        source: the file of the weights, for messages.
    """

    options: ForeignOptions
    weights: Mapping[str, Tensor] | None = None
    source: str = ""

    @classmethod
    def read(cls, foreign: Foreign, root: Path) -> "Blueprint":
        """With the weights that the cell names.

        Args:
            foreign: the network of a cell.
            root: the folder that the path of its weights starts from.

        Raises:
            ImclError: the file is missing, has changed since its digest was computed, or holds no
                weights.
        """
        if foreign.options.weights is None:
            return cls(foreign.options)
        path = root / foreign.options.weights
        try:
            content = read_bytes(path)
        except FileNotFoundError:
            raise ImclError(
                f"{path}: no such file; bring the weights that backbones.{foreign.name}.weights "
                "names, or change this option"
            ) from None
        if hashlib.sha256(content).hexdigest() != foreign.content:
            raise ImclError(f"{path}: has changed since this command began; run it again")
        return cls(foreign.options, _state(content, str(path)), str(path))

    def build(self, side: int, classes: int) -> nn.Module:
        """The network, on the CPU; what is random is drawn from torch's global random stream.

        Weights of a classifier for another number of classes stay random.

        Raises:
            ImclError: the network cannot be built, does not take such images, or has no stages to
                measure; or the weights are of another network.
        """
        model = create(self.options, side, classes)
        if self.weights is not None:
            self._load(model, self.weights, classes)
        try:
            Classifier(model, Needs(True, None)).find(torch.zeros(2, CHANNELS, side, side))
        except UsageError:
            raise
        except (RuntimeError, ValueError, AssertionError) as error:
            raise does_not_take(self.options, side, error) from None
        return model

    def _load(self, model: nn.Module, weights: Mapping[str, Tensor], classes: int) -> None:
        own = model.state_dict()
        given = {k: v for k, v in weights.items() if k in own or not k.startswith(AUXILIARY)}
        differ = {name for name in own if name in given and own[name].shape != given[name].shape}
        # What has a row for each class, in the file for another number of them.
        rows = {
            name: len(given[name])
            for name in differ
            if own[name].shape[:1] == (classes,) and own[name].shape[1:] == given[name].shape[1:]
        }
        head = {*rows} if len({*rows.values()}) == 1 else set()
        faults = {
            "missing": own.keys() - given.keys(),
            "unknown": given.keys() - own.keys(),
            "of another shape": differ - head,
        }
        told = [f"{what}: {_listed(names)}" for what, names in faults.items() if names]
        if told:
            raise ImclError(
                f"{self.source}: these are not the weights of {self.options.source}'s "
                f"{self.options.name}; {'; '.join(told)}"
            )
        model.load_state_dict({**given, **{name: own[name] for name in head}})


def _state(content: bytes, path: str) -> Mapping[str, Tensor]:
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # what is no file of weights can fail in any way
        loaded = None
    for key in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if (
        not isinstance(loaded, Mapping)
        or not loaded
        or not all(isinstance(value, Tensor) for value in loaded.values())
    ):
        raise ImclError(
            f"{path}: holds no weights alone; write them with torch.save(model.state_dict(), FILE)"
        )
    return loaded


def _listed(names: set[str]) -> str:
    shown = sorted(names)
    more = len(shown) - LISTED
    return ", ".join(shown[:LISTED]) + (f" and {more} more" if more > 0 else "")
