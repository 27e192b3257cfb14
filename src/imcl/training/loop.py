"""The training loop: one network, one seed. It can be stopped and continued between any two steps.

Losses stay on the device for a whole epoch and are read once at its end.
"""

import math
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.collaboration import Collaboration
from imcl.errors import ImclError
from imcl.models.backbone import Backbone
from imcl.records.record import Epoch
from imcl.study.settings import Training
from imcl.training.batches import Batch, Batches
from imcl.training.optimizer import SGD, learning_rate

EAGER_STEPS = 3  # before a step is captured, so that libraries have chosen their algorithms


class State(TypedDict):
    """Everything that decides how training continues.

    Attributes:
        epoch: how many are done.
        names: of the loss and its terms, if the next epoch has begun.
        rows: what `Trainer.step` returned for each step of the next epoch that is done.
        trained: the weights and buffers of the network and its baseline.
        momentum: the optimizer's buffers, by group of parameters.
        streams: the states of the random streams. Those of the batches are as they were at the
            beginning of the epoch, at which all of its random numbers are drawn.
    """

    epoch: int
    names: list[str]
    rows: Tensor
    trained: dict[str, Tensor]
    momentum: list[list[Tensor]]
    streams: list[Tensor]


class Moment(NamedTuple):
    """How far training is before a step: numbers, or scalars on a GPU.

    A step that is captured there reads scalars, so it is captured once for the whole training.

    Attributes:
        step: how many steps are done.
        progress: the share of the epochs that is done, in 0..1.
        rate: the learning rate of the step.
    """

    step: int | Tensor
    progress: float | Tensor
    rate: float | Tensor


class Misfit(Exception):
    """A stored state is not of this network and training."""


# Called with a function that gives the state to store.
AfterStep = Callable[[Callable[[], State]], object]
AfterEpoch = Callable[[Epoch, Callable[[], State]], object]


class Trainer:
    """Trains a network epoch by epoch.

    Args:
        collaboration: the network with its ways and baseline.
        batches: the training data.
        training: the training settings.
    """

    def __init__(
        self, collaboration: Collaboration[Backbone], batches: Batches, training: Training
    ):
        self.collaboration, self.batches, self.training = collaboration, batches, training
        self.optimizer = SGD(collaboration.trained, training.momentum, training.weight_decay)
        self.device = batches.images.device
        self.done = 0  # epochs
        self._names: list[str] = []
        self._rows: list[Tensor] = []  # of the steps of the epoch that is being trained
        self._begun_with = _states(batches.generators)
        self._eager_steps = EAGER_STEPS if self.device.type == "cuda" else math.inf
        self._captured: _Captured | None = None

    def epoch(self, after_step: AfterStep = lambda state: None) -> Epoch:
        """Train the next epoch, or the rest of it, and return its history.

        Args:
            after_step: called after each step but the last.

        Raises:
            ImclError: the loss is not finite.
        """
        self.collaboration.trained.train()
        epoch, steps = self.done, len(self.batches)
        first = len(self._rows)
        for index, batch in enumerate(self.batches.epoch(first), first):
            step = epoch * steps + index
            rate = learning_rate(step, steps, self.training)
            moment = Moment(step, epoch / self.training.epochs, rate)
            if self._eager_steps > 0:
                self._eager_steps -= 1
                self._names, row = self.step(batch, moment)
            else:
                self._captured = self._captured or _Captured(self, batch)
                self._names, row = self._captured(batch, moment)
            self._rows.append(row)
            if index + 1 < steps:
                after_step(self.state)
        names = self._names
        values, correct = torch.stack(self._rows).cpu().split([len(names), 1], 1)
        self._check_finite(values, names, epoch)
        loss, *terms = values.double().mean(0).tolist()
        self.done, self._names, self._rows = epoch + 1, [], []
        self._begun_with = _states(self.batches.generators)
        return {
            "epoch": epoch + 1,
            "learning_rate": rate,
            "loss": loss,
            "terms": dict(zip(names[1:], terms, strict=True)),
            "train_accuracy": correct.double().sum().item() / (steps * self.batches.batch_size),
        }

    def step(self, batch: Batch, moment: Moment) -> tuple[list[str], Tensor]:
        """Forward, backward and update of one batch.

        Args:
            batch: on the device.
            moment: of the step.

        Returns:
            The names of the loss and its terms, and float32 (terms + 2,) on the device: loss,
            terms, and how many images were classified right.
        """
        views, labels, indices = batch
        autocast = self.training.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            step = self.collaboration(views, labels, moment.progress, indices, moment.step)
        step.loss.backward()
        self.optimizer.step(moment.rate)
        correct = (step.logits.argmax(1) == labels).sum()
        row = torch.stack([step.loss.detach(), *step.terms.values(), correct.to(step.loss.dtype)])
        return ["loss", *step.terms], row

    def state(self) -> State:
        """The state to store. It is not a copy: further training changes it."""
        return {
            "epoch": self.done,
            "names": self._names,
            "rows": torch.stack(self._rows) if self._rows else torch.empty(0),
            "trained": self.collaboration.trained.state_dict(),
            "momentum": self.optimizer.buffers,
            "streams": [*self._begun_with, *_states(self.collaboration.generators)],
        }

    def restore(self, state: State) -> None:
        """Continue from a stored state; the result is the same to the bit.

        Raises:
            Misfit: the state is of another network or training.
        """
        if _form(state) != _form(self.state()) or not self._is_within(state):
            raise Misfit
        if self.device.type == "cuda":
            # Libraries choose their algorithms at their first steps, so do these before a capture.
            self.collaboration.trained.train()
            for batch in islice(self.batches.epoch(), EAGER_STEPS):
                self.step(batch, Moment(0, 0.0, 0.0))
        self.done, self._names = state["epoch"], state["names"]
        self._rows = list(state["rows"].to(self.device))
        self._eager_steps -= self.done * len(self.batches) + len(self._rows)
        self.collaboration.trained.load_state_dict(state["trained"])
        for group, stored in zip(self.optimizer.buffers, state["momentum"], strict=True):
            for buffer, values in zip(group, stored, strict=True):
                buffer.copy_(values)
        generators = [*self.batches.generators, *self.collaboration.generators]
        for generator, stream in zip(generators, state["streams"], strict=True):
            try:
                generator.set_state(stream)
            except RuntimeError:
                raise Misfit from None
        self._begun_with = _states(self.batches.generators)

    def _is_within(self, state: State) -> bool:
        """Whether a state is of a step of this training, with what its epoch's steps returned."""
        epoch, rows, last = state["epoch"], state["rows"], self.training.epochs
        if not rows.numel():
            return 0 < epoch <= last
        shape = (min(len(rows), len(self.batches) - 1), len(state["names"]) + 1)
        return 0 <= epoch < last and rows.shape == shape and rows.dtype == torch.float32

    def _check_finite(self, values: Tensor, names: list[str], epoch: int) -> None:
        """Raise ImclError at the first step with a loss or term, in (steps, terms), not finite."""
        bad = ~values.isfinite().all(1)
        if bad.any():
            step = int(bad.nonzero()[0])
            found = zip(names, values[step].tolist(), strict=True)
            terms = ", ".join(f"{name} {value:g}" for name, value in found)
            raise ImclError(
                f"the loss is not finite at epoch {epoch + 1}, step {step + 1} of {len(values)}: "
                f"{terms}. Lower training.learning_rate (now {self.training.learning_rate:g}) or "
                "the weight of the term that grew, or train in float32"
            )


def fit(
    collaboration: Collaboration[Backbone],
    batches: Batches,
    training: Training,
    after_epoch: AfterEpoch,
    after_step: AfterStep = lambda state: None,
    state: State | None = None,
) -> None:
    """Train a network to the end.

    Args:
        collaboration: as for `Trainer`; batches and training too.
        after_epoch: called after each epoch with its history.
        after_step: called after each step but an epoch's last.
        state: of an earlier trainer, to continue from.

    Raises:
        ImclError: the loss is not finite.
        Misfit: the state is of another network or training.
    """
    trainer = Trainer(collaboration, batches, training)
    if state is not None:
        trainer.restore(state)
    while trainer.done < training.epochs:
        after_epoch(trainer.epoch(after_step), trainer.state)


def _form(state: State) -> tuple[object, ...]:
    """The shape and type of each tensor of a state."""
    trained = {name: (tensor.shape, tensor.dtype) for name, tensor in state["trained"].items()}
    momentum = [[(tensor.shape, tensor.dtype) for tensor in group] for group in state["momentum"]]
    return trained, momentum, [(tensor.shape, tensor.dtype) for tensor in state["streams"]]


class _Captured:
    """A step as a CUDA graph: its hundreds of kernels are launched at once.

    One by one from Python, launching them takes longer than running them.
    """

    def __init__(self, trainer: Trainer, batch: Batch):
        views, labels, indices = batch
        self.batch = Batch([view.clone() for view in views], labels.clone(), indices.clone())
        self.scalars = [torch.zeros((), device=trainer.device) for _ in Moment._fields]
        self.graph = torch.cuda.CUDAGraph()
        for generator in trainer.collaboration.generators:
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):
            self.names, self.row = trainer.step(self.batch, Moment(*self.scalars))

    def __call__(self, batch: Batch, moment: Moment) -> tuple[list[str], Tensor]:
        for own, given in zip(_tensors(self.batch), _tensors(batch), strict=True):
            own.copy_(given)
        for scalar, now in zip(self.scalars, moment, strict=True):
            scalar.fill_(now)
        self.graph.replay()
        return self.names, self.row.clone()


def _states(generators: list[torch.Generator]) -> list[Tensor]:
    return [generator.get_state() for generator in generators]


def _tensors(batch: Batch) -> list[Tensor]:
    return [*batch.views, batch.labels, batch.indices]
