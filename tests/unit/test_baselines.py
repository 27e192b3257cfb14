"""The baselines: losses by hand, when they are plain cross-entropy, and what is evaluated."""

import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import quick
import torch
import torch.nn.functional as F

from imcl.baselines import cskd
from imcl.baselines.baseline import BaselineMethod, Context, Outputs
from imcl.baselines.multihead import Split
from imcl.collaboration import Collaboration
from imcl.data import prepare
from imcl.errors import ImclError, UsageError
from imcl.models import resnet18, vgg16
from imcl.models.backbone import Backbone
from imcl.noise import inject
from imcl.study import faults, methods
from imcl.study.options import BASELINES, OnlyLoss
from imcl.training import seed, worker
from imcl.training.batches import Augmentation, Batches, Normalise

CLASSES = 3
LABELS = torch.tensor([0, 2, 1, 2, 0, 1, 2, 0])
IMAGES = torch.randint(256, (8, 8, 8, 3), generator=torch.Generator().manual_seed(0)).byte()


def batches(labels: torch.Tensor = LABELS) -> Batches:
    return Batches(
        IMAGES[: len(labels)],
        labels,
        Normalise(torch.full((3,), 0.5), torch.full((3,), 0.25)),
        Augmentation(padding=1, flip=False),
        batch_size=len(labels),
        shuffling=torch.Generator().manual_seed(1),
        views=[torch.Generator().manual_seed(2)],
    )


def network(module=resnet18) -> Backbone:
    return module.build(CLASSES, 3, 4)


def build(name: str, model: Backbone, module=resnet18, **changes: Any) -> BaselineMethod:
    torch.manual_seed(5)
    context = Context(
        another=lambda: network(module),
        training_set=changes.pop("batches", batches()),
        classes=CLASSES,
        noise_rate=changes.pop("noise_rate", 0.5),
        epochs=20,
        generator=torch.Generator().manual_seed(3),
    )
    options = faults.baseline(name, changes)
    return import_module(f"imcl.baselines.{name}").build(model, options, context)


def outputs(logits: Any, extra: Any = None, features: Any = None, **changes: Any) -> Outputs:
    """A step by hand: logits (K, B, classes) as nested lists or a tensor."""
    logits = torch.as_tensor(logits, dtype=torch.float32)
    count = logits.shape[1]
    last = torch.zeros(count, 2, 1, 1) if features is None else features
    fields = {"labels": torch.zeros(count, dtype=torch.int64), "indices": torch.arange(count)}
    fields |= {"progress": 1.0, "extra": extra, "images": len(last)}
    return Outputs(logits, last, **{**fields, **changes})


def step(name: str | None, model: Backbone, module=resnet18, ways=(), **changes: Any):
    torch.manual_seed(0)
    model.train()
    baseline = build(name, model, module, **changes) if name else None
    ways = {way: {"variant": "cosine"} for way in ways}
    collaboration = Collaboration(model, ways, baseline=baseline)
    collaboration.trained.train()
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    views = [images] * collaboration.views
    return collaboration(views, LABELS, 0.5, torch.arange(8), 2000), collaboration


def gradients(name: str | None, **changes) -> list[torch.Tensor]:
    torch.manual_seed(7)
    model = network()
    step(name, model, **changes)[0].loss.backward()
    return [p.grad.clone() for p in model.parameters()]


# all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [resnet18, vgg16])
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_trains_every_parameter_and_leaves_one_network(name, module):
    torch.manual_seed(7)
    model = network(module)
    size = sum(p.numel() for p in model.parameters())

    made, collaboration = step(name, model, module)
    made.loss.backward()

    assert made.logits.shape == (8, CLASSES)
    assert torch.isfinite(made.loss)
    assert made.loss.item() == pytest.approx(sum(t.item() for t in made.terms.values()), rel=1e-5)
    assert all(p.grad is not None for p in collaboration.trained.parameters())
    assert sum(p.numel() for p in model.parameters()) == size
    torch.testing.assert_close(
        model.eval()(torch.ones(2, 3, 8, 8)), network_with(module, model)(torch.ones(2, 3, 8, 8))
    )


def network_with(module, trained) -> torch.nn.Module:
    """A new base network with the trained weights and nothing else."""
    fresh = network(module)
    fresh.load_state_dict(trained.state_dict())
    return fresh.eval()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("multihead", {"branches": [1, 1], "beta": 1.0}),
        ("dml", {"networks": 1}),
        ("rdrop", {"dropout_rate": 0.0, "alpha": 0.0, "reduction": "mean"}),
        ("elr", {"weight": 0.0}),
        ("gce", {"q": 1e-3}),
        ("gjs", {"pi": 1e-3}),
        ("sce", {"alpha": 1.0, "beta": 0.0}),
        ("label_smoothing", {"smoothing": 0.0}),
        ("cskd", {"weight": 0.0}),
    ],
)
def test_without_its_own_part_a_baseline_is_cross_entropy(name, changes):
    # GCE's gradient is p_y^q times that of cross-entropy, and here p_y^q > 0.3^0.001 = 1 - 1.2e-3;
    # the gradients of several images may cancel. GJS differs from it by terms of the order of pi.
    absolute = {"gce": 1e-4, "gjs": 1e-3}.get(name, 1e-6)
    tolerance = {"rtol": 3e-3 if name in ("gce", "gjs") else 1e-4, "atol": absolute}
    for mine, base in zip(gradients(name, **changes), gradients(None), strict=True):
        torch.testing.assert_close(mine, base, **tolerance)


def test_the_sum_of_rdrop_is_twice_cross_entropy():
    changes = {"dropout_rate": 0.0, "alpha": 0.0, "reduction": "sum"}
    for mine, base in zip(gradients("rdrop", **changes), gradients(None), strict=True):
        torch.testing.assert_close(mine, 2 * base, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [p for p in BASELINES if methods.fault(f"{p}+kernel") is None])
def test_a_way_is_added_to_a_baseline(name):
    torch.manual_seed(7)
    model = network()
    made, _ = step(name, model, ways=["kernel", "representation"])
    added = 10.0 * made.terms["kernel"] + made.terms["representation"]
    torch.manual_seed(7)
    without, _ = step(name, network())
    assert made.loss.item() == pytest.approx((without.loss + added).item(), rel=1e-4)


class Hidden(torch.nn.Module):
    """A backbone that does not look like one."""

    def __init__(self, model: Backbone):
        super().__init__()
        self.inside = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inside(images)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_that_is_only_a_loss_trains_any_network(name):
    """With two views, and with two parts of the output layer or one."""
    model = network().eval()
    indices, images = torch.arange(8), [torch.randn(8, 3, 8, 8) for _ in range(2)]
    only_loss = build(name, model).only_loss
    assert issubclass(BASELINES[name], OnlyLoss) == only_loss
    for ways in ({}, {"output": {"ramp_up_steps": 0}}) if only_loss else ():
        losses = [
            Collaboration(each, ways, views=2, baseline=build(name, model))(
                images, LABELS, 0.5, indices
            ).loss
            for each in (model, Hidden(model))
        ]
        assert losses[0] == losses[1]


# by hand ----------------------------------------------------------------------------------------

HALF = [[[0.0, 0.0]]]  # two classes, p = 1/2 each
LN3 = math.log(3)  # logits (ln 3, 0): p = 3/4, 1/4


def method(name: str, **changes) -> BaselineMethod:
    return build(name, network(), **changes)


def test_label_smoothing_by_hand():
    (term,) = method("label_smoothing", smoothing=0.2).loss(outputs([[[LN3, 0.0]]])).values()
    assert term.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))


@pytest.mark.parametrize("q", [0.7, 1.0])
def test_gce_by_hand(q):
    (term,) = method("gce", q=q).loss(outputs([[[LN3, 0.0], [0.0, 0.0]]])).values()
    assert term.item() == pytest.approx(((1 - 0.75**q) / q + (1 - 0.5**q) / q) / 2, rel=1e-5)


def test_sce_by_hand():
    terms = method("sce", alpha=0.1, beta=2.0).loss(outputs([[[LN3, 0.0]]]))
    assert terms["cross_entropy"].item() == pytest.approx(-0.1 * math.log(0.75), rel=1e-5)
    # -sum_k p_k log onehot_k = -(3/4 log 1 + 1/4 log 1e-4)
    assert terms["reverse_cross_entropy"].item() == pytest.approx(
        -2.0 * 0.25 * math.log(1e-4), rel=1e-5
    )


def test_gjs_by_hand():
    """The label (1, 0) and two predictions (3/4, 1/4) and (1/4, 3/4) with weights 1/2, 1/4, 1/4."""
    two = outputs([[[LN3, 0.0], [0.0, LN3]]], labels=torch.tensor([0]))
    (term,) = method("gjs", pi=0.5).loss(two).values()
    # Their mean is (3/4, 1/4): entropy of the mean minus the mean of the predictions' entropies.
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert term.item() == pytest.approx((entropy - entropy / 2) / (-0.5 * math.log(0.5)), rel=1e-5)


def test_gjs_near_1_is_half_the_mean_absolute_error():
    """|y - p| sums to 2 (1 - p_y): as pi comes near 1, the loss comes near 1 - p_y."""
    (term,) = method("gjs", pi=0.999).loss(outputs([[[LN3, 0.0]]])).values()
    assert term.item() == pytest.approx(0.25, rel=0.05)


def test_gjs_is_finite_where_a_prediction_is_0():
    logits = torch.tensor([[[0.0, 300.0], [0.0, 300.0]]], requires_grad=True)
    (term,) = method("gjs").loss(outputs(logits, labels=torch.tensor([0]))).values()
    term.backward()
    assert torch.isfinite(term)
    assert torch.isfinite(logits.grad).all()


def test_elr_by_hand_twice():
    baseline = method("elr", weight=3.0, beta=0.7)
    baseline.targets = torch.zeros(5, 2)
    one = outputs([[[LN3, 0.0]]], indices=torch.tensor([4]))
    for share in (0.3, 0.51):  # 1 - 0.7, then 0.7 * 0.3 + 0.3
        terms = baseline.loss(one)
        agreement = share * (0.75**2 + 0.25**2)
        assert terms["elr"].item() == pytest.approx(3 * math.log(1 - agreement), rel=1e-5)
        torch.testing.assert_close(baseline.targets[4], share * torch.tensor([0.75, 0.25]))
    assert baseline.targets[:4].abs().sum() == 0
    assert "targets" in baseline.state_dict()


def test_elr_moves_no_gradient_into_its_targets():
    baseline = method("elr", weight=3.0, beta=0.0)
    baseline.targets = torch.zeros(1, 2)
    logits = torch.tensor([[[0.4, 0.0]]], requires_grad=True)
    terms = baseline.loss(outputs(logits))
    (found,) = torch.autograd.grad(terms["elr"], logits)
    z = logits.detach().clone().requires_grad_()
    p = z.softmax(2)
    (expected,) = torch.autograd.grad(3 * (1 - (p.detach() * p).sum()).log(), z)
    torch.testing.assert_close(found, expected)


def test_rdrop_by_hand():
    """KL((3/4, 1/4) || (1/2, 1/2)) and back."""
    terms = method("rdrop", alpha=0.3, reduction="sum").loss(outputs([[[LN3, 0.0]], [[0.0, 0.0]]]))
    forth = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    back = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert terms["rdrop"].item() == pytest.approx(0.3 * (forth + back) / 2, rel=1e-5)
    assert terms["cross_entropy"].item() == pytest.approx(-math.log(0.75) - math.log(0.5))


def test_rdrops_passes_differ_by_their_masks_method():
    last = torch.ones(4, 200, 2, 2)
    first, second = method("rdrop", dropout_rate=0.25).part_logits(last, lambda pooled: pooled)
    assert first.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (first != second).any()
    assert (first > 0).float().mean().item() == pytest.approx(0.75, abs=0.06)


def test_cskd_by_hand():
    terms = method("cskd", weight=2.0, temperature=4.0).loss(
        outputs([[[4 * LN3, 0.0]]], extra=torch.tensor([[0.0, 0.0]]))
    )
    kl = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)  # of (1/2, 1/2) from (3/4, 1/4)
    assert terms["cskd"].item() == pytest.approx(2 * 16 * kl, rel=1e-5)


def test_cskds_partner_is_another_image_of_the_label_drawn_evenly():
    labels = torch.tensor([0, 1, 0, 2, 0, 1, 0, 1])
    baseline = method("cskd", batches=batches(labels))
    places = torch.arange(8)
    drawn = torch.stack([baseline.partners(labels, places) for _ in range(3000)])
    assert (labels[drawn] == labels).all()
    for place in places.tolist():
        others = [i for i in range(8) if labels[i] == labels[place] and i != place] or [place]
        counts = torch.bincount(drawn[:, place], minlength=8).tolist()
        assert [i for i, count in enumerate(counts) if count] == others
        assert min(counts[i] for i in others) > 0.8 * 3000 / len(others)


def test_cskds_second_pass_leaves_the_statistics_of_batchnorm():
    torch.manual_seed(7)
    model = network().train()
    baseline = build("cskd", model)
    images = torch.randn(8, 3, 8, 8)
    with torch.no_grad():
        alone_, once = network(), None
        alone_.load_state_dict(model.state_dict())
        alone_.train().features(images)
        once = {k: v.clone() for k, v in alone_.state_dict().items()}
        _, teacher = baseline.run(model, images, LABELS, torch.arange(8), lambda stage: stage)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, once[key], rtol=0, atol=0)
    assert not teacher.requires_grad
    with cskd.frozen_statistics(model), torch.no_grad():
        batch = model(images)  # normalised by the batch, not by the running statistics
    assert (batch - model.eval()(images)).abs().max() > 1e-3


def test_dml_by_hand():
    terms = method("dml").loss(outputs([[[LN3, 0.0]]], extra=[torch.tensor([[0.0, 0.0]])]))
    forth = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    back = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert terms["dml"].item() == pytest.approx(forth + back, rel=1e-5)
    assert terms["cross_entropy"].item() == pytest.approx(-math.log(0.75) - math.log(0.5))


def test_dml_sends_no_gradient_into_the_teacher():
    mine = torch.tensor([[[LN3, 0.0]]], requires_grad=True)
    terms = method("dml").loss(outputs(mine, extra=[torch.tensor([[0.0, 0.0]])]))
    (found,) = torch.autograd.grad(terms["dml"], mine)
    z = mine.detach().clone().requires_grad_()
    half = torch.tensor([0.5, 0.5])
    (expected,) = torch.autograd.grad((half * (half.log() - z.log_softmax(2))).sum(), z)
    torch.testing.assert_close(found, expected)


def test_coteaching_by_hand():
    """Network 1 finds image 1 the easier, network 2 image 0: each learns the other's choice."""
    baseline = method("coteaching", ramp_epochs=10, noise_rate=0.5)
    mine, other = torch.tensor([[0.0, 0.0], [LN3, 0.0]]), torch.tensor([[LN3, 0.0], [0.0, 0.0]])
    (term,) = baseline.loss(outputs(mine[None], extra=other)).values()
    # mine on image 0: -log 1/2; other on image 1: -log 1/2
    assert term.item() == pytest.approx(2 * math.log(2))


def test_coteaching_forgets_more_and_more_up_to_the_noise_rate():
    baseline = method("coteaching", ramp_epochs=10, noise_rate=0.4)  # of 20 epochs
    kept = [baseline.kept(epoch / 20, 100) for epoch in (0, 5, 10, 19)]
    assert kept == [100, 80, 60, 60]
    assert baseline.kept(1.0, 1) == 1


def test_coteaching_is_told_the_share_of_labels_that_are_wrong(micro, monkeypatch):
    """Half of the digits get a random label, and a tenth of these stays right: 0.45, not 0.5."""
    project, _ = micro
    told = []

    def stop(collaboration, *_):
        told.append(collaboration.baseline.noise_rate)
        raise ImclError("seen enough")

    monkeypatch.setattr(seed, "fit", stop)
    name = "digits-n50_inclusive-resnet18-coteaching"
    cell = quick.cell(project, name, noise=["n50_inclusive"])
    inject.inject(project, cell.noise)
    with pytest.raises(ImclError, match="seen enough"):
        worker.train(project, cell, worker.RunOptions("cpu"))
    noisy = np.load(project.noise(cell.dataset.key, cell.noise.key).with_suffix(".npy"))
    _, arrays = prepare.load(project, cell.dataset)
    assert told == [np.mean(noisy != arrays.train_labels)]
    assert told[0] == pytest.approx(0.45, abs=0.03)


def test_coteachings_networks_begin_differently():
    model = network()
    baseline = build("coteaching", model)
    pairs = zip(model.stages.parameters(), baseline.other.stages.parameters(), strict=True)
    assert any((a != b).any() for a, b in pairs)


def test_multihead_by_hand():
    """Two heads, p = (3/4, 1/4) and (1/2, 1/2); T = 1: each follows the other."""
    baseline = method("multihead", branches=[1, 2], beta=0.25, temperature=1.0)
    terms = baseline.loss(outputs([[[LN3, 0.0]]], extra=[torch.tensor([[0.0, 0.0]])]))
    assert terms["cross_entropy"].item() == pytest.approx(
        0.25 * (-math.log(0.75) - math.log(0.5)), rel=1e-5
    )
    first = -0.5 * math.log(0.75) - 0.5 * math.log(0.25)
    second = math.log(2)
    assert terms["multihead"].item() == pytest.approx(0.75 * (first + second), rel=1e-5)


def test_multiheads_targets_are_the_mean_logits_of_the_others():
    """Three heads: the first one's target is softmax of the mean of (2, 0) and (0, 0), over T."""
    baseline = method("multihead", branches=[1, 3], beta=0.0, temperature=2.0)
    logits = [torch.tensor([z]) for z in ([1.0, 3.0], [2.0, 0.0], [0.0, 0.0])]
    total = 0.0
    for h, z in enumerate(logits):
        others = sum(o for i, o in enumerate(logits) if i != h) / 2
        total += -(torch.softmax(others / 2, 1) * torch.log_softmax(z / 2, 1)).sum().item()
    terms = baseline.loss(outputs(logits[0][None], extra=logits[1:]))
    assert terms["multihead"].item() == pytest.approx(total, rel=1e-5)
    squared = method("multihead", branches=[1, 3], beta=0.0, temperature=2.0, t_squared=True)
    terms = squared.loss(outputs(logits[0][None], extra=logits[1:]))
    assert terms["multihead"].item() == pytest.approx(4 * total, rel=1e-5)


def test_a_split_is_the_identity_and_divides_the_gradient():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = Split.apply(x, 4)
    assert y.tolist() == [1.0, 2.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("module", [resnet18, vgg16])
def test_multiheads_gradients_are_divided_at_both_splits(module):
    """Against the same tree without division: 1/2 above the inner split, 1/4 above the outer one.

    All further heads are made copies of the first, so that every child sends the same gradient.
    """
    torch.manual_seed(7)
    model = network(module).train()
    baseline = build("multihead", model, module, beta=1.0).train()
    for stage in baseline.middle:
        stage.load_state_dict(model.stages[-2].state_dict())
    for last, classifier in zip(baseline.last, baseline.classifiers, strict=True):
        last.load_state_dict(model.stages[-1].state_dict())
        classifier.load_state_dict(model.classifier.state_dict())
    images = torch.randn(8, 3, 8, 8)

    last, further = baseline.run(model, images, LABELS, torch.arange(8), lambda stage: stage)
    heads = [model.classifier(last.mean((2, 3))), *further]
    sum(F.cross_entropy(z, LABELS) for z in heads).backward()
    found = [[p.grad.clone() for p in stage.parameters()] for stage in model.stages]
    model.zero_grad()
    F.cross_entropy(model(images), LABELS).backward()
    # One head: the trunk gets 4 * 1/4, the inner stage 2 * 1/2, the last stage 1 times its share.
    for stage, mine in zip(model.stages, found, strict=True):
        for parameter, gradient in zip(stage.parameters(), mine, strict=True):
            scale = parameter.grad.abs().max().item()
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-4 * scale)


def test_one_by_hand():
    """Gate (1/4, 3/4) of logits (ln 3, 0) and (0, 0): the teacher's are (ln 3 / 4, 0)."""
    baseline = method("one", branches=2, temperature=1.0, ramp_up=0.0)
    extra = torch.tensor([[0.25, 0.75]]), [torch.tensor([[0.0, 0.0]])]
    terms = baseline.loss(outputs([[[LN3, 0.0]]], extra=extra))
    p = 3**0.25 / (1 + 3**0.25)
    assert terms["cross_entropy"].item() == pytest.approx(
        -math.log(0.75) - math.log(0.5) - math.log(p), rel=1e-5
    )
    first = p * math.log(p / 0.75) + (1 - p) * math.log((1 - p) / 0.25)
    second = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert terms["one"].item() == pytest.approx(first + second, rel=1e-4)


def test_byot_by_hand():
    baseline = method("byot", alpha=0.3, temperature=1.0, feature_weight=0.5)
    deepest = torch.tensor([1.0, 2.0])[None, :, None, None]
    extra = [torch.tensor([[2.0, 4.0]])], [torch.tensor([[0.0, 0.0]])]
    terms = baseline.loss(outputs([[[LN3, 0.0]]], extra=extra, features=deepest))
    assert terms["cross_entropy"].item() == pytest.approx(
        -math.log(0.75) - 0.7 * math.log(0.5), rel=1e-5
    )
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert terms["distillation"].item() == pytest.approx(0.3 * kl, rel=1e-5)
    assert terms["features"].item() == pytest.approx(0.5 * (1 + 4))


# sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "millions"), [(resnet18, 38.4), (vgg16, 41.8)])
def test_multihead_has_its_published_size_in_training(module, millions):
    model = module.build(10)
    context = Context(lambda: module.build(10), batches(), 10, 0.0, 1, torch.Generator())
    options = BASELINES["multihead"]()
    baseline = import_module("imcl.baselines.multihead").build(model, options, context)
    trained = list(torch.nn.ModuleList([model, baseline]).parameters())
    kernels = sum(p.numel() for p in trained if p.ndim == 4)
    assert round(kernels / 1e6, 1) == millions  # of the convolutions; norms and classifiers:
    assert 0.04e6 < sum(p.numel() for p in trained) - kernels < 0.05e6


# what a caller has to give ----------------------------------------------------------------------


def test_some_baselines_want_a_backbone_and_all_want_the_sample_indices():
    model = network()
    with pytest.raises(UsageError, match=r"takes a backbone of imcl\.models apart, not Sequential"):
        Collaboration(torch.nn.Sequential(), {}, baseline=build("cskd", model))
    with pytest.raises(UsageError, match="takes the backbone apart itself; leave stages out"):
        Collaboration(model, {}, stages=["stages.0"], baseline=build("cskd", model))
    baseline = build("elr", model)
    with pytest.raises(UsageError, match="pass indices="):
        Collaboration(model, {}, baseline=baseline)(torch.ones(8, 3, 8, 8), LABELS)
