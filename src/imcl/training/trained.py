"""The trained network of a seed, for pictures that it has not seen."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from imcl.data.arrays import Images
from imcl.data.description import describe
from imcl.data.folder import square
from imcl.errors import ImclError
from imcl.files import read_bytes, sha256
from imcl.models.foreign import Blueprint
from imcl.project import Project
from imcl.records.store import Store
from imcl.study.foreign import reason
from imcl.study.grid import Cell
from imcl.training import evaluation
from imcl.training.batches import LEAST_STD, Normalise
from imcl.training.network import Architecture, build


@dataclass(frozen=True)
class Trained:
    """A trained network, and what it needs to know of its images.

    Attributes:
        run: the cell with one seed.
        model: in evaluation mode.
        shape: height, width and channels of an image.
        class_names: of the outputs.
        mean: each channel's mean over the training images, with pixels in 0..1.
        std: each channel's standard deviation, likewise.
        weights_sha256: of the file of the weights.
    """

    run: Cell
    model: nn.Module
    shape: Sequence[int]
    class_names: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    weights_sha256: str

    @classmethod
    def load(cls, project: Project, run: Cell, device: torch.device) -> Self:
        """The network of a cell with one seed.

        Raises:
            ImclError: its weights are not here or are not those that its record names, or its
                dataset is not prepared.
        """
        (seed,) = run.seeds
        path, record = project.weights(run.run_key), project.run(run.run_key)
        if not path.exists():
            again = " --again" if record.exists() else ""
            raise ImclError(
                f"{path}: missing; run `imcl train {run.name} --seed {seed}{again}` first"
            )
        if faults := Store(project).faults(run, record):
            raise ImclError(f"{record}: {faults[0]}")
        described = describe(project, run.data(seed).dataset)
        backbone = Blueprint(run.foreign.options) if run.foreign else run.backbone
        classes = len(described["class_names"])
        with torch.random.fork_rng(devices=[]):
            model = build(*Architecture(backbone, run.width, described["shape"], classes))
        try:
            content = io.BytesIO(read_bytes(path))
            model.load_state_dict(torch.load(content, map_location="cpu", weights_only=True))
        except Exception as error:  # a damaged file can fail in any way
            raise ImclError(f"{path}: damaged ({reason(error)}); train the seed again") from None
        return cls(
            run,
            model.to(device).eval(),
            described["shape"],
            described["class_names"],
            described["mean"],
            described["std"],
            sha256(path),
        )

    def image(self, file: Path) -> Images:
        """A picture as its dataset's were prepared, uint8 (H, W, C).

        Raises:
            ImclError: it cannot be used.
        """
        side, _, channels = self.shape
        rgb = square(file, side, self.run.dataset.options.max_megapixels)
        return rgb if channels == 3 else np.asarray(Image.fromarray(rgb).convert("L"))[..., None]

    def probabilities(self, images: Sequence[Images]) -> Tensor:
        """float64 (N, classes) of uint8 images (H, W, C), in the precision of the training."""
        device = next(self.model.parameters()).device
        normalise = Normalise.to(self.mean, self.std, device)
        batch = torch.from_numpy(np.stack(images)).to(device)
        precision = self.run.training.precision
        return evaluation.predict(self.model, batch, normalise, precision).double().softmax(1)

    @property
    def told(self) -> dict[str, Any]:
        """What an exported file says of itself."""
        height, width, channels = self.shape
        return {
            "cell": self.run.name,
            "digest": self.run.digest,
            "seed": self.run.seeds[0],
            "weights_sha256": self.weights_sha256,
            "class_names": [*self.class_names],
            "input": f"images: float32 (B, {channels}, {height}, {width}), pixels in 0..1",
            "output": f"probabilities: float32 (B, {len(self.class_names)})",
        }


class Served(nn.Module):
    """A trained network with its normalisation: from pixels in 0..1 to probabilities."""

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained):
        super().__init__()
        self.model = trained.model
        for name in ("mean", "std"):
            values = torch.tensor(getattr(trained, name))[:, None, None]
            self.register_buffer(name, values.clamp(min=LEAST_STD) if name == "std" else values)

    def forward(self, images: Tensor) -> Tensor:
        """float32 (B, classes) of images float32 (B, C, H, W)."""
        return self.model((images - self.mean) / self.std).softmax(1)


def torch_program(trained: Trained) -> bytes:
    """The network as a file for `torch.export.load`. Its extra file `imcl.json` says what it is.

    Raises:
        ImclError: torch cannot export the network for any number of images.
    """
    program, written = _exported(trained), io.BytesIO()
    torch.export.save(program, written, extra_files={"imcl.json": json.dumps(trained.told)})
    return written.getvalue()


def onnx_program(trained: Trained) -> bytes:
    """The network as a file of ONNX. Its metadata `imcl` says what it is.

    Raises:
        ImclError: onnx and onnxscript are not installed, or torch cannot export the network.
    """
    if find_spec("onnxscript") is None:  # which torch's exporter needs
        raise ImclError(
            "--format onnx: needs onnx and onnxscript; `pip install onnx onnxscript`, or take "
            "--format torch"
        )
    made = torch.onnx.export(_exported(trained), input_names=["images"], verbose=False)
    assert made is not None
    made.model.metadata_props["imcl"] = json.dumps(trained.told)
    content: bytes = made.model_proto.SerializeToString()
    return content


def _exported(trained: Trained) -> torch.export.ExportedProgram:
    height, width, channels = trained.shape
    images = torch.rand(2, channels, height, width)
    try:
        with torch.no_grad():
            return torch.export.export(
                Served(trained).eval(),
                (images,),
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            )
    except Exception as error:  # each network has its own way to fail
        raise ImclError(
            f"{trained.run.name}: torch cannot export this network ({reason(error)})"
        ) from None
