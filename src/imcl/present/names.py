"""What readers see in place of the names of params.yaml: `CIFAR-10, 5,000 images`.

Tables, figures and texts show these names. `imcl trace` takes those of params.yaml.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from imcl.analysis.summary import Summary

SOURCES = {
    "digits": "digits",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "stl10": "STL-10",
    "imagenet32": "ImageNet32",
}
BACKBONES = {"resnet18": "ResNet-18", "vgg16": "VGG-16"}
BASELINES = {
    "multihead": "multi-head",
    "dml": "DML",
    "one": "ONE",
    "byot": "BYOT",
    "rdrop": "R-Drop",
    "cskd": "CS-KD",
    "label_smoothing": "label smoothing",
    "gce": "GCE",
    "sce": "SCE",
    "elr": "ELR",
    "gjs": "GJS",
    "coteaching": "Co-teaching",
}
COSTS = {
    "training_parameters": "parameters",
    "macs": "multiply-adds",
    "time": "time",
    "memory": "memory",
}
# By kind of label noise; `{rate}` is the share of labels that it changes.
KINDS = {
    "symmetric": "{rate} % wrong labels",
    "symmetric_inclusive": "{rate} % redrawn labels",
    "asymmetric": "{rate} % look-alike labels",
    "pair": "{rate} % next-class labels",
    "instance": "{rate} % wrong labels by image",
    "human": "CIFAR-10N {labels} labels",
}
HUMAN = {  # sets of CIFAR-10N's labels
    "aggre": "aggregate",
    "random1": "random 1",
    "random2": "random 2",
    "random3": "random 3",
    "worse": "worst",
}


class Names(NamedTuple):
    """The names that a study's documents show, by those of params.yaml."""

    datasets: dict[str, str]
    noise: dict[str, str]
    backbones: dict[str, str]
    methods: dict[str, str]


def of(summary: Summary) -> Names:
    """The names of a study."""
    axes = summary["axes"]
    noises = {name: noise(name, summary["noises"].get(name)) for name in axes["noise"]}
    return Names(
        _apart({name: dataset(name, summary["datasets"][name]) for name in axes["datasets"]}),
        _apart(noises),
        {name: backbone(name) for name in axes["backbones"]},
        {name: method(name) for name in axes["methods"]},
    )


def dataset(name: str, options: Mapping[str, Any]) -> str:
    """A dataset: its source, with what is used of it. Pictures of one's own keep their name."""
    known = SOURCES.get(options["source"])
    if known is None:
        return name
    size, fold, held_out = (options.get(o) for o in ("train_size", "fold", "validation_share"))
    parts = [
        f"{size:,} images" if size else "",
        f"fold {fold}" if fold is not None else "",
        "held-out images" if held_out else "",
    ]
    return ", ".join([known, *filter(None, parts)])


def noise(name: str, options: Mapping[str, Any] | None) -> str:
    """Label noise: its rate and kind. None stands for clean labels."""
    if options is None:
        return "clean labels"
    known = KINDS.get(options["kind"])
    if known is None:
        return name
    return known.format(
        rate=f"{100 * options.get('rate', 0):g}", labels=HUMAN.get(options.get("labels", ""))
    )


def wrong_labels(share: float) -> str:
    """Labels of which this share is wrong, in 0..1; clean ones for 0."""
    return noise("symmetric", {"kind": "symmetric", "rate": share} if share else None)


def backbone(name: str) -> str:
    """A backbone."""
    return BACKBONES.get(name, name)


def method(name: str) -> str:
    """A method: its baseline and ways."""
    first, *ways = name.split("+")
    return " + ".join([BASELINES.get(first, first), *ways])


def _apart(shown: Mapping[str, str]) -> dict[str, str]:
    """Names that would be shown alike get that of params.yaml as well."""
    counts = Counter(shown.values())
    return {name: f"{text} ({name})" if counts[text] > 1 else text for name, text in shown.items()}
