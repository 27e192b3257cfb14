"""The options of the ways and the baselines: name, default, bounds and meaning.

params.yaml overrides these defaults. The JSON schema, the checks of `imcl.Collaboration`, the table
of `imcl settings` and the settings table in the paper all come from here.

A way is an entry in `WAYS` and a module imcl.ways.NAME. A baseline is an entry in `BASELINES` and a
module imcl.baselines.NAME. An entry without options of its own is one line, here of `WAYS`:

    "sparsity": PlainWay,
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imcl.study.backbones import Conv, Stage, halved
from imcl.study.spec import BelowOne, Copies, Count, Options, Positive, Share, Weight

COSINE, ORTHOGONAL = 10.0, 5e-4  # the weights of `kernel` with these variants


class Only:
    """Marks an option that only some variants of a way use."""

    def __init__(self, *variants: str):
        self.variants = variants


class Way(Options):
    """The options that every way has. `variant` names the form of its loss."""

    variant: str
    weight: Weight = Field(1.0, description="factor of the loss")
    ramp_up_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        2000, description="steps of training in which the factor grows from 0 to full size"
    )

    @property
    def views(self) -> int:
        """How many augmentations of each image the variant compares."""
        return 1

    def used(self) -> dict[str, Any]:
        """The options that the variant uses, by name; only these can change a result."""
        return {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if all(self.variant in m.variants for m in field.metadata if isinstance(m, Only))
        }


class PlainWay(Way):
    """A way with one variant and no options of its own."""

    variant: Literal["plain"] = Field("plain", description="the only form of its loss")


class Output(Way):
    """The options of `imcl.ways.output`: consistency of the output layer."""

    variant: Literal["dropout", "spatial", "channel", "augment"] = Field(
        "augment", description="what makes the parts of the output layer differ"
    )
    weight: Weight = Field(45.0, description="factor of the loss")
    misfit_power: Weight = Field(
        3.0,
        description="the factor also follows the labels' misfit to this power; 0 for not at all",
    )
    temperature: Positive = Field(2.0, description="softens the predictions that are compared")
    parts: int = Field(2, ge=2, le=64, description="number of parts that teach each other")
    dropout_rate: Annotated[BelowOne, Only("dropout")] = Field(
        0.3, description="share of the features that each part drops"
    )

    @property
    def views(self) -> int:
        return self.parts if self.variant == "augment" else 1


class Intermediate(Way):
    """The options of `imcl.ways.intermediate`: consistency of the intermediate layers."""

    variant: Literal["relation", "attention", "augment"] = Field(
        "augment",
        description="agreement of stages (relation, attention) or augmentations (augment)",
    )
    centred: Annotated[bool, Only("relation", "augment")] = Field(
        True, description="subtract the mean over the batch first"
    )

    @property
    def views(self) -> int:
        return 2 if self.variant == "augment" else 1


class Representation(Way):
    """The options of `imcl.ways.representation`: less similarity between channels."""

    variant: Literal["correlation", "cosine"] = Field(
        "correlation", description="compare the channels minus their mean, or as they are"
    )


class Kernel(Way):
    """The options of `imcl.ways.kernel`: less similarity between convolution kernels.

    A kernel of O filters has O (O - 1) pairs, so `orthogonal` has a weight of its own.

    With it, both variants start equally strong in a network of full size: the weight of
    `orthogonal` that gives the loss of `cosine` with 10 is 4e-4 for torchvision's ResNet-18, and
    8e-4 for ours, of width 64. Narrow networks have fewer pairs: 7e-3 for ours of width 16.
    """

    variant: Literal["cosine", "orthogonal"] = Field(
        "cosine", description="take the mean over the pairs of filters, or their sum"
    )
    weight: Weight = Field(
        COSINE, description=f"factor of the loss; {ORTHOGONAL:g} for orthogonal if it is not given"
    )

    @model_validator(mode="before")
    @classmethod
    def _weight_of_its_variant(cls, options: object) -> object:
        if isinstance(options, dict):
            match options.get("variant"):
                case "cosine":  # which may override `orthogonal`
                    return {"weight": COSINE, **options}
                case "orthogonal":
                    return {"weight": ORTHOGONAL, **options}
        return options


WAYS: dict[str, type[Way]] = {
    "output": Output,
    "intermediate": Intermediate,
    "representation": Representation,
    "kernel": Kernel,
}

# The ways of the paper. The method `all` means these, whatever else is registered.
PAPER_WAYS = ("output", "intermediate", "representation", "kernel")

# The method `default`: its ways, each with what differs from the defaults above.
DEFAULT: dict[str, dict[str, Any]] = {"output": {}}


class Baseline(Options):
    """The options of a baseline."""

    @property
    def copies(self) -> int:
        """Networks whose weights are in memory at a time."""
        return 1

    @property
    def trained(self) -> int:
        """Of these, networks that are trained whole, each with its own gradients and maps."""
        return 1

    @property
    def views(self) -> int:
        """How many augmentations of each image it compares."""
        return 1

    def extra(self, stages: Sequence[Stage]) -> float:
        """Multiply-adds of one image's forward pass through what the baseline adds.

        A pass without a backward pass counts a third, which is its share of a training step.

        Args:
            stages: of the network that it trains.
        """
        return 0

    @classmethod
    def excludes(cls, way: str) -> str | None:
        """Why a way cannot be added to the baseline; None if it can."""
        return None


class OnlyLoss(Baseline):
    """A baseline that needs nothing of the network but its logits, so that any network will do."""


class TwoNetworks(Baseline):
    """A baseline that trains two networks."""

    @property
    def copies(self) -> int:
        return 2

    @property
    def trained(self) -> int:
        return self.copies

    def extra(self, stages: Sequence[Stage]) -> float:
        return (self.copies - 1) * sum(stage.macs for stage in stages)

    @classmethod
    def excludes(cls, way: str) -> str | None:
        return "which trains two networks: there is no single network whose parts could agree"


class Multihead(Baseline):
    """The options of `imcl.baselines.multihead`: heads that imitate each other."""

    branches: Annotated[list[Copies], Field(min_length=2, max_length=2)] = Field(
        [2, 2],
        description="branches at each of the two splits; their product is the number of heads",
    )
    beta: Share = Field(0.5, description="weight of the cross-entropy; the rest is imitation")
    temperature: Positive = Field(2.0, description="softens the predictions that are imitated")
    t_squared: bool = Field(False, description="multiply the imitation by the squared temperature")

    @property
    def copies(self) -> int:
        children, heads_each = self.branches
        return children * heads_each

    def extra(self, stages: Sequence[Stage]) -> float:
        *_, middle, last = stages
        return (self.branches[0] - 1) * middle.macs + (self.copies - 1) * last.macs


class Dml(TwoNetworks):
    """The options of `imcl.baselines.dml`: networks that imitate each other."""

    networks: Copies = Field(2, description="number of networks that teach each other")

    @property
    def copies(self) -> int:
        return self.networks


class One(Baseline):
    """The options of `imcl.baselines.one`: branches that imitate their gated mean."""

    branches: Copies = Field(3, description="number of copies of the last stage")
    temperature: Positive = Field(3.0, description="softens the predictions that are imitated")
    ramp_up: Share = Field(
        0.2667, description="share of the training in which the imitation grows to full size"
    )

    @property
    def copies(self) -> int:
        return self.branches

    def extra(self, stages: Sequence[Stage]) -> float:
        return (self.branches - 1) * stages[-1].macs


class Byot(Baseline):
    """The options of `imcl.baselines.byot`: early stages imitate the last."""

    alpha: Share = Field(0.3, description="weight of the distillation; the rest is cross-entropy")
    temperature: Positive = Field(3.0, description="softens the predictions that are imitated")
    feature_weight: Weight = Field(0.03, description="factor of the distance between features")

    def extra(self, stages: Sequence[Stage]) -> float:
        macs = 0
        for number, stage in enumerate(stages[:-1]):
            side = stage.side
            for before, after in pairwise(stages[number:]):
                halves = Conv(before.channels, after.channels, 3, side, halved(side))
                macs, side = macs + halves.macs, halves.side
        return macs


class Rdrop(Baseline):
    """The options of `imcl.baselines.rdrop`: agreement of two passes with dropout."""

    alpha: Weight = Field(0.3, description="factor of the divergence between the two passes")
    dropout_rate: BelowOne = Field(0.1, description="rate of the dropout before the classifier")
    reduction: Literal["sum", "mean"] = Field(
        "sum", description="how the cross-entropies of the two passes are combined"
    )

    @classmethod
    def excludes(cls, way: str) -> str | None:
        if way != "output":
            return None
        return "whose two dropout passes are already the parts of the output layer"


class Cskd(Baseline):
    """The options of `imcl.baselines.cskd`: agreement of two images of a class."""

    weight: Weight = Field(1.0, description="factor of the distillation")
    temperature: Positive = Field(4.0, description="softens the predictions that are imitated")

    def extra(self, stages: Sequence[Stage]) -> float:
        return sum(stage.macs for stage in stages) / 3


class LabelSmoothing(OnlyLoss):
    """The options of `imcl.baselines.label_smoothing`."""

    smoothing: BelowOne = Field(0.1, description="share of the target spread over all classes")


class Gce(OnlyLoss):
    """The options of `imcl.baselines.gce`: generalised cross-entropy."""

    q: Annotated[float, Field(ge=1e-3, le=1)] = Field(
        0.7, description="near 0 the loss is cross-entropy, at 1 mean absolute error"
    )


class Sce(OnlyLoss):
    """The options of `imcl.baselines.sce`: symmetric cross-entropy.

    For CIFAR-100 its authors use alpha 6 and beta 0.1.
    """

    alpha: Weight = Field(0.1, description="factor of the cross-entropy")
    beta: Weight = Field(1.0, description="factor of the reverse cross-entropy")


class Gjs(OnlyLoss):
    """The options of `imcl.baselines.gjs`: generalised Jensen-Shannon divergence.

    Its authors use pi 0.5, 0.3, 0.9, 0.1 and 0.1 for CIFAR-10 with 0, 20, 40, 60 and 80 % noise.
    The default is what they use most often over CIFAR-10 and CIFAR-100.
    """

    pi: Annotated[float, Field(ge=1e-3, le=0.999)] = Field(
        0.3, description="weight of the label; the predictions share the rest"
    )

    @property
    def views(self) -> int:
        return 2


class Elr(OnlyLoss):
    """The options of `imcl.baselines.elr`: early-learning regularisation.

    For CIFAR-100 its authors use weight 7 and beta 0.9.
    """

    weight: Weight = Field(3.0, description="factor of the regularisation")
    beta: BelowOne = Field(0.7, description="share of its old value that a target keeps in a step")


class Coteaching(TwoNetworks):
    """The options of `imcl.baselines.coteaching`: two networks choose each other's images."""

    ramp_epochs: Count = Field(
        10, description="epochs until the share of images that it ignores equals the noise rate"
    )


BASELINES: dict[str, type[Baseline]] = {
    "multihead": Multihead,
    "dml": Dml,
    "one": One,
    "byot": Byot,
    "rdrop": Rdrop,
    "cskd": Cskd,
    "label_smoothing": LabelSmoothing,
    "gce": Gce,
    "sce": Sce,
    "gjs": Gjs,
    "elr": Elr,
    "coteaching": Coteaching,
}
