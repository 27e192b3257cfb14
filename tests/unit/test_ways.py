"""The losses against numbers worked out by hand, and their gradients in float64."""

import copy
import io
import math
import weakref
from importlib import import_module
from itertools import combinations
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch.autograd import gradcheck

import imcl
from imcl.errors import ImclError, UsageError
from imcl.models import resnet18, vgg16
from imcl.models.backbone import Backbone
from imcl.study.options import WAYS, Kernel, Output, Representation
from imcl.ways import intermediate, kernel, output, representation
from imcl.ways.parts import NOTHING, Observer, Parts, Stages
from imcl.ways.ramp import ramp_up

LN3 = math.log(3)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


EVERYTHING = frozenset({"pooled", "products", "energy"})
NO_STAGES = Observer(frozenset()).stages()


def statistics(*stages: torch.Tensor, needed: frozenset[str] = EVERYTHING) -> Stages:
    observer = Observer(needed)
    for stage in stages:
        observer(stage)
    return observer.stages()


def redundancy(*stages: torch.Tensor, centred: bool) -> torch.Tensor:
    options = Representation(variant="correlation" if centred else "cosine")
    return representation.loss(options, Parts(torch.ones(0), statistics(*stages), [], 1, NOTHING))


# output -----------------------------------------------------------------------------------------


def test_consistency_of_two_parts_by_hand():
    # p_1 = (1/2, 1/2), p_2 = (3/4, 1/4); each is the other's target.
    logits = torch.tensor([[[0.0, 0.0]], [[LN3, 0.0]]], dtype=torch.float64)
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    second = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert output.consistency(logits, 1.0).item() == pytest.approx((first + second) / 2)


def test_consistency_scales_with_the_square_of_the_temperature():
    # At temperature 2, logits twice as large give the same probabilities.
    logits = torch.tensor([[[0.0, 0.0]], [[LN3, 0.0]]], dtype=torch.float64)
    at_one = output.consistency(logits, 1.0)
    assert output.consistency(2 * logits, 2.0).item() == pytest.approx(4 * at_one.item())


def test_the_target_of_three_parts_is_the_softmax_of_the_others_mean_logits():
    logits = torch.tensor([[[0.0, 0.0]], [[2 * LN3, 0.0]], [[0.0, 0.0]]], dtype=torch.float64)
    # q_1 = q_3 = p((ln 3, 0)) = (3/4, 1/4) against (1/2, 1/2);
    # q_2 = (1/2, 1/2) against (9/10, 1/10).
    outer = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    middle = 0.5 * math.log(5 / 9) + 0.5 * math.log(5)
    assert output.consistency(logits, 1.0).item() == pytest.approx((2 * outer + middle) / 3)


def test_consistency_sends_no_gradient_through_the_targets():
    # With fixed targets the gradient is T (p_k - q_k) / (K N).
    temperature, logits = 2.0, random(3, 4, 5).requires_grad_()
    output.consistency(logits, temperature).backward()
    others = (logits.sum(0, keepdim=True) - logits) / 2
    p = (logits / temperature).softmax(2)
    q = (others / temperature).softmax(2)
    torch.testing.assert_close(logits.grad, temperature * (p - q) / 12)


def classifier() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(6, 3).double()


@pytest.mark.parametrize("variant", ["channel", "spatial"])
def test_equal_disjoint_shares_average_to_the_whole(variant):
    # The classifier is affine, so the mean of the parts' logits is the logits of the mean.
    linear, features = classifier(), random(4, 6, 2, 3)
    options = Output(variant=variant, parts=3)
    parts = output.part_logits(options, features, linear, 1, torch.Generator().manual_seed(0))
    assert parts.shape == (3, 4, 3)
    assert not torch.allclose(parts[0], parts[1])
    torch.testing.assert_close(parts.mean(0), linear(features.mean((2, 3))))


def test_channel_groups_that_do_not_divide_evenly_are_each_rescaled():
    linear = torch.nn.Identity()
    features = torch.ones(1, 5, 1, 1)
    options = Output(variant="channel", parts=2)
    parts = output.part_logits(options, features, linear, 1, torch.Generator().manual_seed(0))
    assert sorted(part.count_nonzero().item() for part in parts) == [2, 3]
    torch.testing.assert_close(parts.mean(2), torch.ones(2, 1))  # the scale of h is kept


def test_dropout_parts_keep_the_mean_and_drop_the_rate():
    features = torch.ones(1000, 6, 1, 1)
    options = Output(variant="dropout", parts=2, dropout_rate=0.25)
    generator = torch.Generator().manual_seed(0)
    parts = output.part_logits(options, features, torch.nn.Identity(), 1, generator)
    torch.testing.assert_close(parts.unique(), torch.tensor([0.0, 4 / 3]))
    assert (parts == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(parts[0], parts[1])


def test_augment_parts_are_the_views():
    linear, features = classifier(), random(6, 6, 1, 1)
    options = Output(variant="augment", parts=2)
    parts = output.part_logits(options, features, linear, 2, None)
    torch.testing.assert_close(parts[1], linear(features[3:].mean((2, 3))))


def test_spatial_refuses_a_map_with_too_few_positions():
    options = Output(variant="spatial", parts=2)
    with pytest.raises(ImclError, match="1 x 1 map into 2 parts; take another variant"):
        output.part_logits(options, torch.ones(2, 6, 1, 1), classifier(), 1, None)


# statistics of a stage --------------------------------------------------------------------------


def test_the_statistics_of_maps_are_those_of_numpy():
    maps = random(4, 3, 2, 5), random(4, 2, 1, 2, seed=1)
    observer = Observer(EVERYTHING)
    assert all((observer(stage) == stage).all() for stage in maps)
    found = observer.stages()
    assert found.channels == [3, 2]
    for index, stage in enumerate(maps):
        values, channels = stage.numpy(), stage.shape[1]
        positions = values.transpose(0, 2, 3, 1).reshape(-1, channels)
        np.testing.assert_allclose(found.pooled[index, :, :channels], values.mean((2, 3)))
        products = found.products[index, :channels, :channels]
        np.testing.assert_allclose(products, positions.T @ positions / len(positions))
        np.testing.assert_allclose(found.energy[index], (values**2).mean(1))
    assert not found.pooled[1, :, 2:].any()
    assert not found.products[1, 2:].any() and not found.products[1, :, 2:].any()


def far_from_zero() -> torch.Tensor:
    """A map in bf16 whose channels have mean 5 and standard deviation 1, little correlated."""
    generator = torch.Generator().manual_seed(0)
    return (5 + torch.randn(32, 16, 8, 8, generator=generator)).bfloat16()


def test_autocast_rounds_no_statistic():
    stage = far_from_zero()
    with torch.autocast("cpu", torch.bfloat16):
        found = statistics(stage)
    expected = statistics(stage.double())
    for name in EVERYTHING:
        for value, wide in zip(getattr(found, name), getattr(expected, name), strict=True):
            torch.testing.assert_close(value.double(), wide, rtol=1e-6, atol=0)


def test_correlations_far_from_zero_are_right_under_autocast_and_so_is_their_gradient():
    """The products are 25 and the covariances 1, so rounding the products to bf16 hides these."""
    stage = far_from_zero().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = redundancy(stage, centred=True)
        loss.backward()
    wide = stage.detach().double().requires_grad_()
    squares = torch.corrcoef(wide.transpose(0, 1).flatten(1)).square()
    expected = (squares.sum() - 16) / (16 * 15)
    expected.backward()
    # 1e-7 of 25, of correlations of about 0.02
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    error = (stage.grad.double() - wide.grad).norm() / wide.grad.norm()
    assert error < 4e-3  # bf16's rounding of the gradient itself


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("needed", [EVERYTHING, *({name} for name in sorted(EVERYTHING))])
def test_the_gradients_of_maps_and_statistics_add_up(needed, order):
    def both(*maps):
        observer = Observer(frozenset(needed))
        passed = [observer(stage.contiguous(memory_format=order)) for stage in maps]
        _, pooled, products, energy = observer.stages()
        found = [value for value in (pooled, products, *energy) if value.numel()]
        return (*(stage.sin() for stage in passed), *found)

    maps = random(3, 2, 2, 4), random(3, 1, 2, 2, seed=1)
    assert gradcheck(both, [stage.requires_grad_() for stage in maps])


def test_what_no_way_needs_is_not_computed():
    stage = random(3, 2, 2, 4)
    assert Observer(frozenset())(stage) is stage
    found = statistics(stage, needed=frozenset({"energy"}))
    assert found.pooled.numel() == found.products.numel() == 0
    assert len(found.energy) == 1


# intermediate -----------------------------------------------------------------------------------


def test_relation_by_hand():
    # Samples at right angles in the shallow stage, alike in the deep one: (0 - 1)^2 for each pair.
    shallow = torch.eye(2)
    deep = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    assert intermediate.relation(shallow, deep).item() == pytest.approx(1.0)


def test_relation_teaches_the_shallow_stage_alone():
    shallow, deep = random(4, 3).requires_grad_(), random(4, 5).requires_grad_()
    intermediate.relation(shallow, deep).backward()
    assert shallow.grad.abs().sum() > 0
    assert deep.grad is None


def test_attention_by_hand():
    # An even map against one that looks at the left half: |(1, 1) / sqrt 2 - (1, 0)|^2 = 2 - sqrt 2
    shallow = torch.ones(1, 3, 2, 2)
    deep = torch.tensor([[[[-2.0, 0.0]]]])
    found = intermediate.attention(*statistics(shallow, deep).energy)
    assert found.item() == pytest.approx(2 - math.sqrt(2))


def test_agreement_by_hand():
    # Cosine 1 / sqrt 2 for the first sample, 0 for the second.
    pooled = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    expected = 1 - (1 / math.sqrt(2) + 0) / 2
    assert intermediate.agreement(pooled, views=2).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([[1, 0], [0, 1], [-1, 0], [0, -1]], 1 - -1),  # opposite
        ([[1, 0], [-1, 0], [0, 1], [0, -1]], 1 - 0),
        ([[1, 0], [-1, 0], [3, 0], [-3, 0]], 1 - 1),
    ],
)
def test_centred_agreement_does_not_see_what_all_samples_share(views, expected):
    pooled = torch.tensor(views, dtype=torch.float32)  # their mean is (0, 0)
    for shift in (0.0, 100.0):
        found = intermediate.agreement(pooled + shift, views=2, centred=True)
        assert found.item() == pytest.approx(expected, abs=1e-4)
    assert intermediate.agreement(pooled + 100, views=2).item() < 1e-3


def test_centred_relation_does_not_see_what_all_samples_share():
    torch.manual_seed(0)
    shallow, deep = torch.randn(6, 4), torch.randn(6, 3)
    shallow, deep = shallow - shallow.mean(0), deep - deep.mean(0)
    plain = intermediate.relation(shallow, deep)
    found = intermediate.relation(shallow + 50, deep + 50, centred=True)
    assert found.item() == pytest.approx(plain.item(), rel=1e-3)
    assert intermediate.relation(shallow + 50, deep + 50).item() < 1e-4


# representation and kernel ----------------------------------------------------------------------


def test_redundancy_by_hand():
    alike = torch.tensor([[[[1.0, -1.0]], [[2.0, -2.0]]]])
    assert redundancy(alike, centred=True).item() == pytest.approx(1.0)
    unlike = torch.tensor([[[[1.0, 0.0, -1.0, 0.0]], [[0.0, 1.0, 0.0, -1.0]]]])
    assert redundancy(unlike, centred=True).item() == pytest.approx(0.0)
    half = torch.tensor([[[[1.0, 1.0]], [[1.0, 0.0]]]])  # cosine 1 / sqrt 2, correlation undefined
    assert redundancy(half, centred=False).item() == pytest.approx(0.5)
    assert redundancy(half, centred=True).item() == pytest.approx(0.0)


def test_redundancy_agrees_with_numpy():
    stage = random(5, 4, 3, 3)
    correlation = np.corrcoef(stage.transpose(0, 1).flatten(1).numpy())
    expected = (correlation**2)[~np.eye(4, dtype=bool)].mean()
    assert redundancy(stage, centred=True).item() == pytest.approx(expected)


def test_a_channel_far_from_zero_whose_variance_is_rounding_error_is_idle():
    expected = redundancy(random(6, 3, 4, 4)[:, 1:], centred=True).item() * 2 / 6
    for constant in (33.3, 100.1, 333.3, 1000.1):  # the error depends on the number
        stage = random(6, 3, 4, 4).float()
        stage[:, 0] = constant
        assert redundancy(stage, centred=True).item() == pytest.approx(expected, rel=1e-3)


def test_a_dead_channel_gives_finite_gradients():
    stage = random(4, 3, 2, 2)
    stage[:, 1] = 0
    stage.requires_grad_()
    redundancy(stage, centred=True).backward()
    assert stage.grad.isfinite().all()
    assert stage.grad[:, 1].abs().max() == 0


def test_kernel_measures_by_hand():
    # Two filters with cosine 1 / sqrt 2: squared 1/2, twice off the diagonal.
    filters = torch.zeros(2, 1, 3, 3)
    filters[0, 0, 0, 0] = 5
    filters[1, 0, 0, 0] = filters[1, 0, 2, 1] = 0.1
    assert kernel.cosine(filters).item() == pytest.approx(0.5)
    assert kernel.orthogonal(filters).item() == pytest.approx(1.0)


@pytest.mark.parametrize("module", [resnet18, torchvision.models.resnet])
def test_both_variants_of_kernel_start_about_equally_strong(module):
    model, found = module.build(10) if module is resnet18 else module.resnet18(), []
    for variant in ("cosine", "orthogonal"):
        options = Kernel(variant=variant, ramp_up_steps=0)
        step = imcl.Collaboration(model, {"kernel": options})(
            torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
        )
        found.append(options.weight * step.terms["kernel"].item())
    assert 0.5 < found[1] / found[0] < 2


def test_a_variant_of_kernel_brings_its_weight_unless_one_is_given():
    assert Kernel(variant="orthogonal", weight=3.0).weight == 3.0
    stated = Kernel(weight=7.0)
    assert (
        stated.overridden(Kernel(variant="orthogonal")).weight
        == Kernel(variant="orthogonal").weight
    )
    assert stated.overridden(Kernel(ramp_up_steps=5)).weight == 7.0
    orthogonal = Kernel(variant="orthogonal")
    assert orthogonal.overridden(Kernel(ramp_up_steps=5)) == Kernel(
        variant="orthogonal", ramp_up_steps=5
    )
    assert orthogonal.overridden(Kernel(variant="cosine")) == Kernel()


# several at once --------------------------------------------------------------------------------


def same(found, expected, inputs, rtol=1e-10):
    """Two losses and their gradients for the inputs; `found` may be in float32."""
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=0)
    gradients = [torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() <= rtol * b.norm()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 3e-6)])
@pytest.mark.parametrize("variant", ["cosine", "orthogonal"])
def test_all_kernels_at_once_are_the_mean_of_each(variant, dtype, rtol):
    """In float32 sums of 576 products round by about sqrt(576) 6e-8 of their size."""
    shapes = [(8, 3), (16, 64), (8, 8), (16, 64), (8, 8), (24, 16)]
    kernels = [random(*shape, 3, 3, seed=seed) for seed, shape in enumerate(shapes)]
    kernels[2][1] = 0
    inputs = [one.requires_grad_() for one in kernels]
    parts = Parts(torch.ones(0), NO_STAGES, [one.to(dtype) for one in inputs], 1, NOTHING)
    found = kernel.loss(Kernel(variant=variant), parts)
    assert found.dtype == dtype
    expected = torch.stack([getattr(kernel, variant)(one) for one in inputs]).mean()
    same(found, expected, [one for index, one in enumerate(inputs) if index != 2], rtol)
    (idle,) = torch.autograd.grad(found, inputs[2])
    assert idle.isfinite().all() and not idle[1].any()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("centred", [True, False])
def test_all_stages_at_once_are_the_mean_redundancy_of_each(centred, dtype, rtol):
    """In float32 a covariance is a difference of means that are up to four times as large."""
    stages = random(6, 5, 4, 4).relu() + 1, random(6, 3, 2, 2, seed=1), random(6, 8, 1, 2, seed=2)
    stages[0][:, 1] = 0  # a dead channel is idle, and so is one that is nearly dead
    stages[1][:, 2] *= 1e-5
    inputs = [stage.requires_grad_() for stage in stages]
    found = redundancy(*(stage.to(dtype) for stage in inputs), centred=centred)
    expected = []
    for stage in inputs:
        positions = stage.permute(0, 2, 3, 1).flatten(0, 2)
        if centred:
            positions = positions - positions.mean(0)
        products = positions.T @ positions / len(positions)
        expected.append(representation.mean_squared_off_diagonal(products))
    same(found, torch.stack(expected).mean(), inputs, rtol)


@pytest.mark.parametrize("centred", [True, False])
def test_all_pairs_of_stages_and_views_at_once_are_the_mean_of_each(centred):
    widths = (3, 5, 4)
    pooled = [random(6, width, seed=width).requires_grad_() for width in widths]
    together = torch.stack([F.pad(stage, (0, max(widths) - stage.shape[1])) for stage in pooled])

    found = intermediate.relation(together[:-1], together[-1], centred)
    each = [intermediate.relation(shallow, pooled[-1], centred) for shallow in pooled[:-1]]
    same(found, torch.stack(each).mean(), pooled[:-1])

    found = intermediate.agreement(together, 3, centred)
    each = []
    for stage in pooled:
        views = (stage - centred * stage.mean(0)).unflatten(0, (3, 2))
        each += [1 - F.cosine_similarity(a, b).mean() for a, b in combinations(views, 2)]
    same(found, torch.stack(each).mean(), pooled)


def test_a_vector_that_is_too_short_is_divided_by_the_bound_alone():
    least = intermediate.LEAST_NORM
    x = torch.tensor([[least / 10, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(intermediate.agreement(x, 2), x)
    torch.testing.assert_close(found[0], -torch.tensor([0.6, 0.8], dtype=torch.float64) / least)


# all of them ------------------------------------------------------------------------------------

ALL_VARIANTS = [
    (way, variant)
    for way, options in WAYS.items()
    for variant in get_args(options.model_fields["variant"].annotation)
]


def test_idle_filters_and_samples_count_as_unlike():
    filters = torch.cat([torch.zeros(1, 1, 3, 3), torch.eye(9)[:3].view(3, 1, 3, 3)])
    assert kernel.cosine(filters) == 0
    pooled = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    other = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert intermediate.relation(pooled, other) == 1  # cosine 0 against 1, the diagonal left out


@pytest.mark.parametrize(("way", "variant"), ALL_VARIANTS)
def test_gradients_in_float64(way, variant):
    options = WAYS[way](variant=variant)
    module = import_module(f"imcl.ways.{way}")
    kernels, shallow, deep = random(3, 2, 3, 3), random(4, 3, 2, 2, seed=1), random(4, 5, 1, 2)
    if way == "output":  # the targets are constant, so only that form has this gradient
        logits = random(2, 4, 3)
        fixed = logits.clone()

        def loss(z):
            q = (fixed.flip(0) / 2).softmax(2)  # the other of two parts
            return 4 * F.kl_div((z / 2).log_softmax(2), q, reduction="sum") / 8

        z = logits.requires_grad_()
        (expected,) = torch.autograd.grad(loss(z), z)
        misfit = torch.tensor(0.5, dtype=torch.float64)  # its cube is a factor
        parts = Parts(z, statistics(shallow, deep), [kernels], 2, misfit)
        (found,) = torch.autograd.grad(module.loss(options, parts), z)
        torch.testing.assert_close(found, expected / 8)
        return

    def loss(kernels, shallow, deep=deep):
        stages = statistics(shallow, deep)
        return module.loss(options, Parts(random(1, 4, 3), stages, [kernels], 2, NOTHING))

    inputs = [tensor.requires_grad_() for tensor in (kernels, shallow)]
    if variant != "relation":  # its deepest stage is the teacher, a constant
        inputs.append(deep.clone().requires_grad_())
    assert gradcheck(loss, inputs)


def test_ramp_up_by_hand():
    assert ramp_up(0.0, 0.4) == pytest.approx(math.exp(-5))
    assert ramp_up(0.2, 0.4) == pytest.approx(math.exp(-1.25))
    assert ramp_up(0.4, 0.4) == 1
    assert ramp_up(0.0, 0.0) == 1


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.4, 0.9])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_ramp_up_of_a_scalar_on_the_device(progress, share):
    found = ramp_up(torch.tensor(progress), share)
    assert float(found) == pytest.approx(ramp_up(progress, share), rel=2e-6)


def test_the_step_number_may_be_a_scalar_on_the_device():
    images, labels = batch()
    ways = {"kernel": {}, "representation": {"ramp_up_steps": 500}}
    found, expected = (
        imcl.Collaboration(network(), ways)(images, labels, step=step)
        for step in (torch.tensor(100.0), 100)
    )
    torch.testing.assert_close(found.loss, expected.loss)


def test_without_a_step_number_the_calls_are_counted():
    images, labels = batch()
    collaboration = imcl.Collaboration(network(), {"kernel": {"ramp_up_steps": 2}})
    for w in (math.exp(-5), math.exp(-5 / 4), 1):
        step = collaboration(images, labels)
        expected = step.terms["cross_entropy"] + 10 * w * step.terms["kernel"]
        torch.testing.assert_close(step.loss.detach(), expected)


def test_output_follows_the_misfit_of_the_labels():
    model, (images, labels) = network(), batch()
    ways = {"output": {"misfit_power": 3.0}}
    collaboration = imcl.Collaboration(model, ways)
    step = collaboration([images, images.flip(3)], labels)
    plain = imcl.Collaboration(model, {"output": {"misfit_power": 0.0}})
    consistency = plain([images, images.flip(3)], labels).terms["output"]
    share = step.terms["cross_entropy"] / math.log(5)
    torch.testing.assert_close(step.terms["output"], share.clamp(max=1) ** 3 * consistency)
    assert 0 < step.terms["output"] < consistency


# Collaboration ----------------------------------------------------------------------------------


def batch(count: int = 6, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, side, side, generator=generator)
    return images, torch.randint(0, 5, (count,), generator=generator)


def network(module: ModuleType = resnet18) -> Backbone:
    torch.manual_seed(0)
    return module.build(5, 3, 4)


@pytest.mark.parametrize("size", range(5))
def test_every_combination_is_the_weighted_sum_of_its_terms(size):
    images, labels = batch()
    for chosen in combinations(WAYS, size):
        ways = {way: {"weight": 3.0, "ramp_up_steps": 500} for way in chosen}
        collaboration = imcl.Collaboration(network(), ways)
        views = [images, images.flip(3)][: collaboration.views]
        step = collaboration(views, labels, step=250)
        w = math.exp(-5 * 0.5**2)
        expected = step.terms["cross_entropy"] + sum(3 * w * step.terms[way] for way in chosen)
        assert list(step.terms) == ["cross_entropy", *chosen]
        torch.testing.assert_close(step.loss.detach(), expected)
        assert step.logits.shape == (6, 5)


def test_without_ways_it_is_cross_entropy_with_the_same_gradients():
    images, labels = batch()
    one, other = network(), network()
    imcl.Collaboration(one, {})(images, labels).loss.backward()
    F.cross_entropy(other(images), labels).backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_the_cross_entropy_is_the_mean_over_views_with_the_right_labels():
    images, labels = batch()
    model = network().eval()
    step = imcl.Collaboration(model, {"output": {"variant": "augment"}})(
        [images, images.flip(3)], labels
    )
    separate = [F.cross_entropy(model(view), labels) for view in (images, images.flip(3))]
    torch.testing.assert_close(step.terms["cross_entropy"], sum(separate) / 2)


@pytest.mark.parametrize("module", [resnet18, vgg16])
@pytest.mark.parametrize(("way", "variant"), ALL_VARIANTS)
def test_every_variant_sends_a_finite_gradient_to_the_network(module, way, variant):
    images, labels = batch(side=32)
    model = network(module)
    collaboration = imcl.Collaboration(model, {way: {"variant": variant}})
    step = collaboration([images, images.flip(3)][: collaboration.views], labels)
    (step.loss - F.cross_entropy(step.logits, labels)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert step.terms[way] > 0


def test_losses_are_float32_under_autocast():
    images, labels = batch()
    with torch.autocast("cpu", torch.bfloat16):
        step = imcl.Collaboration(network(), {"representation": {}, "kernel": {}})(images, labels)
    assert {t.dtype for t in (step.logits, step.loss, *step.terms.values())} == {torch.float32}


def test_between_calls_nothing_is_attached_to_the_model():
    model, (images, labels) = torchvision.models.resnet18(num_classes=5), batch(side=64)
    collaboration = imcl.Collaboration(model, ["representation"])
    collaboration(images, labels)
    torch.save(copy.deepcopy(model), io.BytesIO())
    kept = []
    model.layer1.register_forward_hook(lambda *hook: kept.append(weakref.ref(hook[2])))
    model(images)
    assert kept[0]() is None  # what a later pass computes is not held


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_dtype(dtype):
    images, labels = batch()
    model = network().to(dtype)
    step = imcl.Collaboration(model, {"representation": {}, "kernel": {}})(images.to(dtype), labels)
    step.loss.backward()
    assert step.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_logits_are_those_of_the_first_view():
    images, labels = batch()
    model = network().eval()
    step = imcl.Collaboration(model, {"output": {}, "kernel": {}})([images, images.flip(3)], labels)
    torch.testing.assert_close(step.logits, model(images).detach())


def test_more_views_than_the_ways_need_are_a_control():
    images, labels = batch()
    model = network().eval()
    step = imcl.Collaboration(model, {}, views=2)([images, images.flip(3)], labels)
    separate = [F.cross_entropy(model(view), labels) for view in (images, images.flip(3))]
    torch.testing.assert_close(step.loss, sum(separate) / 2)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_labels_of_another_count_are_refused(count):
    images, _ = batch()
    with pytest.raises(UsageError, match=f"{count} labels for batches of \\[6\\]"):
        imcl.Collaboration(network(), {})(images, torch.zeros(count).long())


@pytest.mark.parametrize(
    ("ways", "place", "fault"),
    [
        ({"outptu": {}}, "", "unknown way 'outptu'; did you mean 'output'?"),
        ({"output": {"wieght": 1}}, "output", "'wieght'; did you mean 'weight'?"),
        ({"kernel": {"variant": "cosin"}}, "kernel.variant", "'cosin'; did you mean 'cosine'?"),
        ({"output": {"parts": 1}}, "output.parts", "1 is out of range; it must be at least 2"),
        ({"output": {"temperature": 0}}, "output.temperature", "0 is out of range"),
        ({"output": {"dropout_rate": 1}}, "output.dropout_rate", "1 is out of range"),
        ({"kernel": {"weight": -1}}, "kernel.weight", "-1 is out of range"),
        ({"intermediate": {"centred": 1}}, "intermediate.centred", "1 is not true or false"),
        ({"kernel": Output()}, "kernel", "Output("),
    ],
)
def test_a_wrong_option_is_named_with_its_place_and_the_nearest_right_one(ways, place, fault):
    with pytest.raises(UsageError) as error:
        imcl.Collaboration(network(), ways)
    assert str(error.value).startswith(place)
    assert fault in str(error.value)


def test_options_may_be_typed():
    collaboration = imcl.Collaboration(network(), {"output": Output(parts=3), "kernel": {}})
    assert collaboration.views == 3


def test_kernel_wants_a_convolution():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Linear(4, 5))
    with pytest.raises(UsageError, match="no convolution larger than 1 x 1"):
        imcl.Collaboration(model, ["kernel"])


def test_missing_views_are_asked_for():
    images, labels = batch()
    with pytest.raises(UsageError, match="3 augmentations of each image are needed, 1 given"):
        imcl.Collaboration(network(), {"output": {"parts": 3}})(images, labels)
