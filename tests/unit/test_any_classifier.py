"""`imcl.Collaboration` on classifiers that know nothing of it."""

import copy
import importlib.util
import io
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers

import imcl
from imcl.errors import ImclError, UsageError
from imcl.models import resnet18, vgg16
from imcl.study.options import PAPER_WAYS

CLASSES, COUNT = 5, 4
ALL = list(PAPER_WAYS)
LOOKING = ["intermediate", "representation", "kernel"]  # these do not split the output layer


def vgg() -> nn.Module:
    model = VGG(make_layers([8, "M", 12, "M", 16, "M"], batch_norm=True), init_weights=False)
    model.classifier = nn.Sequential(
        *(nn.Linear(16 * 49, 24), nn.ReLU(True), nn.Dropout(), nn.Linear(24, CLASSES))
    )
    return model


def efficientnet() -> nn.Module:
    blocks = [MBConvConfig(1, 3, 1, 8, 8, 1), MBConvConfig(6, 3, 2, 8, 16, 2)]
    return EfficientNet(blocks, dropout=0.2, num_classes=CLASSES, last_channel=32)


def mlp() -> nn.Module:
    layers = nn.Linear(3 * 32 * 32, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU()
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(16, CLASSES))


class Case(NamedTuple):
    """A model, and the stages and the head that it has."""

    make: Callable[[], nn.Module]
    stages: list[str]
    head: str
    side: int = 32


LAYERS = ["relu", "layer1", "layer2", "layer3", "layer4"]
CASES = {
    "ours_resnet18": Case(
        lambda: nn.Sequential(resnet18.build(CLASSES, 3, 4)),
        [f"0.stages.{i}" for i in range(4)],
        "0.classifier",
    ),
    "ours_vgg16": Case(
        lambda: nn.Sequential(vgg16.build(CLASSES, 3, 4)),
        [f"0.stages.{i}" for i in range(5)],
        "0.classifier",
    ),
    "resnet18": Case(lambda: ResNet(BasicBlock, [1, 1, 1, 1], CLASSES), LAYERS, "fc"),
    "resnet50": Case(lambda: ResNet(Bottleneck, [1, 1, 1, 1], CLASSES), LAYERS, "fc"),
    "vgg16_bn": Case(
        vgg, ["features.2", "features.6", "features.10", "features.11"], "classifier.3"
    ),
    "densenet121": Case(
        lambda: models.DenseNet(4, (2, 2), 8, bn_size=2, num_classes=CLASSES),
        ["features.relu0", "features.denseblock1", "features.norm5"],
        "classifier",
    ),
    "mobilenet_v3_small": Case(
        lambda: models.mobilenet_v3_small(num_classes=CLASSES, width_mult=0.5),
        [f"features.{i}" for i in (0, 1, 3, 8, 12)],
        "classifier.3",
    ),
    "efficientnet_b0": Case(efficientnet, ["features.1", "features.3"], "classifier.1"),
    "convnext_tiny": Case(
        lambda: ConvNeXt(
            [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=CLASSES
        ),
        ["features.1", "features.3"],
        "classifier.2",
    ),
    "vit_b_16": Case(
        lambda: models.VisionTransformer(32, 8, 8, 2, 16, 32, num_classes=CLASSES),
        [f"encoder.layers.encoder_layer_{i}" for i in (1, 3, 5, 7)],
        "heads.head",
    ),
    "swin_t": Case(
        lambda: models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=CLASSES),
        ["features.1", "permute"],
        "head",
    ),
    "regnet_y_400mf": Case(
        lambda: RegNet(
            BlockParams([1, 1], [8, 16], [8, 8], [1.0, 1.0], [2, 2], 0.25), num_classes=CLASSES
        ),
        ["stem", "trunk_output.block1", "trunk_output.block2"],
        "fc",
    ),
    "shufflenet": Case(
        lambda: models.ShuffleNetV2([2, 2, 2], [8, 16, 24, 32, 48], CLASSES),
        ["conv1", "maxpool", "stage2", "stage3", "conv5"],
        "fc",
        64,
    ),
    "googlenet": Case(
        lambda: models.googlenet(num_classes=CLASSES, aux_logits=False, init_weights=False),
        ["conv1", "conv3", "inception3b", "inception4e", "inception5b"],
        "fc",
        64,
    ),
    "mlp": Case(mlp, ["2", "4"], "5"),
}
TIMM = {
    "resnet18": {"layers": (1, 1, 1, 1)},
    "efficientnet_b0": {},
    "densenet121": {"growth_rate": 4, "block_config": (2, 2)},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 16)},
    "mobilenetv3_small_050": {},
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 4, "patch_size": 8},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1)},
    "vit_tiny_r_s16_p8_224": {"img_size": 64, "depth": 4},
}
TIMM_STAGES = {
    "resnet18": ["act1", "layer1", "layer2", "layer3", "layer4"],
    "vit_tiny_patch16_224": [f"blocks.{i}" for i in range(4)],
    "swin_tiny_patch4_window7_224": [f"layers.{i}" for i in range(4)],
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[name].make().train()


def batch(side: int = 32, count: int = COUNT) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, side, side, generator=generator)
    return images, torch.randint(CLASSES, (count,), generator=generator)


def check_step(model: nn.Module, images: Tensor, labels: Tensor) -> imcl.Collaboration:
    """A step with all ways trains all of a model, in one pass, and changes nothing else."""
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    random = torch.random.get_rng_state()
    collaboration = imcl.Collaboration(model, [])
    collaboration(images, labels)
    model.load_state_dict(before)
    torch.random.set_rng_state(random)
    ways = ALL if any(isinstance(module, nn.Conv2d) for module in model.modules()) else ALL[:3]
    collaboration = imcl.Collaboration(model, ways, generator=torch.Generator().manual_seed(1))
    step = collaboration(images, labels)
    step.loss.backward()
    assert step.loss.isfinite() and step.logits.shape == (COUNT, CLASSES)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert list(model.state_dict()) == list(before)
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == before[name] + 1, name
        elif not name.endswith(("running_mean", "running_var")):
            assert torch.equal(value, before[name]), name
    assert [module.training for module in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    # What looks at the stages does not change what is computed.
    model.eval()
    with torch.no_grad():
        looked = imcl.Collaboration(model, [way for way in ways if way in LOOKING])(images, labels)
        assert torch.equal(looked.logits, model(images).float())
    return collaboration


def parts(collaboration: imcl.Collaboration, images: Tensor, capsys: Any) -> list[list[str]]:
    collaboration.describe(images)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", CASES)
def test_all_ways_work_on_a_model_of_torchvision_unchanged(name, capsys):
    case, model = CASES[name], build(name)
    images, labels = batch(case.side)
    collaboration = check_step(model, images, labels)
    found = parts(collaboration, images, capsys)
    assert [row[2] for row in found if row[0] == "stage"] == case.stages
    assert [row[1] for row in found if row[0] == "head"] == [case.head]


@pytest.mark.parametrize("name", TIMM)
def test_all_ways_work_on_a_model_of_timm_unchanged(name, capsys):
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed: `uv sync` installs it with the development tools")
    import timm

    torch.manual_seed(0)
    side = TIMM[name].get("img_size", 32)
    model = timm.create_model(name, num_classes=CLASSES, drop_rate=0.2, **TIMM[name]).train()
    images, labels = batch(side)
    collaboration = check_step(model, images, labels)
    found = parts(collaboration, images, capsys)
    stages = [row[2] for row in found if row[0] == "stage"]
    assert len(stages) >= 2
    assert stages == TIMM_STAGES.get(name, stages)


VARIANTS = [
    *(("output", v) for v in ("dropout", "spatial", "channel", "augment")),
    *(("intermediate", v) for v in ("relation", "attention", "augment")),
    *(("representation", v) for v in ("correlation", "cosine")),
    *(("kernel", v) for v in ("cosine", "orthogonal")),
]


@pytest.mark.parametrize("name", ["convnext_tiny", "swin_t"])
@pytest.mark.parametrize(("way", "variant"), VARIANTS)
def test_every_variant_teaches_a_convolutional_network_and_a_transformer(name, way, variant):
    model, (images, labels) = build(name), batch()
    collaboration = imcl.Collaboration(model, {way: {"variant": variant, "weight": 1.0}})
    step = collaboration([images, images.flip(3)][: collaboration.views], labels)
    step.loss.backward()
    assert step.terms[way] > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# what is read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stage", "axis"),
    [
        ("convnext_tiny", "features.1", 1),  # (B, C, H, W)
        ("swin_t", "features.1", 3),  # (B, H, W, C)
        ("vit_b_16", "encoder.layers.encoder_layer_1", 2),  # (B, N, C)
        ("mlp", "2", 1),  # (B, C)
    ],
)
def test_channels_are_compared_whatever_their_axis(name, stage, axis):
    model, (images, labels) = build(name).eval(), batch()
    seen: list[Tensor] = []
    model.get_submodule(stage).register_forward_hook(lambda *hook: seen.append(hook[2]))
    ways = {"representation": {"variant": "cosine"}}
    step = imcl.Collaboration(model, ways, stages=[stage])(images, labels)
    rows = seen[-1].detach().double().movedim(axis, 0).flatten(1).numpy()
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    cosines = (unit @ unit.T)[~np.eye(len(rows), dtype=bool)]
    assert step.terms["representation"].item() == pytest.approx((cosines**2).mean(), rel=1e-4)


def test_an_axis_is_followed_where_all_sizes_are_equal():
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, stride=4)
            self.last = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
            self.fc = nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.last(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2)))

    torch.manual_seed(0)
    images, labels = batch()
    found = imcl.Collaboration(Square(), ["representation"])
    found(images, labels)
    assert found._classifier is not None and found._classifier.stages is not None
    assert [(s.name, s.axis, s.shape) for s in found._classifier.stages] == [("last", 3, (8, 8, 8))]


def test_the_parts_of_dropout_and_channel_are_those_of_what_the_head_takes():
    """Without dropout's rate all parts are the whole; disjoint groups of channels add up to it."""
    model, (images, labels) = build("convnext_tiny").eval(), batch()
    whole = model(images).detach()
    for options in ({"variant": "dropout", "dropout_rate": 0.0}, {"variant": "channel"}):
        step = imcl.Collaboration(model, {"output": options})(images, labels)
        torch.testing.assert_close(step.logits, whole)


def test_the_parts_of_spatial_are_averages_of_positions():
    """Where nothing but a linear layer follows the average, the parts' mean is the whole."""
    model, (images, labels) = build("resnet18").eval(), batch(64)
    step = imcl.Collaboration(model, {"output": {"variant": "spatial"}})(images, labels)
    torch.testing.assert_close(step.logits, model(images).detach())
    assert step.terms["output"] > 0


@pytest.mark.parametrize("name", ["vit_b_16", "vgg16_bn"])
def test_spatial_needs_logits_of_one_average(name):
    model, (images, labels) = build(name), batch()
    with pytest.raises(UsageError, match="the logits depend on more than one average of a map"):
        imcl.Collaboration(model, {"output": {"variant": "spatial"}})(images, labels)


def test_dropout_needs_logits_of_one_head():
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, CLASSES)
            self.first = nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).mean((2, 3))
            return (self.first(x) + self.last(x)) / 2

    model, (images, labels) = TwoHeads(), batch()
    with pytest.raises(UsageError, match="TwoHeads: the logits depend on more than what 'last'"):
        imcl.Collaboration(model, ["output"])(images, labels)
    imcl.Collaboration(model, {"output": {"variant": "spatial"}})(images, labels)


def test_one_name_is_for_all_ways():
    assert list(imcl.Collaboration(build("resnet18"), "all").ways) == ALL


def test_names_alone_compare_the_augmentations_that_the_first_call_gives():
    images, labels = batch()
    two, one = (imcl.Collaboration(build("convnext_tiny"), ALL) for _ in range(2))
    two([images, images.flip(3)], labels)
    one(images, labels)
    chosen = [
        (c.views, c.ways["output"].variant, c.ways["intermediate"].variant) for c in (two, one)
    ]
    assert chosen == [(2, "augment", "augment"), (1, "dropout", "relation")]
    for refused in (
        imcl.Collaboration(build("mlp"), ["output"], views=2),
        imcl.Collaboration(build("mlp"), {"output": {}}),
        two,
    ):
        with pytest.raises(UsageError, match="2 augmentations of each image are needed, 1 given"):
            refused(images, labels)


def test_kernel_and_no_ways_need_no_parts():
    class Odd(nn.Module):
        """Neither stages nor a head can be found here."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, CLASSES, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).amax((2, 3))

        features = None

    model, (images, labels) = Odd(), batch()
    for ways in ([], ["kernel"]):
        step = imcl.Collaboration(model, ways)(images, labels)
        assert torch.equal(step.terms["cross_entropy"], F.cross_entropy(model(images), labels))
    with pytest.raises(UsageError, match="Odd: no single linear layer gives the logits"):
        imcl.Collaboration(model, ["output"])(images, labels)


def test_what_is_found_is_described_before_a_call(capsys):
    imcl.Collaboration(build("vit_b_16"), []).describe()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split(maxsplit=3)[:3] == ["stage", "1", "encoder.layers.encoder_layer_1"]
    assert "tokens (B, 17, 16), channels: 16" in lines[1]
    with pytest.raises(UsageError, match="does not take blank images"):
        imcl.Collaboration(nn.Sequential(nn.Flatten(), nn.Bilinear(2, 2, 2)), []).describe()


# labels, criterion, logits -----------------------------------------------------------------------


def test_soft_labels_are_those_of_mixup():
    model, (images, labels) = build("resnet18").eval(), batch()
    one_hot = F.one_hot(labels, CLASSES).double()
    soft = 0.75 * one_hot + 0.25 * one_hot.flip(0)
    views = [images, images.flip(3)]
    term = imcl.Collaboration(model, ["output"], views=2)(views, soft).terms["cross_entropy"]
    hard = [
        (F.cross_entropy(model(views[0]), each) + F.cross_entropy(model(views[1]), each)) / 2
        for each in (labels, labels.flip(0))
    ]
    torch.testing.assert_close(term, 0.75 * hard[0] + 0.25 * hard[1])


def test_a_criterion_of_ones_own_is_the_mean_over_parts_and_views():
    model, (images, labels) = build("resnet18").eval(), batch()
    weights = torch.arange(1.0, CLASSES + 1)

    def criterion(logits: Tensor, mixed: Any) -> Tensor:
        a, b, share = mixed  # labels of any form
        loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)
        return share * loss(logits, a) + (1 - share) * loss(logits, b)

    mixed = labels, labels.flip(0), 0.25
    step = imcl.Collaboration(model, [], views=2, criterion=criterion)(
        [images, images.flip(3)], mixed
    )
    views = [criterion(model(view), mixed) for view in (images, images.flip(3))]
    torch.testing.assert_close(step.loss, (views[0] + views[1]) / 2)
    assert list(step.terms) == ["criterion"]
    with pytest.raises(UsageError, match=r"criterion gives \(4,\), not a scalar; take its mean"):
        bad = imcl.Collaboration(model, [], criterion=nn.CrossEntropyLoss(reduction="none"))
        bad(images, labels)


def test_a_further_loss_of_the_logits_can_be_added():
    model, (images, labels) = build("resnet18"), batch()
    collaboration = imcl.Collaboration(model, [])
    assert not collaboration(images, labels).logits.requires_grad
    logits = collaboration(images, labels, detach=False).logits
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_class_numbers_may_have_any_type_of_integers(dtype):
    model, (images, labels) = build("resnet18").eval(), batch()
    collaboration = imcl.Collaboration(model, [])
    assert torch.equal(
        collaboration(images, labels.to(dtype)).loss, collaboration(images, labels).loss
    )


# bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 5]), "label 5 is out of range; the model has the classes 0 to 4"),
        (torch.tensor([0, 1, -1, 4]), "label -1 is out of range"),
        (torch.ones(4), r"labels are torch.float32 of shape \(4,\)"),
        (torch.ones(4).bool(), r"labels are torch.bool of shape \(4,\)"),
        (torch.ones(4, 1).long(), r"labels are torch.int64 of shape \(4, 1\)"),
        (torch.ones(4, 3), "labels of 3 classes for logits of 5"),
        (torch.tensor(1), r"labels are torch.int64 of shape \(\)"),
        ([0, 1, 2, 3], r"labels are \[0, 1, 2, 3\]; give a tensor"),
        (None, "labels are None"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, message):
    model, (images, right) = build("shufflenet").eval(), batch(64)
    collaboration = imcl.Collaboration(model, [])
    with pytest.raises(UsageError, match=message):
        collaboration(images, labels)
    collaboration(images, right)
    with pytest.raises(UsageError, match=message):  # not in the first call alone
        collaboration(images, labels)


@pytest.mark.parametrize("progress", [50, -0.1, math.nan])
def test_progress_is_a_share(progress):
    images, labels = batch()
    with pytest.raises(UsageError, match=r"progress is .*; give the share of the training"):
        imcl.Collaboration(build("mlp"), [])(images, labels, progress)


def test_an_empty_batch_and_views_of_several_sizes_are_refused():
    images, labels = batch()
    with pytest.raises(UsageError, match="the batch is empty"):
        imcl.Collaboration(build("mlp"), [])(images[:0], labels[:0])
    with pytest.raises(UsageError, match=r"shapes differ: .* give them one size"):
        imcl.Collaboration(build("resnet18"), [], views=2)([images, images[..., :16]], labels)
    with pytest.raises(UsageError, match="images are dict"):
        imcl.Collaboration(build("mlp"), [])({"pixel_values": images}, labels)


def test_a_batch_of_one_has_no_pairs_to_compare():
    model = build("convnext_tiny")
    images, labels = batch(count=1)
    step = imcl.Collaboration(model, ["intermediate", "representation"])(images, labels)
    step.loss.backward()
    assert step.terms["intermediate"] == 0
    assert all(p.grad.isfinite().all() for p in model.parameters())


class Small(nn.Module):
    """Has whatever a classifier may have that does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 1, 3, stride=2)
        self.wide = nn.Conv2d(1, 8, 3, stride=2)
        self.pair = Pair()
        self.twice = nn.ReLU()
        self.idle = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.wide(self.twice(self.one(x))))
        x, _ = self.pair(x)
        return self.head(self.norm(self.drop(x.mean((2, 3)))))


class Sized(nn.Module):
    """Gives its map and the map's size, as blocks of timm's MViT do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, list[int]]:
        x = self.conv(x)
        return x, list(x.shape[2:])


def test_a_stage_may_give_more_than_its_map():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sized, self.fc = Sized(), nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x, (height, width) = self.sized(x)
            return self.fc(x.sum((2, 3)) / (height * width))

    torch.manual_seed(0)
    model, (images, labels) = Net(), batch()
    found = [
        imcl.Collaboration(model, ["representation"], stages=[name])(images, labels).loss
        for name in ("sized", "sized.conv")
    ]
    assert torch.equal(*found)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x


@pytest.mark.parametrize(
    ("stages", "ways", "message"),
    [
        (["pair"], ["representation"], "stage 'pair' gives several tensors; name a submodule"),
        (["twice"], ["representation"], "stage 'twice' runs 2 times when the model was called"),
        (["idle"], ["representation"], "stage 'idle' did not run when the model was called"),
        (["one"], ["representation"], "ways.representation: stage 1 has one channel"),
        (["norm", "drop"], {"intermediate": {"variant": "attention"}}, "more than one position"),
        (["wide"], ["intermediate"], "'relation' needs two stages"),
    ],
)
def test_a_stage_that_cannot_be_compared_is_named(stages, ways, message):
    images, labels = batch()
    with pytest.raises(ImclError, match=message):
        imcl.Collaboration(Small(), ways, stages=stages)(images, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": []}, r"stages=\[\] names no stages"),
        ({"stages": "wide"}, "stages='wide' names no stages"),
        ({"stages": ["wied"]}, "unknown submodule 'wied'; did you mean 'wide'"),
        ({"classifier": "haed"}, "unknown submodule 'haed'; did you mean 'head'"),
    ],
)
def test_parts_that_do_not_exist_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        imcl.Collaboration(Small(), [], **options)


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        (["outptu"], "unknown way 'outptu'; did you mean 'output'?"),
        ([3], "unknown way 3"),
        ({"output": {"weight": "10"}}, "output.weight: '10' is not a number; write 10"),
        ({"output": 10}, "output: 10 is not a mapping"),
    ],
)
def test_ways_that_do_not_exist_are_named(ways, message):
    with pytest.raises(UsageError, match=message):
        imcl.Collaboration(Small(), ways)


def test_the_head_runs_once_whatever_it_holds():
    model, (images, labels) = Small(), batch()
    ways = {"output": {"variant": "dropout", "parts": 3}}
    imcl.Collaboration(model, ways, classifier="head")(images, labels).loss.backward()
    assert model.head[0].num_batches_tracked == 1
    assert model.norm.num_batches_tracked == 1


def test_an_operation_in_place_after_a_stage_changes_neither_loss_nor_gradient():
    class Written(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.in_place = in_place
            self.conv, self.more = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
            self.fc = nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.more(F.relu(self.conv(x), inplace=self.in_place))
            return self.fc(F.relu(x, inplace=self.in_place).mean((2, 3)))

    images, labels = batch()
    found = []
    for in_place in (False, True):
        model = Written(in_place)
        ways = ["intermediate", "representation"]
        step = imcl.Collaboration(model, ways, stages=["conv", "more"])(images, labels)
        step.loss.backward()
        found.append([step.loss.detach(), *(p.grad for p in model.parameters())])
    for written, kept in zip(*found, strict=True):
        assert torch.equal(written, kept)


def test_a_model_with_several_outputs_is_refused():
    images, labels = batch(64)
    model = models.googlenet(num_classes=CLASSES, aux_logits=True, init_weights=False).train()
    with pytest.raises(UsageError, match="the model gives GoogLeNetOutputs, not one tensor"):
        imcl.Collaboration(model, [])(images, labels)


def test_one_logit_is_no_cross_entropy():
    images, labels = batch()
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 1))
    with pytest.raises(UsageError, match="the model gives 1 logit for each image"):
        imcl.Collaboration(model, [])(images, labels * 0)


# in other people's loops -------------------------------------------------------------------------


class Blocks(nn.Module):
    """Three stages, of which two may be in an activation checkpoint."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reentrant = reentrant
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
        self.first = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2), nn.ReLU())
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.reentrant is None:
            x = self.blocks(x)
        else:
            x = checkpoint(self.blocks, x, use_reentrant=self.reentrant)
        return self.fc(x.mean((2, 3)))

    def blocks(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def gradients(model: nn.Module, ways: Any = ALL, count: int = 1) -> list[Tensor]:
    """The loss of a step, and the gradients of `count` steps."""
    images, labels = batch()
    collaboration = imcl.Collaboration(model, ways, generator=torch.Generator().manual_seed(1))
    for _ in range(count):
        step = collaboration(images, labels, step=0)
        step.loss.backward()
    return [step.loss.detach(), *(p.grad for p in model.parameters())]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_an_activation_checkpoint_changes_nothing():
    assert_same(gradients(Blocks(reentrant=False)), gradients(Blocks()))


def test_a_checkpoint_that_cuts_off_the_gradients_is_refused():
    message = "stage 'first' runs without gradients, as in a checkpoint with use_reentrant=True"
    with pytest.raises(UsageError, match=message):
        gradients(Blocks(reentrant=True))


def test_a_checkpoint_around_the_head_is_refused_where_it_is_split():
    class Head(Blocks):
        def blocks(self, x: Tensor) -> Tensor:
            return self.fc(super().blocks(x).mean((2, 3)))

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.blocks, self.stem(x), use_reentrant=False)

    with pytest.raises(UsageError, match="classifier 'fc' runs in an activation checkpoint"):
        gradients(Head())


@pytest.mark.parametrize("called", [False, True])
def test_a_compiled_model_gives_what_the_model_gives(called):
    def network() -> nn.Module:
        blocks = Blocks()
        stages = blocks.stem, blocks.first, blocks.second
        return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), blocks.fc)

    torch.compiler.reset()
    compiled = torch.compile(network(), backend="eager")
    if called:  # then what was compiled knows no hooks
        compiled(batch()[0])
    assert_same(gradients(compiled), gradients(network()))


def test_a_compiled_step_is_refused():
    images, labels = batch()
    step = torch.compile(imcl.Collaboration(Blocks(), ["representation"]), backend="eager")
    with pytest.raises(UsageError, match="compile the model alone"):
        step(images, labels)


def test_gradients_accumulate():
    _, *once = gradients(Blocks(), ["representation", "kernel"])
    _, *twice = gradients(Blocks(), ["representation", "kernel"], count=2)
    assert_same(twice, [2 * gradient for gradient in once])


def test_a_model_is_copied_and_saved_between_steps_and_so_is_the_collaboration():
    images, labels = batch()
    model = build("efficientnet_b0")
    average = torch.optim.swa_utils.AveragedModel(model)
    collaboration = imcl.Collaboration(model, ALL, generator=torch.Generator())
    collaboration(images, labels).loss.backward()
    average.update_parameters(model)
    stored = io.BytesIO()
    torch.save(collaboration, stored)
    stored.seek(0)
    loaded = torch.load(stored, weights_only=False)
    random = torch.random.get_rng_state()
    losses = []
    for each in (collaboration, loaded):
        torch.random.set_rng_state(random)
        losses.append(each(images, labels).loss.detach())
    assert torch.equal(*losses)
    average.module.eval()(images)


@pytest.mark.parametrize("way", ALL)
def test_losses_are_float32_under_autocast(way):
    images, labels = batch()
    with torch.autocast("cpu", torch.bfloat16):
        step = imcl.Collaboration(build("swin_t"), [way])(images, labels)
    assert {t.dtype for t in (step.logits, step.loss, *step.terms.values())} == {torch.float32}
    step.loss.backward()


PROCESS = """
import os, sys
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
import imcl, imcl.errors

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
torch.manual_seed(1)
images, labels = torch.randn(8, 3, 12, 12), torch.arange(8) % 5
views = [images, images.flip(3)]
ways = {"output": {"weight": 1.0}, "kernel": {}}
whole = network()
expected = imcl.Collaboration(whole, ways)(views, labels)
expected.loss.backward()

mine = slice(4 * rank, 4 * rank + 4)
model = DistributedDataParallel(network())
collaboration = imcl.Collaboration(model, ways)
step = collaboration([view[mine] for view in views], labels[mine])
step.loss.backward()
loss = step.loss.detach().clone()
distributed.all_reduce(loss)
torch.testing.assert_close(loss / 2, expected.loss.detach())
for a, b in zip(model.parameters(), whole.parameters(), strict=True):
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)

looking = imcl.Collaboration(model, ["output", "intermediate", "representation"], stages=["1", "3"])
looking(images[mine], labels[mine]).loss.backward()
grads = [p.grad.clone() for p in model.parameters()]
for grad in grads:
    mean = grad.clone()
    distributed.all_reduce(mean)
    torch.testing.assert_close(mean / 2, grad)

sharded = network()
mesh = init_device_mesh("cpu", (2,))
for part in (sharded[0], sharded[2], sharded):
    fully_shard(part, mesh=mesh)
step = imcl.Collaboration(sharded, ways)([view[mine] for view in views], labels[mine])
step.loss.backward()
for a, b in zip(sharded.parameters(), whole.parameters(), strict=True):
    torch.testing.assert_close(a.grad.full_tensor(), b.grad, rtol=1e-4, atol=1e-6)

try:
    imcl.Collaboration(model.module, ways)([view[mine] for view in views], labels[mine])
except imcl.errors.UsageError as error:
    assert "give Collaboration the wrapper" in str(error), error
else:
    raise AssertionError("a model beside its wrapper is not refused")
distributed.destroy_process_group()
print("done")
"""


def test_two_processes_train_as_one_on_the_whole_batch(tmp_path):
    meeting = str(tmp_path / "meeting")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), meeting],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [output.splitlines()[-1] for output in outputs] == ["done", "done"], outputs


def test_data_parallel_is_refused():
    with pytest.raises(UsageError, match="wrap the model with DistributedDataParallel"):
        imcl.Collaboration(nn.DataParallel(build("mlp")), [])
