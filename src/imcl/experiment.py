"""Runs one cell of the grid, all its seeds, and writes its record."""

import math
import subprocess
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

import imcl
from imcl import checkpoint, evaluate, live, machine
from imcl.batches import Batches
from imcl.checkpoint import Checkpoints
from imcl.data import prepare
from imcl.data.arrays import Arrays
from imcl.errors import ImclError
from imcl.files import atomic, read_json, room, sealed, sha256, sweep, write_json
from imcl.grid import Cell
from imcl.models.backbone import Backbone
from imcl.noise import inject
from imcl.peers.peer import Context, Peer
from imcl.progress import Progress
from imcl.train import fit
from imcl.ways.collaboration import Collaboration

DATASET = ("name", "n_train", "n_validation", "n_test", "shape", "sha256")
MATRIX_CLASSES = 100  # a larger transition matrix stays in the noise's own file


def run(
    cell: Cell,
    device: str = "auto",
    threads: int = 1,
    compiled: bool = False,
    share: float = checkpoint.SHARE,
) -> dict:
    """Train and evaluate every seed of a cell; write weights, then the record.

    All of the record but its `cost` is the same to the bit on the same machine with as many
    threads, however often the run was ended on the way: it goes on from its last checkpoint.

    Args:
        cell: its dataset and noise are already prepared.
        device: "cpu", "cuda", or "auto" for the GPU where there is one.
        threads: of the CPU, for torch.
        compiled: let torch's compiler fuse the stages' operations; rounding differs.
        share: of the run time that checkpoints may take, in 0..1.

    Raises:
        ImclError: data is missing or changed, or the loss is not finite.
        Stopped: a signal asked for the end.
    """
    with checkpoint.held(cell.key) as waited:
        if waited and cell.record.exists():  # by the one that was waited for
            return read_json(cell.record, ("runs",))
        for path in (cell.record, *map(cell.weights, cell.config["seeds"])):
            sweep(path)
        return _run(cell, device, threads, compiled, share)


def _run(cell: Cell, device: str, threads: int, compiled: bool, share: float) -> dict:
    target = machine.choose(device)
    machine.settle(threads, cell.config["training"]["precision"])
    dataset, noise, arrays = _load(cell)
    where = {**machine.environment(target, threads), "compiled": compiled}
    setting = {"dataset": dataset["sha256"], "noise": noise["sha256"], **where}
    checkpoints = Checkpoints(cell.key, {k: str(v) for k, v in setting.items()}, share)
    batch_size = cell.config["training"]["batch_size"]
    count = len(arrays.train_labels)
    if batch_size > count:
        raise ImclError(
            f"{cell.name}: training.batch_size is {batch_size}, but there are {count} "
            "training images; lower it"
        )
    runs, cost = [], []
    epochs = cell.config["training"]["epochs"]
    total = epochs * len(cell.config["seeds"])
    with checkpoints.stopping(), Progress(cell.name, total, unit="epochs") as progress:
        for seed in cell.config["seeds"]:
            try:
                result, spent = _run_seed(
                    cell,
                    seed,
                    dataset,
                    arrays,
                    noise["nominal_rate"],
                    target,
                    compiled,
                    checkpoints,
                    progress,
                )
            except ImclError as error:
                raise ImclError(f"{cell.name}, seed {seed}: {error}") from error
            except (MemoryError, RuntimeError) as error:
                if not machine.is_out_of_memory(error):
                    raise
                raise ImclError(
                    f"{cell.name}, seed {seed}: out of memory on the {target.type}. Lower "
                    f"training.batch_size (now {batch_size}), or set training.precision to bf16 "
                    f"(now {cell.config['training']['precision']})"
                ) from None
            runs.append(result)
            cost.append(spent)
    record = {
        "cell": cell.name,
        "digest": cell.digest,
        "config": cell.config,
        "dataset": {key: dataset[key] for key in DATASET} | {"evaluation": arrays.evaluation},
        "noise": noise,
        "code": code(),
        "environment": where,
        "runs": runs,
        "cost": cost,
    }
    with room(cell.record):
        write_json(cell.record, sealed(record))
    checkpoints.remove()
    return record


def build(config: dict, shape: list[int], classes: int) -> Backbone:
    """The network of a cell's configuration, untrained, for images (height, width, channels)."""
    backbone = config["backbone"]
    module = import_module(f"imcl.models.{backbone['name']}")
    return module.build(classes, shape[2], backbone["width"])


def assemble(
    config: dict,
    seed: int,
    shape: list[int],
    classes: int,
    batches: Batches,
    noise_rate: float = 0.0,
) -> Collaboration:
    """The network of a cell's configuration with its ways and peer, on the batches' device.

    The network is as the seed makes it, the same for every method, so that seeds pair.
    """
    device = batches.images.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config, shape, classes)
    model = model.to(device, memory_format=torch.channels_last)
    peer = None
    if "peer" in config:
        peer = _peer(config, seed, shape, classes, noise_rate, model, batches)
    return Collaboration(
        model,
        config["ways"],
        views=config["views"],
        generator=_stream(seed, "ways", device),
        peer=peer,
    )


def _load(cell: Cell) -> tuple[dict, dict, Arrays]:
    """The descriptions of dataset and noise, and the arrays with the labels to train on."""
    for path in [cell.dataset.path] + ([cell.noise.path] if cell.noise else []):
        if not path.exists():
            raise ImclError(
                f"{path}: missing; run `imcl prepare {cell.dataset.name}`"
                + (f" and `imcl noise {cell.dataset.name} {cell.noise.name}`" if cell.noise else "")
            )
    dataset, arrays = prepare.load(cell.dataset.path)
    noise = {"nominal_rate": 0.0, "realised_rate": 0.0, "sha256": None}
    if cell.noise:
        description, labels = inject.load(cell.noise.path, arrays.labels)
        arrays = arrays.relabelled(labels)
        noise = {key: description[key] for key in noise}
        if len(arrays.class_names) <= MATRIX_CLASSES:
            noise["transition_matrix"] = description["transition_matrix"]
    return dataset, noise, arrays


def _run_seed(
    cell: Cell,
    seed: int,
    dataset: dict,
    arrays: Arrays,
    noise_rate: float,
    device: torch.device,
    compiled: bool,
    checkpoints: Checkpoints,
    progress: Progress,
) -> tuple[dict, dict]:
    config, training = cell.config, cell.config["training"]
    stored = checkpoints.load(seed)
    if stored is not None and "result" in stored:
        weights = cell.weights(seed)
        if weights.exists() and sha256(weights) == stored["result"]["weights_sha256"]:
            checkpoint.say(f"{cell.name}: seed {seed} was done before")
            progress.advance(training["epochs"])
            return stored["result"], stored["cost"]
        stored = None  # a result without its weights is none
    mean = torch.tensor(dataset["mean"], device=device)
    std = torch.tensor(dataset["std"], device=device).clamp(min=1e-6)
    batches = Batches(
        torch.from_numpy(arrays.train_images).to(device),
        torch.from_numpy(arrays.train_labels).to(device),
        mean=mean,
        std=std,
        padding=config["dataset"]["padding"],
        flip=config["dataset"]["flip"],
        batch_size=training["batch_size"],
        shuffling=_stream(seed, "shuffling", device),
        augmentation=[
            _stream(seed, "augmentation", device, view) for view in range(config["views"])
        ],
    )
    shape, classes = dataset["shape"], len(dataset["class_names"])
    collaboration = assemble(config, seed, shape, classes, batches, noise_rate)
    model = collaboration.model
    if compiled:
        machine.compile_stages(model)
    split = arrays.evaluation
    images = torch.from_numpy(getattr(arrays, f"{split}_images")).to(device)
    truth = torch.from_numpy(getattr(arrays, f"{split}_labels")).to(device)
    history: list[dict] = []
    spent = {"training_seconds": 0.0, "evaluation_seconds": 0.0, "peak_memory_bytes": 0}
    resumed = 0
    if stored is not None:
        history, spent, resumed = stored["history"], stored["spent"], stored["resumed"] + 1
        checkpoint.say(f"{cell.name}: seed {seed} goes on behind epoch {len(history)}")
        progress.advance(len(history))
    watch = live.watcher(cell.key, seed)

    def after_epoch(entry: dict, state: Callable[[], dict]) -> None:
        nonlocal begun
        trained = time.perf_counter()
        spent["training_seconds"] += trained - begun
        history.append(entry)
        terms = ", ".join(f"{name} {value:.3g}" for name, value in entry["terms"].items())
        note = f"seed {seed}, loss {entry['loss']:.3g} ({terms})"
        epoch = entry["epoch"]
        if epoch % training["evaluate_every"] == 0 or epoch == training["epochs"]:
            logits = evaluate.predict(model, images, mean, std, training["precision"])
            entry["evaluation"] = _finite(evaluate.metrics(logits, truth))
            note += f", {split} accuracy {entry['evaluation']['accuracy']:.2%}"
        spent["evaluation_seconds"] += time.perf_counter() - trained
        spent["peak_memory_bytes"] = max(spent["peak_memory_bytes"], machine.peak_memory(device))
        watch(entry)
        progress.advance(note=note)
        parts = {"history": history, "spent": spent, "resumed": resumed}
        checkpoints.save(seed, lambda: {**parts, "training": state()})
        begun = time.perf_counter()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    begun = time.perf_counter()
    fit(collaboration, batches, training, after_epoch, stored and stored["training"])
    cost = {"seed": seed, **spent, "resumed": resumed}
    redundancy = _finite(evaluate.redundancy(model, images, mean, std))
    logits = evaluate.predict(model, images, mean, std, training["precision"])
    path = cell.weights(seed)
    with room(path), atomic(path) as temporary, temporary.open("wb") as file:
        torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, file)
    evaluated = [entry for entry in history if "evaluation" in entry]
    best = max(evaluated, key=lambda entry: entry["evaluation"]["accuracy"])
    result = {
        "seed": seed,
        "final": {**history[-1]["evaluation"], **redundancy},
        "oracle": {"epoch": best["epoch"], **best["evaluation"]},
        "predictions": evaluate.predictions(logits, truth),
        "parameters": _count(model),
        "training_parameters": _count(collaboration.trained),
        "weights_sha256": sha256(path),
        "history": history,
    }
    checkpoints.save(seed, lambda: {"result": result, "cost": cost})
    return result, cost


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _finite(measured: dict[str, float]) -> dict[str, float]:
    for name, value in measured.items():
        if not math.isfinite(value):
            raise ImclError(
                f"the trained network's {name} is {value}: its last updates left no finite "
                "weights. Lower training.learning_rate"
            )
    return measured


def _peer(
    config: dict,
    seed: int,
    shape: list[int],
    classes: int,
    noise_rate: float,
    model: Backbone,
    batches: Batches,
) -> Peer:
    """The peer with what it trains beside the network, initialised by a seed of its own."""
    device = batches.images.device
    context = Context(
        another=lambda: build(config, shape, classes),
        batches=batches,
        classes=classes,
        noise_rate=noise_rate,
        epochs=config["training"]["epochs"],
        generator=_stream(seed, "peer", device),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_stream(seed, "networks", torch.device("cpu")).initial_seed())
        module = import_module(f"imcl.peers.{config['peer']['name']}")
        peer = module.build(model, config["peer"], context)
    return peer.to(device, memory_format=torch.channels_last)


STREAMS = ("shuffling", "augmentation", "ways", "peer", "networks")


def _stream(seed: int, purpose: str, device: torch.device, view: int = 0) -> torch.Generator:
    """A random stream of its own for each purpose and view, so that methods share what they can."""
    entropy = [seed, STREAMS.index(purpose), view]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> 1))


def code() -> dict:
    """The version of the code, and its commit where it is a git checkout."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(Path(imcl.__file__).parent), *arguments]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return answer.stdout.strip()

    changes = git("status", "--porcelain", "--", ".")
    return {
        "version": imcl.__version__,
        "commit": git("rev-parse", "HEAD"),
        "modified": None if changes is None else bool(changes),
    }
