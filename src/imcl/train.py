"""The training loop: one network, one seed.

SGD with Nesterov momentum, a warm-up and a falling learning rate. Losses stay on the device for a
whole epoch and are read once at its end.
"""

import math
from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from imcl.batches import Batches
from imcl.errors import ImclError
from imcl.ways.collaboration import Collaboration


def fit(
    collaboration: Collaboration,
    batches: Batches,
    training: dict,
    after_epoch: Callable[[dict, Callable[[], dict]], None],
    state: dict | None = None,
) -> None:
    """Train the collaboration's model.

    Args:
        collaboration: the model, what trains beside it, and the loss.
        batches: the training data.
        training: as in params.yaml.
        after_epoch: called with what `Trainer.epoch` gives, and with `Trainer.state`.
        state: of an earlier call's trainer, to go on from.

    Raises:
        ImclError: the loss is not finite; nothing is returned.
    """
    trainer = Trainer(collaboration, batches, training)
    if state is not None:
        trainer.restore(state)
    for epoch in range(trainer.done, training["epochs"]):
        after_epoch(trainer.epoch(epoch), trainer.state)


class Trainer:
    """Trains epoch by epoch; arguments as for `fit`."""

    def __init__(self, collaboration: Collaboration, batches: Batches, training: dict):
        self.collaboration, self.batches, self.training = collaboration, batches, training
        self.optimizer = SGD(collaboration.trained, training["momentum"], training["weight_decay"])
        self.device = batches.images.device
        self.done = 0  # epochs
        self._eager_steps = EAGER_STEPS if self.device.type == "cuda" else math.inf

    def epoch(self, epoch: int) -> dict:
        """Train one epoch, counted from 0.

        Returns:
            Its history: epoch (from 1), learning_rate (of its last step), loss, terms and
            train_accuracy (means over the epoch's steps; accuracy on augmented images, against the
            labels that were trained on).

        Raises:
            ImclError: the loss is not finite.
        """
        self.collaboration.trained.train()
        progress = epoch / self.training["epochs"]
        rows: list[Tensor] = []
        captured = None
        steps = len(self.batches)
        for index, (views, labels, indices) in enumerate(self.batches.epoch()):
            rate = learning_rate(epoch * steps + index, steps, self.training)
            if self._eager_steps > 0:
                self._eager_steps -= 1
                names, row = self.step(views, labels, indices, progress, rate)
            else:
                # Anew for each epoch, since a graph holds the epoch's progress as a constant.
                captured = captured or _Captured(self, views, labels, indices, progress)
                names, row = captured(views, labels, indices, rate)
            rows.append(row)
        values, correct = torch.stack(rows).cpu().split([len(names), 1], 1)
        _check_finite(values, names, epoch, self.training)
        loss, *terms = values.double().mean(0).tolist()
        self.done = epoch + 1
        return {
            "epoch": epoch + 1,
            "learning_rate": rate,
            "loss": loss,
            "terms": dict(zip(names[1:], terms, strict=True)),
            "train_accuracy": correct.double().sum().item() / (steps * self.batches.batch_size),
        }

    @property
    def _generators(self) -> list[torch.Generator]:
        batches = self.batches
        return [batches.shuffling, *batches.augmentation, *self.collaboration.generators]

    def state(self) -> dict:
        """All that decides how training goes on: to be stored, not kept, since it is not copied."""
        return {
            "epoch": self.done,
            "trained": self.collaboration.trained.state_dict(),
            "momentum": self.optimizer.buffers,
            "streams": [generator.get_state() for generator in self._generators],
        }

    def restore(self, state: dict) -> None:
        """Go on from where `state` was taken, to the same bits."""
        if self.device.type == "cuda":
            # What libraries choose at their first steps must be chosen before a step is captured.
            self.collaboration.trained.train()
            for views, labels, indices in islice(self.batches.epoch(), EAGER_STEPS):
                self.step(views, labels, indices, 0.0, 0.0)
        self.done = state["epoch"]
        self._eager_steps -= self.done * len(self.batches)
        self.collaboration.trained.load_state_dict(state["trained"])
        for group, stored in zip(self.optimizer.buffers, state["momentum"], strict=True):
            for buffer, values in zip(group, stored, strict=True):
                buffer.copy_(values)
        for generator, stream in zip(self._generators, state["streams"], strict=True):
            generator.set_state(stream)

    def step(
        self,
        views: list[Tensor],
        labels: Tensor,
        indices: Tensor,
        progress: float,
        rate: float | Tensor,
    ) -> tuple[list[str], Tensor]:
        """Forward, backward and update of one batch.

        Returns:
            The names of the loss and its terms, and float32 (terms + 2,) on the device: loss,
            terms, and how many images were classified right.
        """
        autocast = self.training["precision"] == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            images = views if len(views) > 1 else views[0]
            step = self.collaboration(images, labels, progress, indices)
        step.loss.backward()
        self.optimizer.step(rate)
        correct = (step.logits.argmax(1) == labels).sum()
        row = torch.stack([step.loss.detach(), *step.terms.values(), correct.to(step.loss.dtype)])
        return ["loss", *step.terms], row


EAGER_STEPS = 3  # before a step is captured, so that libraries have chosen their algorithms


class _Captured:
    """A step as a CUDA graph: its hundreds of kernels are launched at once.

    Launched one by one from Python they take longer to launch than to run.
    """

    def __init__(
        self,
        trainer: Trainer,
        views: list[Tensor],
        labels: Tensor,
        indices: Tensor,
        progress: float,
    ):
        self.inputs = [tensor.clone() for tensor in (*views, labels, indices)]
        self.rate = torch.zeros((), device=trainer.device)
        *own_views, own_labels, own_indices = self.inputs
        self.graph = torch.cuda.CUDAGraph()
        for generator in trainer.collaboration.generators:
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):
            self.names, self.row = trainer.step(
                own_views, own_labels, own_indices, progress, self.rate
            )

    def __call__(
        self, views: list[Tensor], labels: Tensor, indices: Tensor, rate: float
    ) -> tuple[list[str], Tensor]:
        for own, given in zip(self.inputs, (*views, labels, indices), strict=True):
            own.copy_(given)
        self.rate.fill_(rate)
        self.graph.replay()
        return self.names, self.row.clone()


class SGD:
    """SGD with Nesterov momentum; weight decay on weight matrices and kernels alone.

    Norms and biases are not decayed, as in He et al., "Bag of Tricks" (CVPR 2019), section 3.1.
    It calls the function behind torch.optim.SGD: the class itself imports torch's compiler at
    its first use, 3.5 s in each process.
    """

    def __init__(self, model: nn.Module, momentum: float, weight_decay: float):
        parameters = list(model.parameters())
        self.momentum = momentum
        self.groups = [
            ([p for p in parameters if p.ndim > 1], weight_decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        ]
        self.buffers = [[torch.zeros_like(p) for p in group] for group, _ in self.groups]

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters from their gradients, and forget the gradients.

        Args:
            learning_rate: on a GPU also a scalar tensor there.
        """
        for (group, weight_decay), buffers in zip(self.groups, self.buffers, strict=True):
            sgd(
                group,
                [p.grad for p in group],
                buffers,
                fused=True,
                weight_decay=weight_decay,
                momentum=self.momentum,
                lr=learning_rate,
                dampening=0.0,
                nesterov=self.momentum > 0,
                maximize=False,
            )
            for parameter in group:
                parameter.grad = None


def learning_rate(step: int, steps_per_epoch: int, training: dict) -> float:
    """The learning rate of an update, counted from 0.

    Warm-up over `warmup_epochs` to `learning_rate`, reached at the first step behind it, then
    half a cosine that would reach 0 at the step behind the last (Loshchilov and Hutter 2017).
    The warm-up is a straight line for `cosine` and half a cosine for `one_cycle`, from 1/25 of
    the peak, as in Smith and Topin (2018).
    """
    peak = training["learning_rate"]
    total = training["epochs"] * steps_per_epoch
    warmup = training["warmup_epochs"] * steps_per_epoch
    if step >= warmup:
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    if training["schedule"] == "cosine":
        return peak * (step + 1) / (warmup + 1)
    first = peak / 25
    return first + (peak - first) * 0.5 * (1 - math.cos(math.pi * step / warmup))


def _check_finite(values: Tensor, names: list[str], epoch: int, training: dict) -> None:
    """Raise ImclError at the first step whose loss or terms, a row of (steps, terms), are not."""
    bad = ~values.isfinite().all(1)
    if bad.any():
        step = int(bad.nonzero()[0])
        terms = ", ".join(f"{n} {v:g}" for n, v in zip(names, values[step].tolist(), strict=True))
        raise ImclError(
            f"the loss is not finite at epoch {epoch + 1}, step {step + 1} of {len(values)}: "
            f"{terms}. Lower training.learning_rate (now {training['learning_rate']:g}) or the "
            "weight of the term that grew, or train in float32"
        )
