"""The training loop: one network, one seed. It can be stopped and continued between any two steps.

Losses stay on the device for a whole epoch and are read once at its end.
"""

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.collaboration import Collaboration
from imcl.errors import ImclError
from imcl.records.record import Epoch
from imcl.study.settings import Training
from imcl.training.batches import Batch, Batches, Draws
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
        self, collaboration: Collaboration[nn.Module], batches: Batches, training: Training
    ):
        self.collaboration, self.batches, self.training = collaboration, batches, training
        self.optimizer = SGD(collaboration.trained, training.momentum, training.weight_decay)
        self.device = batches.images.device
        self.done = 0  # epochs
        self._names: list[str] = []
        self._steps = 0  # of the epoch that is being trained
        self._rows = torch.empty(0)  # what each of them returned; made when the first has
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
        steps, draws = len(self.batches), self.batches.draw()
        moments = [self._moment(step) for step in range(steps)]
        replay: Callable[[], None] | None = None
        for step in range(self._steps, steps):
            if self._eager_steps > 0:
                self._eager_steps -= 1
                batch = self.batches.batch(draws, self.batches.positions(step))
                self._keep(step, *self.step(batch, moments[step]))
            else:
                replay = replay or self._replay(draws, moments)
                replay()
            self._steps = step + 1
            if self._steps < steps:
                after_step(self.state)
        names = self._names
        values, correct = self._rows.cpu().split([len(names), 1], 1)
        self._check_finite(values, names, self.done)
        loss, *terms = values.double().mean(0).tolist()
        self.done, self._steps = self.done + 1, 0
        self._begun_with = _states(self.batches.generators)
        return {
            "epoch": self.done,
            "learning_rate": float(moments[-1].rate),
            "loss": loss,
            "terms": dict(zip(names[1:], terms, strict=True)),
            "train_accuracy": correct.double().sum().item() / (steps * self.batches.batch_size),
        }

    def _moment(self, step: int) -> Moment:
        """Of a step of the epoch that is being trained."""
        step += self.done * len(self.batches)
        rate = learning_rate(step, len(self.batches), self.training)
        return Moment(step, self.done / self.training.epochs, rate)

    def _keep(self, step: int, names: list[str], row: Tensor) -> None:
        """Keep what a step of the epoch returned."""
        if not self._names:
            self._names, self._rows = names, row.new_zeros(len(self.batches), len(row))
        self._rows[step] = row

    def _replay(self, draws: Draws, moments: Sequence[Moment]) -> Callable[[], None]:
        """What trains the next step of the epoch, at each call, as it was captured."""
        self._captured = self._captured or _Captured(self, draws, self._rows)
        self._captured.begin(draws, moments, self._steps)
        return self._captured.graph.replay

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
            "names": self._names if self._steps else [],
            "rows": self._rows[: self._steps].clone() if self._steps else torch.empty(0),
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
                self._keep(0, *self.step(batch, Moment(0, 0.0, 0.0)))
        self.done = state["epoch"]
        for row in state["rows"].to(self.device):
            self._keep(self._steps, state["names"], row)
            self._steps += 1
        self._eager_steps -= self.done * len(self.batches) + self._steps
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
    collaboration: Collaboration[nn.Module],
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
    """A step as a CUDA graph, from drawing its images to its row: hundreds of kernels, launched at
    once.

    One by one from Python, launching them takes longer than running them. The graph reads the
    epoch's random numbers and moments from memory of its own, and counts its steps itself. So a
    step needs nothing from the CPU but its start.

    Args:
        trainer: of the step.
        draws: of an epoch.
        rows: (steps, terms + 2), where each step writes its row.
    """

    def __init__(self, trainer: Trainer, draws: Draws, rows: Tensor):
        batches, device = trainer.batches, trainer.device
        self.draws = [tensor.clone() for tensor in _tensors(draws)]
        self.moments = torch.zeros(len(batches), len(Moment._fields), device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.graph = torch.cuda.CUDAGraph()
        for generator in trainer.collaboration.generators:
            self.graph.register_generator_state(generator)
        order, *drawn = self.draws
        own = Draws(order, [*zip(drawn[::2], drawn[1::2], strict=True)])
        with torch.cuda.graph(self.graph):
            first = self.step * batches.batch_size
            batch = batches.batch(own, first + torch.arange(batches.batch_size, device=device))
            _, row = trainer.step(batch, Moment(*self.moments[self.step][0]))
            rows.index_copy_(0, self.step, row[None])
            self.step += 1

    def begin(self, draws: Draws, moments: Sequence[Moment], step: int) -> None:
        """Make a step of an epoch the next one to replay."""
        for own, drawn in zip(self.draws, _tensors(draws), strict=True):
            own.copy_(drawn)
        self.moments.copy_(torch.tensor(moments))
        self.step.fill_(step)


def _states(generators: list[torch.Generator]) -> list[Tensor]:
    return [generator.get_state() for generator in generators]


def _tensors(draws: Draws) -> list[Tensor]:
    return [draws.order, *(tensor for drawn in draws.augmentations for tensor in drawn)]
