"""Metrics against numbers worked out by hand, and against numpy."""

import math

import numpy as np
import pytest
import torch

from imcl.models import resnet18
from imcl.training import device, evaluation
from imcl.training.batches import Normalise
from imcl.training.evaluation import (
    _Moments,
    expected_calibration_error,
    metrics,
    predict,
    predictions,
    redundancy,
)


def test_metrics_by_hand():
    ln3 = math.log(3)
    logits = torch.tensor([[ln3, 0.0], [ln3, 0.0], [0.0, ln3], [0.0, ln3]])  # 3/4 for the larger
    found = metrics(logits, torch.tensor([0, 1, 1, 1]))
    assert found["accuracy"] == 0.75
    assert found["nll"] == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)
    assert found["ece"] == pytest.approx(0.0, abs=1e-7)  # 3 of 4 right at confidence 3/4


def test_the_area_under_the_roc_curve_by_hand():
    """Of the pairs of a first-class and a second-class sample, 3 of 4 are in the right order."""
    logits = torch.tensor([[0.0, -1.0], [0.0, 2.0], [0.0, 1.0], [0.0, 3.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert metrics(logits, labels)["roc_auc"] == 0.75
    assert "roc_auc" not in metrics(torch.zeros(4, 3), labels)


def test_calibration_error_by_hand():
    # Two bins of five: 0.55 and 0.6 fall into (0.4, 0.6], 0.9 and 1 into (0.8, 1].
    probabilities = torch.tensor([[0.55, 0.45], [0.6, 0.4], [0.9, 0.1], [1.0, 0.0]]).double()
    labels = torch.tensor([1, 1, 0, 0])
    expected = 0.5 * abs(0 - 0.575) + 0.5 * abs(1 - 0.95)
    assert expected_calibration_error(probabilities, labels, bins=5) == pytest.approx(expected)


def test_predictions_by_hand():
    ln3 = math.log(3)  # confidence 3/4, so bin 12 of 15: (11/15, 12/15]
    logits = torch.tensor([[ln3, 0.0], [ln3, 0.0], [0.0, ln3], [0.0, 40.0]])
    found = predictions(logits, torch.tensor([0, 1, 1, 1]))
    assert found["confusion"] == [[1, 0], [1, 2]]
    curve = found["calibration"]
    assert curve["count"] == [0] * 11 + [3, 0, 0, 1]
    assert curve["confidence"] == [0] * 11 + [2.25, 0, 0, 1]
    assert curve["correct"] == [0] * 11 + [2, 0, 0, 1]


def test_a_confusion_matrix_of_many_classes_is_not_stored():
    assert "confusion" in predictions(torch.zeros(2, 20), torch.tensor([0, 1]))
    assert "confusion" not in predictions(torch.zeros(2, 21), torch.tensor([0, 1]))


def test_in_bf16_the_classifier_runs_in_float32():
    """Rounded to bf16, 256 logits between 1 and 4 would take 256 values at most, so many tie."""
    torch.manual_seed(0)
    model = resnet18.build(256, 3, 4).eval()
    torch.nn.init.normal_(model.classifier.weight)
    images, normalise = torch.randint(256, (20, 8, 8, 3)).byte(), Normalise(*torch.ones(2, 3) / 2)
    found = predict(model, images, normalise, "bf16")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        last = model.features(normalise(images))[-1]
    assert last.dtype == torch.bfloat16
    expected = model.double().classifier(last.double().mean((2, 3)))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert all(len(row.unique()) > 250 for row in found)


def test_tf32_is_for_training_alone():
    """What is measured stays float32."""
    threads = torch.get_num_threads()
    products = torch.backends.cuda.matmul
    for precision, convolutions, others in (
        ("tf32", True, True),
        ("bf16", False, True),  # the convolutions are in bf16
        ("float32", False, False),
    ):
        device.settle(threads, precision)
        assert torch.backends.cudnn.allow_tf32 == convolutions
        assert products.allow_tf32 == others
        with device.exact_products():
            assert not products.allow_tf32
            assert not torch.backends.cudnn.allow_tf32
        assert products.allow_tf32 == others
        assert torch.backends.cudnn.allow_tf32 == convolutions


def test_redundancy_is_measured_with_exact_products(monkeypatch):
    device.settle(torch.get_num_threads(), "bf16")
    model, images = resnet18.build(5, 3, 4), torch.zeros(2, 8, 8, 3).byte()
    allowed = []
    features = model.features
    monkeypatch.setattr(
        model,
        "features",
        lambda x: allowed.append(torch.backends.cuda.matmul.allow_tf32) or features(x),
    )
    redundancy(model, images, Normalise(*torch.ones(2, 3) / 2))
    device.settle(torch.get_num_threads(), "float32")
    assert allowed == [False]


def test_redundancy_agrees_with_numpy_across_batches(monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH", 7)
    torch.manual_seed(0)
    model = resnet18.build(5, 3, 4).eval()
    images = torch.randint(256, (20, 8, 8, 3)).byte()
    found = redundancy(model, images, Normalise(torch.full((3,), 0.5), torch.full((3,), 0.25)))

    x = (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        stages = model.features(x)
    squares = []
    for stage in stages:
        with np.errstate(invalid="ignore"):  # an idle channel correlates with none
            c = np.corrcoef(stage.transpose(0, 1).flatten(1).double().numpy())
        squares.append((np.nan_to_num(c) ** 2)[~np.eye(len(c), dtype=bool)].mean())
    assert found["channel_correlation"] == pytest.approx(np.mean(squares), rel=1e-4)

    cosines = []
    for weight in model.parameters():
        if weight.ndim == 4 and weight.shape[2] == 3:
            rows = weight.detach().double().flatten(1).numpy()
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            gram = rows @ rows.T
            cosines.append((gram**2)[~np.eye(len(gram), dtype=bool)].mean())
    assert found["kernel_cosine"] == pytest.approx(np.mean(cosines))


def test_moments_do_not_cancel_far_from_zero():
    generator = torch.Generator().manual_seed(0)
    positions = 5 + 0.01 * torch.randn(4000, 3, generator=generator)
    moments = _Moments(pivot=positions[:900].mean(0))
    for batch in positions.split(900):
        moments.add(batch)
    expected = np.cov(positions.double().T.numpy(), bias=True)
    np.testing.assert_allclose(moments.covariance().numpy(), expected, rtol=1e-3, atol=1e-8)
