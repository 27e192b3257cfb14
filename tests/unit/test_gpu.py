"""What only a GPU can show: captured and compiled steps, TF32, resuming, several trainings at once.

The numbers of a GPU are compared with those of another way to compute them on the same GPU, or with
float64.
"""

from collections.abc import Callable
from typing import Any

import pytest
import quick
import torch
from conftest import without_cost

from imcl.bench import overhead, steps
from imcl.models import vgg16
from imcl.project import Project
from imcl.records.record import Record
from imcl.study.grid import Cell
from imcl.study.options import WAYS
from imcl.training import device, loop, runner, worker
from imcl.training.network import Architecture
from imcl.training.worker import RunOptions
from imcl.ways import kernel, representation
from imcl.ways.parts import Observer, Parts

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that torch can use"
)
GPU = RunOptions("cuda")
BF16 = {"precision": "bf16"}


@pytest.fixture
def project(micro) -> Project:
    return micro[0]


@pytest.fixture(autouse=True)
def settled_again():
    yield
    device.settle(1, "float32")


def train(project: Project, cell: Cell, options: RunOptions = GPU) -> Record:
    quick.forget(project, cell)
    return worker.train(project, cell, options)


def losses(record: Record) -> list[float]:
    return [epoch["loss"] for run in record["runs"] for epoch in run["history"]]


def one_short_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let VGG-16 be one convolution, whose map has as many pixels as the image."""
    monkeypatch.setattr(vgg16, "CONVOLUTIONS", (1,))
    monkeypatch.setattr(vgg16, "MULTIPLES", (1,))


CAPTURED = ["base", "all", "elr", "cskd", "coteaching", "multihead", "gjs", "dml", "byot", "one"]


@pytest.mark.parametrize("method", CAPTURED)
def test_a_captured_step_gives_the_numbers_of_an_eager_one(project, method, monkeypatch):
    training = {"epochs": 2, "batch_size": 128}
    cell = quick.cell(project, f"digits-n50-resnet18-{method}", training=training, seeds=[1])
    captured = train(project, cell)
    monkeypatch.setattr(loop, "EAGER_STEPS", 10**9)
    assert losses(captured) == pytest.approx(losses(train(project, cell)), rel=1e-3)


@pytest.mark.parametrize("variant", ["dropout", "channel", "spatial"])
def test_the_random_numbers_of_a_captured_step_are_new_ones_each_time(
    project, variant, monkeypatch
):
    one_short_stage(monkeypatch)
    file = {"ways": {"output": {"variant": variant}}}
    cell = quick.cell(project, "digits-n50-vgg16-output", file=file, seeds=[1])
    captured = train(project, cell)
    monkeypatch.setattr(loop, "EAGER_STEPS", 10**9)
    assert losses(captured) == pytest.approx(losses(train(project, cell)), rel=1e-3)


def test_a_training_is_captured_once_and_waits_for_nothing():
    architecture = Architecture("resnet18", 4, overhead.SHAPE, overhead.CLASSES)
    settings = overhead.Training()
    for method in (overhead.Method(), overhead.Method({name: of() for name, of in WAYS.items()})):
        step = overhead.Step(architecture, method, settings, 8, torch.device("cuda"))
        counted = steps.count(step)
        assert counted["captures"] == 1
        assert counted["waits"] == 0


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("method", ["all", "elr", "coteaching"])
def test_a_training_repeats_to_the_bit(project, method, precision):
    training = {"precision": precision}
    cell = quick.cell(project, f"digits-n50-vgg16-{method}", training=training, seeds=[1])
    first, second = train(project, cell), train(project, cell)
    assert without_cost(first) == without_cost(second)
    assert first["environment"]["device"] == "cuda"
    assert first["cost"][0]["peak_memory_bytes"] > 0


@pytest.mark.parametrize("method", ["base", "all", "elr"])
def test_a_run_stopped_between_any_steps_resumes_to_the_same_bits(project, method):
    training = {"epochs": 3, "evaluations": 2}
    cell = quick.cell(project, f"digits-n50-resnet18-{method}", training=training, seeds=[1])
    whole = train(project, cell)
    quick.forget(project, cell)
    # Before a step is captured, at the end of an epoch, and within one that is captured.
    for count in (1, 4, 3, 6, 1):
        quick.train_and_kill(project, cell, count, RunOptions("cuda", checkpoint_share=1e9))
    assert without_cost(worker.train(project, cell, GPU)) == without_cost(whole)


def test_compiled_stages_give_the_numbers_of_eager_ones(project, monkeypatch):
    one_short_stage(monkeypatch)  # since compiling takes seconds for each
    cell = quick.cell(project, "digits-n50-vgg16-kernel", training={"batch_size": 160}, seeds=[1])
    eager = train(project, cell)
    compiled = train(project, cell, RunOptions("cuda", compiled=True))
    assert compiled["environment"]["compiled"]
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-3)


def test_trainings_that_share_a_gpu_give_the_numbers_of_each_alone(project):
    cells = [quick.cell(project, f"digits-n50-resnet18-{method}") for method in ("base", "all")]
    cells = [quick.cell(project, cell.name, methods=["base", "all"]) for cell in cells]
    alone = [without_cost(train(project, cell)) for cell in cells]
    for cell in cells:
        quick.forget(project, cell)
    failed, left = runner.run(project, cells, ["--study=quick", "--device=cuda"], jobs=2)
    assert not failed and not left
    assert [without_cost(worker.train(project, cell, GPU)) for cell in cells] == alone


# precision --------------------------------------------------------------------------------------


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


def gradients(
    loss: Callable[[Any], torch.Tensor], tensors: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and all its gradients in one vector, in float64."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = loss(leaves)
    value.backward()
    return value.detach().double(), torch.cat([leaf.grad.double().flatten() for leaf in leaves])


def kernels() -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(64, 64, 3, 3), (128, 64, 3, 3), (512, 256, 3, 3)]
    return [torch.randn(shape, device="cuda") * 0.05 for shape in shapes]


def maps() -> list[torch.Tensor]:
    """Stages' maps of a network in bf16: not negative, so their means are far from zero."""
    torch.manual_seed(0)
    shapes = [(64, 64, 32, 32), (64, 512, 4, 4)]
    drawn = [torch.randn(shape, device="cuda").relu().bfloat16() for shape in shapes]
    return [each.contiguous(memory_format=torch.channels_last) for each in drawn]


def kernel_loss(weights: list[torch.Tensor]) -> torch.Tensor:
    parts = Parts(torch.empty(0), Observer(frozenset()).stages(), weights, 1, torch.empty(0))
    return kernel.loss(WAYS["kernel"](), parts)


def representation_loss(stages: list[torch.Tensor]) -> torch.Tensor:
    observer = Observer(frozenset(["pooled", "products"]))
    passed = [observer(stage) for stage in stages]
    parts = Parts(torch.empty(0), observer.stages(), [], 1, torch.empty(0))
    # The maps themselves need a gradient too, for the statistics' to be added to.
    return representation.loss(WAYS["representation"](), parts) + 0 * sum(
        each.float().sum() for each in passed
    )


# TF32 rounds to 2^-11 = 4.9e-4 of a number; a sum of many errs less. bf16 gradients round to 2^-9.
@pytest.mark.parametrize(
    ("loss", "inputs", "value_error", "gradient_error"),
    [(kernel_loss, kernels, 5e-4, 1e-3), (representation_loss, maps, 1e-4, 4e-3)],
    ids=["kernel", "representation"],
)
def test_the_products_of_the_ways_in_tf32_are_as_exact_as_the_training(
    loss, inputs, value_error, gradient_error
):
    tensors = inputs()
    exact = gradients(loss, [tensor.double() for tensor in tensors])
    device.settle(1, "bf16")
    found = gradients(loss, tensors)
    assert relative(found[0], exact[0]) < value_error
    assert relative(found[1], exact[1]) < gradient_error


def test_float32_takes_no_tf32():
    device.settle(1, "float32")
    found = gradients(kernel_loss, kernels())
    exact = gradients(kernel_loss, [tensor.double() for tensor in kernels()])
    assert relative(found[0], exact[0]) < 1e-5
    assert relative(found[1], exact[1]) < 1e-5
    device.settle(1, "bf16")
    left, right = torch.randn(2, 512, 512, device="cuda")
    with device.exact_products():
        assert relative(left @ right, left.double() @ right.double()) < 1e-6
