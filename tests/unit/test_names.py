"""What readers see in place of the names of params.yaml."""

import pytest
from studies import ACCURACY, Study

from imcl.present import names


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"source": "cifar10", "train_size": 5000}, "CIFAR-10, 5,000 images"),
        ({"source": "stl10", "fold": 0}, "STL-10, fold 0"),
        (
            {"source": "cifar100", "train_size": 900, "validation_share": 0.1},
            "CIFAR-100, 900 images, held-out images",
        ),
        ({"source": "folder", "path": "x"}, "mine"),
    ],
)
def test_a_dataset_is_named_by_its_source_and_part(options, shown):
    assert names.dataset("mine", options) == shown


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (None, "clean labels"),
        ({"kind": "symmetric", "rate": 0.5}, "50 % wrong labels"),
        ({"kind": "symmetric_inclusive", "rate": 0.125}, "12.5 % redrawn labels"),
        ({"kind": "human", "labels": "worse"}, "CIFAR-10N worst labels"),
        ({"kind": "my_own", "rate": 0.5}, "n50"),
    ],
)
def test_noise_is_named_by_its_rate_and_kind(options, shown):
    assert names.noise("n50", options) == shown


def test_a_method_is_named_as_its_paper_does():
    shown = ["all", "label smoothing", "ELR + all", "output + kernel", "base_lr10"]
    methods = ["all", "label_smoothing", "elr+all", "output+kernel", "base_lr10"]
    assert [names.method(name) for name in methods] == shown


def test_what_would_be_shown_alike_is_told_apart(tmp_path):
    study = Study.make(tmp_path)
    study.raw["noise"] |= {"again": {**study.raw["noise"]["n50"], "noise_seed": 1}}
    study.plan["noise"] = ["clean", "n20", "n50", "again"]
    study.write(ACCURACY)
    found = names.of(study.documents().summary)
    assert [*found.noise.values()] == [
        "clean labels",
        "20 % wrong labels",
        "50 % wrong labels (n50)",
        "50 % wrong labels (again)",
    ]
    assert found.datasets == {"digits": "digits"}
    assert found.backbones == {"resnet18": "ResNet-18"}
