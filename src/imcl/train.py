"""The training loop: one network, one seed.

SGD with Nesterov momentum, a warm-up and a falling learning rate. Losses stay on the device for a
whole epoch and are read once at its end.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from imcl.batches import Batches
from imcl.errors import ImclError
from imcl.ways.collaboration import Collaboration


def fit(
    collaboration: Collaboration,
    batches: Batches,
    training: dict,
    after_epoch: Callable[[dict], None],
) -> None:
    """Train the collaboration's model.

    Args:
        collaboration: the model and its loss.
        batches: the training data.
        training: as in params.yaml.
        after_epoch: called with the epoch's history: epoch (from 1), learning_rate (of its last
            step), loss, terms and train_accuracy (means over the epoch's steps; accuracy on
            augmented images, against the labels that were trained on).

    Raises:
        ImclError: the loss is not finite; nothing is returned.
    """
    model, device = collaboration.model, batches.images.device
    optimizer = sgd(model, training)
    scheduler = schedule(optimizer, training, len(batches))
    autocast = training["precision"] == "bf16"
    for epoch in range(training["epochs"]):
        model.train()
        progress = epoch / training["epochs"]
        losses: list[Tensor] = []
        correct = torch.zeros((), dtype=torch.int64, device=device)
        for views, labels in batches.epoch():
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                step = collaboration(views if len(views) > 1 else views[0], labels, progress)
            optimizer.zero_grad()
            step.loss.backward()
            optimizer.step()
            rate = scheduler.get_last_lr()[0]
            scheduler.step()
            losses.append(torch.stack([step.loss.detach(), *step.terms.values()]))
            correct += (step.logits.argmax(1) == labels).sum()
        names = ["loss", *step.terms]
        values = torch.stack(losses).cpu()
        _check_finite(values, names, epoch, training)
        loss, *terms = values.double().mean(0).tolist()
        after_epoch(
            {
                "epoch": epoch + 1,
                "learning_rate": rate,
                "loss": loss,
                "terms": dict(zip(names[1:], terms, strict=True)),
                "train_accuracy": correct.item() / (len(batches) * batches.batch_size),
            }
        )


def sgd(model: nn.Module, training: dict) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weight decay on weight matrices and kernels alone.

    Norms and biases are not decayed, as in He et al., "Bag of Tricks" (CVPR 2019), section 3.1.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.SGD(
        [
            {"params": decayed, "weight_decay": training["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=training["learning_rate"],
        momentum=training["momentum"],
        nesterov=training["momentum"] > 0,
        fused=True,
    )


def schedule(
    optimizer: torch.optim.Optimizer, training: dict, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    """The learning rate step by step.

    `cosine`: linear warm-up to `learning_rate` over `warmup_epochs`, then half a cosine to 0
    (Loshchilov and Hutter 2017). `one_cycle`: the same bounds, both phases cosines (Smith 2018).
    """
    total = training["epochs"] * steps_per_epoch
    warmup = training["warmup_epochs"] * steps_per_epoch
    if training["schedule"] == "one_cycle":
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=training["learning_rate"],
            total_steps=total + 1,  # the scheduler is also stepped after the last update
            pct_start=warmup / (total + 1),
            cycle_momentum=False,
        )
    fall = lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
    if not warmup:
        return fall
    rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup])


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
