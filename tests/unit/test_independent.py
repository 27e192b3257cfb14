"""Every way, baseline and measure against a second form, written from the formulas in float64.

A tiny network does one step, in float32 or under autocast in bf16. The maps of its stages are
written down as they come out: in bf16 they are rounded, which is what bf16 means. From there on
everything (pooling, heads, sums, losses) has to be float32 in both cases. So the second form, which
computes with numpy in float64 from the same maps, weights and random numbers, must agree to
float32's precision.

TOLERANCE: float32 rounds by 6e-8. Sums of thousands of numbers, and differences of numbers that are
ten times as large, make that up to 1e-5. bf16 rounds by 4e-3, so the tolerance still shows a single
rounding in a head or a loss.
"""

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import nn

from imcl.baselines.baseline import Context
from imcl.collaboration import Collaboration, Step
from imcl.models import resnet18
from imcl.models.backbone import Backbone
from imcl.study import faults
from imcl.study.options import BASELINES, WAYS
from imcl.training import evaluation
from imcl.training.batches import Augmentation, Batches, Normalise

TOLERANCE = {"rel": 3e-5, "abs": 1e-7}
CLASSES, COUNT, SIDE, PROGRESS, STEP = 5, 12, 16, 0.1, 500
LABELS = np.arange(COUNT) % CLASSES
Array = np.ndarray
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "bf16"])


# one step ---------------------------------------------------------------------------------------


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> Backbone:
    return resnet18.build(CLASSES, 3, 4)


def training_set() -> Batches:
    images = torch.randint(256, (COUNT, SIDE, SIDE, 3), generator=seeded(1)).byte()
    return Batches(
        images,
        torch.from_numpy(LABELS),
        Normalise(torch.full((3,), 0.5), torch.full((3,), 0.25)),
        Augmentation(padding=1, flip=True),
        batch_size=COUNT,
        shuffling=seeded(2),
        views=[seeded(3)],
    )


def watch(module: nn.Module, precision: str) -> list[Array]:
    """Where the module's outputs will be written down, in float64, as they are in the precision."""
    seen: list[Array] = []

    def write_down(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        assert output.dtype == {"float32": torch.float32, "bf16": torch.bfloat16}[precision]
        seen.append(array(output))

    module.register_forward_hook(write_down)
    return seen


def array(tensor: torch.Tensor) -> Array:
    found: Array = tensor.detach().double().numpy().copy()
    return found


class Done(NamedTuple):
    """A step, and what the second form starts from.

    Attributes:
        stages: of the network, each stage's map in its last pass, (V * B, C, H, W).
        outputs: of the modules that a test watches, what each put out in its first pass.
    """

    step: Step
    collaboration: Collaboration[Backbone]
    stages: list[Array]
    outputs: list[Array]

    @property
    def baseline(self) -> Any:
        return self.collaboration.baseline


def do_step(
    precision: str,
    *,
    way: tuple[str, dict[str, Any]] | None = None,
    baseline: tuple[str, dict[str, Any]] | None = None,
    watched: Callable[[Backbone, Any], list[nn.Module]] = lambda model, method: [],
) -> Done:
    """One step of a network with a way or a baseline; `watched` chooses modules of theirs."""
    torch.manual_seed(0)
    model, method = network(), None
    if baseline:
        name, options = baseline
        context = Context(network, training_set(), CLASSES, 0.5, 20, seeded(5))
        build = import_module(f"imcl.baselines.{name}").build
        method = build(model, faults.baseline(name, options), context)
    ways = dict([way]) if way else {}
    collaboration = Collaboration(model, ways, generator=seeded(6), baseline=method)
    for module in collaboration.trained.modules():
        if isinstance(module, nn.Linear):  # as drawn, the logits would be near 0
            nn.init.normal_(module.weight)
    seen = [watch(stage, precision) for stage in model.stages]
    outputs = [watch(module, precision) for module in watched(model, method)]
    views = list(torch.randn(collaboration.views, COUNT, 3, SIDE, SIDE, generator=seeded(7)))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        labels, indices = torch.from_numpy(LABELS), torch.arange(COUNT)
        step = collaboration(views, labels, PROGRESS, indices, STEP)
    tensors = (step.loss, step.logits, *step.terms.values())
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    return Done(step, collaboration, [maps[-1] for maps in seen], [maps[0] for maps in outputs])


def check(done: Done, terms: dict[str, float], total: float | None = None) -> None:
    """The step's terms, and its loss: `total`, or else the terms' sum."""
    found = {name: term.item() for name, term in done.step.terms.items()}
    assert found == pytest.approx(terms, **TOLERANCE)
    total = sum(terms.values()) if total is None else total
    assert done.step.loss.item() == pytest.approx(total, **TOLERANCE)


# what several formulas use ----------------------------------------------------------------------


def softmax(z: Array, temperature: float = 1.0) -> Array:
    e = np.exp((z - z.max(-1, keepdims=True)) / temperature)
    return e / e.sum(-1, keepdims=True)


def pool(stage: Array) -> Array:
    return stage.mean((2, 3))


def linear(layer: nn.Linear, x: Array) -> Array:
    return x @ array(layer.weight).T + array(layer.bias)


def right(z: Array) -> Array:
    """The probability of the right class, of logits (n * B, classes)."""
    return softmax(z)[np.arange(len(z)), np.tile(LABELS, len(z) // COUNT)]


def ce(z: Array) -> float:
    return float(-np.log(right(z)).mean())


def kl(teacher: Array, student: Array, temperature: float = 1.0) -> float:
    q, p = softmax(teacher, temperature), softmax(student, temperature)
    return float((q * np.log(q / p)).sum(-1).mean())


def ramp(share: float) -> float:
    """Of what is done, as a share of the length of the ramp."""
    return float(np.exp(-5 * (1 - min(share, 1)) ** 2))


def others(values: list[Array], i: int) -> Array:
    """The mean of all but one."""
    return np.mean([value for j, value in enumerate(values) if j != i], 0)


def off_diagonal(matrix: Array) -> Array:
    found: Array = matrix[~np.eye(len(matrix), dtype=bool)]
    return found


def cosines(rows: Array) -> Array:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


# ways -------------------------------------------------------------------------------------------


def check_way(done: Done, name: str, expected: float, logits: list[Array] | None = None) -> None:
    """The way's term and the loss. `logits`: of the parts of the output layer, if it has any."""
    logits = logits or [linear(done.collaboration.model.classifier, pool(done.stages[-1]))]
    options = done.collaboration.ways[name]
    terms = {"cross_entropy": float(np.mean([ce(z) for z in logits])), name: expected}
    factor = ramp(STEP / options.ramp_up_steps) * options.weight
    check(done, terms, terms["cross_entropy"] + factor * expected)


@PRECISIONS
@pytest.mark.parametrize("variant", ["dropout", "spatial", "channel", "augment"])
def test_output(precision, variant):
    """misfit^3 (1/K) sum_k T^2 KL(q_k || p_T(z_k)), q_k = p_T(mean of the other parts' logits)."""
    done = do_step(precision, way=("output", {"variant": variant, "parts": 3}))
    last, draws = done.stages[-1], seeded(6)
    h, positions = pool(last), last.reshape(*last.shape[:2], -1)
    if variant == "dropout":
        dropped = torch.rand((3, *h.shape), generator=draws).numpy() < 0.3
        parts = [np.where(drop, 0, h / 0.7) for drop in dropped]
    elif variant == "spatial":
        order = torch.randperm(positions.shape[2], generator=draws).numpy()
        parts = [positions[..., some].mean(2) for some in np.array_split(order, 3)]
    elif variant == "channel":
        order = torch.randperm(h.shape[1], generator=draws).numpy()
        parts = []
        for some in (order[k::3] for k in range(3)):
            kept = np.isin(np.arange(h.shape[1]), some)
            parts.append(h * kept * h.shape[1] / len(some))
    else:
        parts = np.split(h, 3)
    logits = [linear(done.collaboration.model.classifier, part) for part in parts]
    divergence = np.mean([4 * kl(others(logits, k), z, 2.0) for k, z in enumerate(logits)])
    misfit = min(1.0, np.mean([ce(z) for z in logits]) / np.log(CLASSES))
    check_way(done, "output", float(misfit**3 * divergence), logits)
    seen = logits[0] if variant == "augment" else np.mean(logits, 0)
    np.testing.assert_allclose(done.step.logits.numpy(), seen, rtol=1e-5, atol=1e-5)


@PRECISIONS
@pytest.mark.parametrize("centred", [True, False])
def test_intermediate_relation(precision, centred):
    """Mean over i != j of (R_s[i, j] - R_S[i, j])^2, R the cosines between samples."""
    done = do_step(precision, way=("intermediate", {"variant": "relation", "centred": centred}))
    pooled = [pool(stage) for stage in done.stages]
    *shallow, deep = (off_diagonal(cosines(p - centred * p.mean(0))) for p in pooled)
    check_way(done, "intermediate", float(np.mean([((s - deep) ** 2).mean() for s in shallow])))


@PRECISIONS
def test_intermediate_attention(precision):
    """|A_s / |A_s| - A_t / |A_t||^2, A = mean_c F^2, averaged down to the smaller grid."""
    done = do_step(precision, way=("intermediate", {"variant": "attention"}))
    energies = [(stage**2).mean(1) for stage in done.stages]

    def distance(shallow: Array, deep: Array) -> float:
        block = len(shallow[0]) // len(deep[0])
        tiles = shallow.reshape(COUNT, len(deep[0]), block, len(deep[0]), block).mean((2, 4))
        a, b = (m.reshape(COUNT, -1) for m in (tiles, deep))
        a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
        return float(((a - b) ** 2).sum(1).mean())

    found = [distance(shallow, deep) for shallow, deep in pairwise(energies)]
    check_way(done, "intermediate", float(np.mean(found)))


@PRECISIONS
@pytest.mark.parametrize("centred", [True, False])
def test_intermediate_augment(precision, centred):
    """1 - cos of the pooled features of two augmentations."""
    done = do_step(precision, way=("intermediate", {"variant": "augment", "centred": centred}))
    found = []
    for stage in done.stages:
        pooled = pool(stage)
        a, b = np.split(pooled - centred * pooled.mean(0), 2)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found.append(1 - ((a * b).sum(1) / norms).mean())
    check_way(done, "intermediate", float(np.mean(found)))


@PRECISIONS
@pytest.mark.parametrize("variant", ["correlation", "cosine"])
def test_representation(precision, variant):
    """Mean squared correlation (or cosine) between two channels over samples and positions."""
    done = do_step(precision, way=("representation", {"variant": variant}))
    found = []
    for stage in done.stages:
        channels = stage.transpose(1, 0, 2, 3).reshape(stage.shape[1], -1)
        alive = channels.std(1) > 1e-4  # a constant channel correlates with none
        matrix = np.corrcoef(channels[alive]) if variant == "correlation" else cosines(channels)
        pairs = len(channels) * (len(channels) - 1)
        found.append((off_diagonal(matrix) ** 2).sum() / pairs)
    check_way(done, "representation", float(np.mean(found)))


@PRECISIONS
@pytest.mark.parametrize("variant", ["cosine", "orthogonal"])
def test_kernel(precision, variant):
    """Squared cosines between the filters of each 3 x 3 convolution: their mean, or their sum."""
    done = do_step(precision, way=("kernel", {"variant": variant}))
    weights = [p for p in done.collaboration.model.parameters() if p.shape[2:] == (3, 3)]
    squares = [off_diagonal(cosines(array(w).reshape(len(w), -1))) ** 2 for w in weights]
    expected = [s.mean() if variant == "cosine" else s.sum() for s in squares]
    check_way(done, "kernel", float(np.mean(expected)))


# baselines --------------------------------------------------------------------------------------


def own(done: Done) -> Array:
    """The logits of the network that is evaluated."""
    return linear(done.collaboration.model.classifier, pool(done.stages[-1]))


@PRECISIONS
@pytest.mark.parametrize("t_squared", [False, True])
def test_multihead(precision, t_squared):
    """sum_h [beta CE(z_h) - (1 - beta) sum q_h log p_T(z_h)], q_h = p_T(mean of the others)."""
    options = {"beta": 0.4, "temperature": 2.0, "t_squared": t_squared}
    done = do_step(
        precision, baseline=("multihead", options), watched=lambda model, method: [*method.last]
    )
    heads = zip(done.baseline.classifiers, done.outputs, strict=True)
    logits = [own(done), *(linear(layer, pool(stage)) for layer, stage in heads)]
    assert len(logits) == 4
    soft = [
        -(softmax(others(logits, h), 2.0) * np.log(softmax(z, 2.0))).sum(1).mean()
        for h, z in enumerate(logits)
    ]
    factor = 0.6 * (4 if t_squared else 1)
    terms = {"cross_entropy": 0.4 * sum(map(ce, logits)), "multihead": factor * float(sum(soft))}
    check(done, terms)


def last_stages(networks: list[Backbone]) -> list[nn.Module]:
    return [network.stages[-1] for network in networks]


@PRECISIONS
def test_dml(precision):
    """CE_i + mean over j of KL(p_j || p_i), summed over three networks."""
    done = do_step(
        precision,
        baseline=("dml", {"networks": 3}),
        watched=lambda model, method: last_stages(method.others),
    )
    pairs = zip(done.baseline.others, done.outputs, strict=True)
    logits = [own(done), *(linear(net.classifier, pool(stage)) for net, stage in pairs)]
    divergences = [kl(logits[j], logits[i]) for i in range(3) for j in range(3) if i != j]
    check(done, {"cross_entropy": sum(map(ce, logits)), "dml": sum(divergences) / 2})


@PRECISIONS
def test_one(precision):
    """sum_i CE_i + CE_e + ramp T^2 sum_i KL(p_T(z_e) || p_T(z_i)), z_e = sum_i g_i z_i."""
    options = {"temperature": 3.0, "ramp_up": 0.25}
    done = do_step(
        precision, baseline=("one", options), watched=lambda model, method: [*method.last]
    )
    heads = zip(done.baseline.classifiers, done.outputs, strict=True)
    logits = [own(done), *(linear(layer, pool(stage)) for layer, stage in heads)]
    gate = linear(done.baseline.gate[0], pool(done.stages[-2]))
    gate = (gate - gate.mean(0)) / np.sqrt(gate.var(0) + 1e-5)  # BatchNorm as it begins
    weights = softmax(np.maximum(gate, 0))
    teacher = sum(weights[:, [i]] * z for i, z in enumerate(logits))
    soft = sum(kl(teacher, z, 3.0) for z in logits)
    hard = sum(map(ce, logits)) + ce(teacher)
    check(done, {"cross_entropy": hard, "one": ramp(PROGRESS / 0.25) * 9 * soft})


@PRECISIONS
def test_byot(precision):
    """CE_deep + sum [(1 - alpha) CE + alpha KL(p_T(deep) || p_T(shallow)) + weight D]."""
    options = {"alpha": 0.3, "temperature": 3.0, "feature_weight": 0.03}
    done = do_step(
        precision, baseline=("byot", options), watched=lambda model, method: [*method.branches]
    )
    deep, deepest = own(done), pool(done.stages[-1])
    pooled = [pool(branch) for branch in done.outputs]
    shallow = [linear(c, p) for c, p in zip(done.baseline.classifiers, pooled, strict=True)]
    terms = {
        "cross_entropy": ce(deep) + 0.7 * sum(map(ce, shallow)),
        "distillation": 0.3 * sum(kl(deep, z, 3.0) for z in shallow),
        "features": 0.03 * sum(((p - deepest) ** 2).sum(1).mean() for p in pooled),
    }
    check(done, terms)


@PRECISIONS
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_rdrop(precision, reduction):
    """CE_1 + CE_2 + alpha (KL(p_1 || p_2) + KL(p_2 || p_1)) / 2; `mean` halves the first two."""
    options = {"alpha": 0.3, "dropout_rate": 0.2, "reduction": reduction}
    done = do_step(precision, baseline=("rdrop", options))
    h = pool(done.stages[-1])
    dropped = torch.rand((2, *h.shape), generator=seeded(5)).numpy() < 0.2
    layer = done.collaboration.model.classifier
    a, b = (linear(layer, np.where(drop, 0, h / 0.8)) for drop in dropped)
    hard = ce(a) + ce(b) if reduction == "sum" else (ce(a) + ce(b)) / 2
    check(done, {"cross_entropy": hard, "rdrop": 0.3 * (kl(a, b) + kl(b, a)) / 2})


@PRECISIONS
def test_cskd(precision):
    """CE + weight T^2 KL(p_T(z') || p_T(z)), z' the logits of other images of the labels.

    These are passed through the network first.
    """
    done = do_step(
        precision,
        baseline=("cskd", {"weight": 2.0, "temperature": 4.0}),
        watched=lambda model, method: [model.stages[-1]],
    )
    partners = linear(done.collaboration.model.classifier, pool(done.outputs[0]))
    assert not np.allclose(partners, own(done))
    check(done, {"cross_entropy": ce(own(done)), "cskd": 2 * 16 * kl(partners, own(done), 4.0)})


@PRECISIONS
def test_label_smoothing(precision):
    """Cross-entropy with the target (1 - s) onehot + s / classes."""
    done = do_step(precision, baseline=("label_smoothing", {"smoothing": 0.2}))
    target = 0.8 * np.eye(CLASSES)[LABELS] + 0.2 / CLASSES
    expected = -(target * np.log(softmax(own(done)))).sum(1).mean()
    check(done, {"cross_entropy": float(expected)})


@PRECISIONS
@pytest.mark.parametrize("q", [0.01, 0.7, 1.0])
def test_gce(precision, q):
    """(1 - p_y^q) / q."""
    done = do_step(precision, baseline=("gce", {"q": q}))
    check(done, {"gce": float(((1 - right(own(done)) ** q) / q).mean())})


@PRECISIONS
def test_sce(precision):
    """alpha CE - beta sum_k p_k log onehot_k, log 0 taken as log 1e-4."""
    done = do_step(precision, baseline=("sce", {"alpha": 0.1, "beta": 2.0}))
    z = own(done)
    reverse = -(softmax(z) * np.log(np.where(np.eye(CLASSES)[LABELS] == 1, 1, 1e-4))).sum(1)
    check(done, {"cross_entropy": 0.1 * ce(z), "reverse_cross_entropy": 2 * float(reverse.mean())})


@PRECISIONS
@pytest.mark.parametrize("pi", [0.1, 0.9])
def test_gjs(precision, pi):
    """H(sum_k w_k p_k) - sum_k w_k H(p_k) over label and two predictions, by its largest value."""
    done = do_step(precision, baseline=("gjs", {"pi": pi}))
    label = np.eye(CLASSES)[LABELS]
    p = softmax(own(done)).reshape(2, COUNT, CLASSES)
    mixed = pi * label + (1 - pi) / 2 * p.sum(0)
    # Of the label, the entropy is 0.
    divergence = entropy(mixed, axis=-1) - (1 - pi) / 2 * entropy(p, axis=-1).sum(0)
    check(done, {"gjs": float(divergence.mean() / (-(1 - pi) * np.log(1 - pi)))})


@PRECISIONS
def test_elr(precision):
    """CE + weight mean log(1 - <t, p>), t <- beta t + (1 - beta) p / sum p, in the first step."""
    done = do_step(precision, baseline=("elr", {"weight": 3.0, "beta": 0.7}))
    z = own(done)
    p = softmax(z).clip(1e-4, 1 - 1e-4)
    target = 0.3 * p / p.sum(1, keepdims=True)
    np.testing.assert_allclose(done.baseline.targets.numpy(), target, rtol=1e-5, atol=1e-7)
    expected = 3 * np.log(1 - (target * p).sum(1)).mean()
    check(done, {"cross_entropy": ce(z), "elr": float(expected)})


@PRECISIONS
def test_coteaching(precision):
    """Each network's mean loss on the images with the smallest losses of the other.

    At a tenth of 20 epochs, 2 of 4 epochs of the ramp are done: half of the wrong half is ignored.
    """
    done = do_step(
        precision,
        baseline=("coteaching", {"ramp_epochs": 4}),
        watched=lambda model, method: last_stages([method.other]),
    )
    other = linear(done.baseline.other.classifier, pool(done.outputs[0]))
    losses = [-np.log(right(z)) for z in (own(done), other)]
    first, second = (np.argsort(loss)[: int(0.75 * COUNT)] for loss in losses)
    assert set(first) != set(second)
    expected = losses[0][second].mean() + losses[1][first].mean()
    check(done, {"cross_entropy": float(expected)})


def test_every_way_and_baseline_is_here():
    names = [name for name in globals() if name.startswith("test_")]
    for name in (*WAYS, *BASELINES):
        assert any(test == f"test_{name}" or test.startswith(f"test_{name}_") for test in names)


# evaluation -------------------------------------------------------------------------------------


@PRECISIONS
def test_evaluation(precision):
    """Accuracy, the mean of -log p_y, and ECE with 15 bins, of a network in evaluation mode."""
    torch.manual_seed(0)
    model = network()
    nn.init.normal_(model.classifier.weight)
    images = torch.randint(256, (600, SIDE, SIDE, 3), generator=seeded(1)).byte()  # two batches
    labels = torch.randint(CLASSES, (600,), generator=seeded(2))
    seen = watch(model.stages[-1], precision)
    normalise = Normalise(torch.full((3,), 0.5), torch.full((3,), 0.25))
    logits = evaluation.predict(model, images, normalise, precision)
    found = evaluation.metrics(logits, labels)

    z = linear(model.classifier, pool(np.concatenate(seen)))
    np.testing.assert_allclose(logits.numpy(), z, rtol=1e-5, atol=1e-5)
    p, y = softmax(z), labels.numpy()
    confidence, correct = p.max(1), p.argmax(1) == y
    bins = [(confidence > b / 15) & (confidence <= (b + 1) / 15) for b in range(15)]
    gaps = [abs(correct[b].mean() - confidence[b].mean()) * b.mean() for b in bins if b.any()]
    expected = {
        "accuracy": correct.mean(),
        "nll": -np.log(p[np.arange(600), y]).mean(),
        "ece": sum(gaps),
    }
    assert found == pytest.approx(expected, **TOLERANCE)
