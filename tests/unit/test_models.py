"""The backbones: published sizes, any image side, one pass for features and logits."""

import pytest
import torch

from imcl.models import BACKBONES, resnet18, vgg16


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_published_parameter_counts():
    assert parameters(resnet18.build(10)) == 11_173_962
    assert parameters(vgg16.build(10)) == 14_724_042


def test_the_registry_names_the_modules():
    assert BACKBONES == ("resnet18", "vgg16")


@pytest.mark.parametrize("module", [resnet18, vgg16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 11, 32, 96])
def test_any_side_and_one_or_three_channels(module, channels, side):
    model = module.build(7, channels, 4).eval()
    images = torch.randn(2, channels, side, side)
    features = model.features(images)
    logits = model(images)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(logits, model.classifier(features[-1].mean((2, 3))))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (resnet18, [(4, 32), (8, 16), (16, 8), (32, 4)]),
        (vgg16, [(4, 32), (8, 16), (16, 8), (32, 4), (32, 2)]),
    ],
)
def test_channels_and_sides_of_the_stages(module, expected):
    features = module.build(10, 3, 4).features(torch.randn(2, 3, 32, 32))
    assert [(stage.shape[1], stage.shape[2]) for stage in features] == expected


def test_resnet18_computes_what_torchvisions_does_but_for_the_stem():
    # Same layers in the same order: torchvision's blocks, given our weights, agree.
    from torchvision.models import resnet18 as theirs

    torch.manual_seed(0)
    ours, other = resnet18.build(10).eval(), theirs(num_classes=10).eval()
    blocks = [
        b for layer in (other.layer1, other.layer2, other.layer3, other.layer4) for b in layer
    ]
    mine = [b for stage in ours.stages for b in stage if isinstance(b, resnet18.BasicBlock)]
    for a, b in zip(mine, blocks, strict=True):
        state = a.state_dict()
        b.load_state_dict({k.replace("shortcut", "downsample"): v for k, v in state.items()})
    images = torch.randn(2, 3, 32, 32)
    x = ours.stages[0][:3](images)
    for block in blocks:
        x = block(x)
    torch.testing.assert_close(ours.features(images)[-1], x)
