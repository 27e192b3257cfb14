"""The optimizer and its learning rate."""

import math

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from imcl.study.settings import Training


class SGD:
    """SGD with Nesterov momentum; weight decay on weight matrices and kernels only.

    Norms and biases are not decayed, as in He et al., "Bag of Tricks" (CVPR 2019), section 3.1.
    It calls the function behind torch.optim.SGD: the class itself imports torch's compiler at
    its first use, which takes 3.5 s in each process.
    """

    def __init__(self, model: nn.Module, momentum: float, weight_decay: float):
        parameters: list[Tensor] = list(model.parameters())
        self.momentum = momentum
        self.groups = [
            ([p for p in parameters if p.ndim > 1], weight_decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        ]
        self.buffers = [[torch.zeros_like(p) for p in group] for group, _ in self.groups]

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters from their gradients, then delete the gradients.

        Args:
            learning_rate: on a GPU also a scalar tensor there.
        """
        for (group, weight_decay), buffers in zip(self.groups, self.buffers, strict=True):
            # A network of torchvision or timm may have a parameter that it does not use.
            used = [
                (parameter, parameter.grad, buffer)
                for parameter, buffer in zip(group, buffers, strict=True)
                if parameter.grad is not None
            ]
            sgd(
                [parameter for parameter, _, _ in used],
                [gradient for _, gradient, _ in used],
                [buffer for _, _, buffer in used],
                fused=True,
                weight_decay=weight_decay,
                momentum=self.momentum,
                lr=learning_rate,  # type: ignore[arg-type]  # torch takes a tensor here too
                dampening=0.0,
                nesterov=self.momentum > 0,
                maximize=False,
            )
            for parameter in group:
                parameter.grad = None


def learning_rate(step: int, steps_per_epoch: int, training: Training) -> float:
    """The learning rate of an update, counted from 0.

    It rises over `warmup_epochs` to `learning_rate`, reached at the first step after them. Then
    it falls as half a cosine that would reach 0 at the step after the last (Loshchilov and Hutter
    2017). It rises in a straight line with `cosine`, and as half a cosine from 1/25 of the peak
    with `one_cycle`, as in Smith and Topin (2018).
    """
    peak = training.learning_rate
    last = training.epochs * steps_per_epoch
    warmup = training.warmup_epochs * steps_per_epoch
    if step >= warmup:
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (last - warmup)))
    if training.schedule == "cosine":
        return peak * (step + 1) / (warmup + 1)
    first = peak / 25
    return first + (peak - first) * 0.5 * (1 - math.cos(math.pi * step / warmup))
