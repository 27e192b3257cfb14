"""Whether the fast loop and the usual one train networks that are equally good."""

import torch

from imcl import evaluate, experiment, grid, machine, stats
from imcl.batches import Batches
from imcl.bench.usual import Pictures, UsualLoop
from imcl.data import prepare
from imcl.data.arrays import Arrays
from imcl.errors import ImclError
from imcl.models import BACKBONES
from imcl.progress import Progress
from imcl.train import fit, learning_rate


def rows(
    params: dict,
    dataset: str,
    width: int,
    epochs: int,
    seeds: int,
    device: torch.device,
    threads: int,
) -> list[dict]:
    """A row for each backbone: test accuracy of base by seed in both loops, and their difference.

    Args:
        params: checked parameters; `training` but for the epochs, with no warm-up epoch left out.
        dataset: a prepared one.
        width: of the backbones.
        epochs: of each training.
        seeds: how many, from 1.
        device: for both loops.
        threads: of the CPU.

    Raises:
        ImclError: the dataset is not prepared.
    """
    chosen = grid.datasets(params)[dataset]
    if not chosen.path.exists():
        raise ImclError(f"{chosen.path}: missing; run `imcl prepare {dataset}` first")
    description, arrays = prepare.load(chosen.path)
    training = {**params["training"], "epochs": epochs, "warmup_epochs": min(2, epochs - 1)}
    machine.settle(threads, training["precision"])
    made = []
    with Progress("agreement", len(BACKBONES) * seeds, "seeds") as progress:
        for backbone in BACKBONES:
            config = {
                "dataset": chosen.config,
                "backbone": {"name": backbone, "width": width},
                "ways": {},
                "views": 1,
                "training": training,
            }
            ours, usual = [], []
            for seed in range(1, seeds + 1):
                ours.append(_ours(config, seed, description, arrays, device))
                usual.append(_usual(config, seed, description, arrays, device))
                progress.advance(note=f"{backbone}: ours {ours[-1]:.2%}, usual {usual[-1]:.2%}")
            made.append(_row(config, dataset, ours, usual))
    return made


def _row(config: dict, dataset: str, ours: list[float], usual: list[float]) -> dict:
    """Both intervals, and whether each mean lies within the other's reach: they overlap."""
    mine, theirs = stats.estimate(ours), stats.estimate(usual)
    apart = abs(mine.mean - theirs.mean)
    return {
        "dataset": dataset,
        "backbone": config["backbone"]["name"],
        "seeds": len(ours),
        "ours": ours,
        "usual": usual,
        "ours_mean": mine.mean,
        "ours_half_width": mine.half_width,
        "usual_mean": theirs.mean,
        "usual_half_width": theirs.half_width,
        "agree": apart <= (mine.half_width or 0) + (theirs.half_width or 0),
    }


def _ours(config: dict, seed: int, description: dict, arrays: Arrays, device) -> float:
    mean = torch.tensor(description["mean"], device=device)
    std = torch.tensor(description["std"], device=device)
    batches = Batches(
        torch.from_numpy(arrays.train_images).to(device),
        torch.from_numpy(arrays.train_labels).to(device),
        mean=mean,
        std=std,
        padding=config["dataset"]["padding"],
        flip=config["dataset"]["flip"],
        batch_size=config["training"]["batch_size"],
        shuffling=torch.Generator(device).manual_seed(2 * seed),
        augmentation=[torch.Generator(device).manual_seed(2 * seed + 1)],
    )
    classes = len(description["class_names"])
    collaboration = experiment.assemble(config, seed, description["shape"], classes, batches)
    fit(collaboration, batches, config["training"], lambda entry, state: None)
    return _accuracy(collaboration.model, config, description, arrays, device)


def _usual(config: dict, seed: int, description: dict, arrays: Arrays, device) -> float:
    training = config["training"]
    torch.manual_seed(seed)
    model = experiment.build(config, description["shape"], len(description["class_names"]))
    padding = config["dataset"]["padding"]
    loop = UsualLoop(
        model.to(device),
        Pictures(
            arrays.train_images,
            arrays.train_labels,
            description["mean"],
            description["std"],
            padding,
            config["dataset"]["flip"],
        ),
        batch_size=training["batch_size"],
        tuned=False,
        precision="float32",
        momentum=training["momentum"],
        weight_decay=training["weight_decay"],
        device=device,
        seed=seed,
    )
    steps = len(loop.loader)
    for epoch in range(training["epochs"]):
        loop.epoch(lambda step, done=epoch * steps: learning_rate(done + step, steps, training))
    return _accuracy(model, config, description, arrays, device)


def _accuracy(model, config: dict, description: dict, arrays: Arrays, device) -> float:
    logits = evaluate.predict(
        model,
        torch.from_numpy(arrays.test_images).to(device),
        torch.tensor(description["mean"], device=device),
        torch.tensor(description["std"], device=device),
        config["training"]["precision"],
    )
    labels = torch.from_numpy(arrays.test_labels).to(device)
    return evaluate.metrics(logits, labels)["accuracy"]
