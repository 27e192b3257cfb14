"""The backbones: published sizes, any image side, one pass for features and logits."""

from importlib import import_module

import pytest
import torch

from imcl.models import resnet18, vgg16
from imcl.models.backbone import Backbone
from imcl.study.backbones import BACKBONES


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_published_parameter_counts():
    assert parameters(resnet18.build(10)) == 11_173_962
    assert parameters(vgg16.build(10)) == 14_724_042


@pytest.mark.parametrize("name", BACKBONES)
def test_the_registry_names_the_modules(name):
    build = import_module(f"imcl.models.{name}").build
    assert isinstance(build(10, 1, 4), Backbone)


def test_a_stage_hook_gets_each_stage_and_gives_what_the_next_takes():
    model = vgg16.build(10, 1, 4).eval()
    images, seen = torch.randn(2, 1, 16, 16), []

    def hook(stage: torch.Tensor) -> torch.Tensor:
        seen.append(stage)
        return torch.zeros_like(stage)

    hooked = model.features(images, hook)
    assert len(seen) == len(model.stages)
    torch.testing.assert_close(seen[0], model.features(images)[0])
    torch.testing.assert_close(seen[1], model.stages[1](torch.zeros_like(seen[0])))
    assert all(not stage.any() for stage in hooked)


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


@pytest.mark.parametrize(("inputs", "side"), [(4, 96), (8, 16), (8, 8)])
def test_the_gradient_of_a_strided_block_is_that_in_double_precision(inputs, side):
    """In the order of memory that training uses; see the comment in BasicBlock."""
    torch.manual_seed(0)
    block = resnet18.BasicBlock(inputs, 2 * inputs, 2)
    images = torch.randn(64, inputs, side, side)
    gradients = []
    for dtype, order in (
        (torch.float64, torch.contiguous_format),
        (torch.float32, torch.channels_last),
    ):
        moved = block.to(dtype).to(memory_format=order)
        moved.zero_grad()
        moved(images.to(dtype).contiguous(memory_format=order)).square().mean().backward()
        gradients.append([p.grad.double().clone() for p in moved.parameters()])
    for exact, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-2, atol=1e-3 * exact.abs().max().item())


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


@pytest.mark.parametrize(("inputs", "stride"), [(16, 1), (16, 2), (4, 2)])
def test_a_block_sends_its_gradient_back_in_the_memory_order_of_its_map(inputs, stride):
    """In another order, every operation before the block would have to reorder it."""
    block = resnet18.BasicBlock(inputs, 16, stride).to(memory_format=torch.channels_last)
    images = torch.randn(2, inputs, 8, 8).to(memory_format=torch.channels_last)
    images = images.requires_grad_().clone()  # torch reorders a leaf's gradient, not a map's
    strides = []
    images.register_hook(lambda gradient: strides.append(gradient.stride()))
    block(images).square().sum().backward()
    assert strides == [images.stride()]
