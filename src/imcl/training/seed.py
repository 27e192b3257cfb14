"""The training of one seed of a cell, from its data to its weights and its record."""

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imcl.collaboration import Collaboration
from imcl.errors import ImclError
from imcl.files import sha256, write_bytes
from imcl.models.foreign import Blueprint
from imcl.project import Project
from imcl.records.record import (
    Cost,
    Elsewhere,
    Environment,
    Epoch,
    FinalMetrics,
    OracleMetrics,
    Predictions,
    Record,
    Run,
)
from imcl.records.store import Store
from imcl.study.grid import Cell
from imcl.training import evaluation, tensorboard
from imcl.training.batches import Augmentation, Batches, Normalise
from imcl.training.checkpoint import Checkpoints, SeedState
from imcl.training.code import code
from imcl.training.data import RunData
from imcl.training.device import compile_stages, peak_memory
from imcl.training.loop import Misfit, State, fit
from imcl.training.network import Architecture, Method, assemble
from imcl.training.report import Report
from imcl.training.streams import stream


@dataclass(frozen=True)
class Task:
    """What a run is trained with.

    Attributes:
        project: where its record and weights go.
        run: the cell with one seed.
        data: its data.
        device: what to train on.
        environment: as the record tells it.
        params_sha256: of the file that the settings were read from.
        checkpoints: of the run.
        report: of the run's progress.
    """

    project: Project
    run: Cell
    data: RunData
    device: torch.device
    environment: Environment
    params_sha256: str
    checkpoints: Checkpoints
    report: Report


class Network(NamedTuple):
    """What is trained, on what, and what it is evaluated on.

    Attributes:
        collaboration: the network with its ways and baseline.
        batches: the training images.
        normalise: for the evaluated images.
        images: uint8 (N, H, W, C), evaluated after epochs.
        labels: int64 (N,), of these images, on the CPU.
    """

    collaboration: Collaboration[nn.Module]
    batches: Batches
    normalise: Normalise
    images: Tensor
    labels: Tensor

    @property
    def model(self) -> nn.Module:
        """The network itself, which is evaluated."""
        return self.collaboration.model


class Measured(NamedTuple):
    """How good the trained network is."""

    final: FinalMetrics
    oracle: OracleMetrics
    predictions: Predictions


class SeedRun:
    """The life of one seed: load, build, train, evaluate, write."""

    def __init__(self, task: Task):
        self.task, self.data = task, task.data
        (self.seed,) = task.run.seeds
        self.training = task.run.training
        self.weights = task.project.weights(task.run.run_key)
        self.history: list[Epoch] = []
        self.elsewhere: list[Elsewhere] = []
        self.cost: Cost = {
            "seed": self.seed,
            "training_seconds": 0.0,
            "evaluation_seconds": 0.0,
            "peak_memory_bytes": 0,
            "resumed": 0,
        }
        self._state: State | None = None
        self._begun = 0.0

    def run(self) -> None:
        """Train the seed, or the rest of it, and write its weights and its record.

        Raises:
            ImclError: the loss or a measure is not finite, or the disk is full.
            Stopped: a signal asked for it.
        """
        self.load()
        network = self.build()
        self.train(network)
        self.write(network, self.evaluate(network))

    def load(self) -> None:
        """Load the newest checkpoint, if there is one."""
        loaded = self.task.checkpoints.load()
        if loaded is None:
            return
        stored = loaded.state
        self.history, self.cost = stored["history"], stored["cost"]
        self.elsewhere = stored["elsewhere"]
        if loaded.differs:
            self.elsewhere.append({"epochs": len(self.history), "differs": loaded.differs})
        self.cost["resumed"] = self.cost.get("resumed", 0) + 1
        self._state = stored["training"]
        self.task.report.resumed(len(self.history), len(self._state["rows"]))

    def build(self) -> Network:
        """The untrained network and its data, on the device."""
        cell, data, device = self.task.run, self.data, self.task.device
        described = data.description
        normalise = Normalise.to(described["mean"], described["std"], device)
        batches = Batches(
            torch.from_numpy(data.arrays.train_images).to(device),
            torch.from_numpy(data.arrays.train_labels).to(device),
            normalise,
            Augmentation(cell.dataset.options.padding, cell.dataset.options.flip),
            batch_size=self.training.batch_size,
            shuffling=stream(self.seed, "shuffling", device),
            views=[stream(self.seed, "augmentation", device, view) for view in range(cell.views)],
        )
        classes = len(described["class_names"])
        backbone = (
            Blueprint.read(cell.foreign, self.task.project.root) if cell.foreign else cell.backbone
        )
        architecture = Architecture(backbone, cell.width, described["shape"], classes)
        noise_rate, epochs = data.noise["realised_rate"], self.training.epochs
        method = Method(cell.ways, cell.baseline, cell.views, noise_rate, epochs)
        collaboration = assemble(architecture, method, self.seed, batches)
        if self.task.environment.get("compiled"):
            compile_stages(collaboration.model)
        images, labels = map(torch.from_numpy, data.evaluated)
        return Network(collaboration, batches, normalise, images.to(device), labels)

    def train(self, network: Network) -> None:
        """Train to the last epoch; evaluate after epochs, and save after steps."""
        write_tensorboard = tensorboard.writer(self.task.run.run_key)
        checkpoints = self.task.checkpoints

        def after_step(state: Callable[[], State]) -> None:
            if checkpoints.save(lambda: self._stored(state())):
                self._begun = time.perf_counter()

        def after_epoch(epoch: Epoch, state: Callable[[], State]) -> None:
            checkpoints.hold()
            note = self._finish_epoch(network, epoch)
            write_tensorboard(epoch)
            self.task.report.epoch(epoch["epoch"], note)
            self._begun = time.perf_counter()
            after_step(state)

        if self.task.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.task.device)
        self._begun = time.perf_counter()
        collaboration, batches = network.collaboration, network.batches
        try:
            if self._state is not None:
                self._check_history(self._state["epoch"])
            fit(collaboration, batches, self.training, after_epoch, after_step, self._state)
        except Misfit:
            raise ImclError(
                f"{self.task.checkpoints.folder}: holds a checkpoint of another network or "
                "training; delete this folder and run again"
            ) from None

    def _check_history(self, done: int) -> None:
        """Raise Misfit unless the history is that of so many epochs."""
        found = [(epoch["epoch"], "evaluation" in epoch) for epoch in self.history]
        if found != [(number, self.training.evaluated(number)) for number in range(1, done + 1)]:
            raise Misfit

    def _stored(self, training: State) -> SeedState:
        """What a checkpoint holds of the run."""
        now = time.perf_counter()
        self.cost["training_seconds"] += now - self._begun
        self._begun = now
        return {
            "history": self.history,
            "elsewhere": self.elsewhere,
            "cost": self.cost,
            "training": training,
        }

    def _finish_epoch(self, network: Network, epoch: Epoch) -> str:
        """Evaluate the network if it is time to, and add up the cost; a note for people."""
        trained = time.perf_counter()
        self.cost["training_seconds"] += trained - self._begun
        number = epoch["epoch"]
        terms = ", ".join(f"{name} {value:.3g}" for name, value in epoch["terms"].items())
        note = f"loss {epoch['loss']:.3g} ({terms})"
        if self.training.evaluated(number):
            measured = evaluation.metrics(self._logits(network), network.labels)
            _check_finite(**measured)
            epoch["evaluation"] = measured
            note += f", {self.data.arrays.evaluation} accuracy {measured['accuracy']:.2%}"
        self.history.append(epoch)
        self.cost["evaluation_seconds"] += time.perf_counter() - trained
        peak = peak_memory(self.task.device)
        self.cost["peak_memory_bytes"] = max(self.cost["peak_memory_bytes"], peak)
        return note

    def evaluate(self, network: Network) -> Measured:
        """Measure the trained network."""
        redundancy = evaluation.redundancy(network.model, network.images, network.normalise)
        _check_finite(**redundancy)
        evaluated = [epoch for epoch in self.history if "evaluation" in epoch]
        best = max(evaluated, key=lambda epoch: epoch["evaluation"]["accuracy"])
        logits = self._logits(network)
        final: FinalMetrics = {**self.history[-1]["evaluation"], **redundancy}
        if self.data.true_labels is not None:
            truth = torch.from_numpy(self.data.true_labels)
            final["true_accuracy"] = evaluation.metrics(logits, truth)["accuracy"]
        return Measured(
            final=final,
            oracle={"epoch": best["epoch"], **best["evaluation"]},
            predictions=evaluation.predictions(logits, network.labels),
        )

    def write(self, network: Network, measured: Measured) -> None:
        """Write the weights, then the record; the checkpoints are of no more use."""
        weights = {name: tensor.cpu() for name, tensor in network.model.state_dict().items()}
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        write_bytes(self.weights, buffer.getbuffer())
        run: Run = {
            "seed": self.seed,
            "final": measured.final,
            "oracle": measured.oracle,
            "predictions": measured.predictions,
            "parameters": _count(network.model),
            "training_parameters": _count(network.collaboration.trained),
            "weights_sha256": sha256(self.weights),
            "history": self.history,
        }
        if self.elsewhere:
            run["elsewhere"] = self.elsewhere
        cell = self.task.run
        record: Record = {
            "cell": cell.name,
            "digest": cell.digest,
            "config": cell.config,
            "params_sha256": [self.task.params_sha256],
            **self.data.told({"dataset", "noise"} - cell.drawn_per_run),
            "code": code(),
            "environment": self.task.environment,
            "runs": [{**run, **self.data.told(cell.drawn_per_run)}],
            "cost": [self.cost],
        }
        Store(self.task.project).write_run(cell, record)
        self.task.checkpoints.finish()

    def _logits(self, network: Network) -> Tensor:
        images, precision = network.images, self.training.precision
        return evaluation.predict(network.model, images, network.normalise, precision)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check_finite(**measured: float) -> None:
    for name, value in measured.items():
        if not math.isfinite(value):
            raise ImclError(
                f"the trained network's {name} is {value}: after the last updates its weights are "
                "not finite. Lower training.learning_rate"
            )
