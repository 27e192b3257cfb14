"""params.yaml as typed settings, with the options of `imcl.study.options` and `sources`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, WithJsonSchema, create_model

from imcl.study import methods
from imcl.study.backbones import BACKBONES, ForeignOptions
from imcl.study.options import BASELINES, WAYS, Baseline, Way
from imcl.study.sources import Contents, DatasetOptions, NoiseOptions
from imcl.study.spec import (
    FILLED,
    UNIQUE,
    BatchSize,
    BelowOne,
    Count,
    Device,
    Name,
    Open,
    Options,
    Positive,
    Seed,
    Share,
    Text,
    Weight,
    Width,
)

Names = Annotated[list[str], Field(min_length=1), *UNIQUE]
OwnBackbones = Annotated[
    list[Annotated[str, Field(json_schema_extra={"enum": [*BACKBONES]})]],
    Field(min_length=1),
    *UNIQUE,
]

# `methods: combinations` is short for a list with this one entry.
Methods = Annotated[
    Names,
    BeforeValidator(methods.listed),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": methods.COMBINATIONS},
                {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "uniqueItems": True,
                },
            ]
        }
    ),
]
Seeds = Annotated[list[Seed], Field(min_length=1), *UNIQUE]


class ByName(Options):
    """Options for each name of a registry."""

    def given(self) -> dict[str, Any]:
        """The options of the names that params.yaml sets."""
        return {name: options for name, options in self if name in self.model_fields_set}


if TYPE_CHECKING:

    class Ways(ByName): ...

    class Baselines(ByName): ...

else:
    Ways = create_model(
        "Ways",
        __base__=ByName,
        **{name: (way, Field(default_factory=way)) for name, way in WAYS.items()},
    )
    Baselines = create_model(
        "Baselines",
        __base__=ByName,
        **{name: (of, Field(default_factory=of)) for name, of in BASELINES.items()},
    )


class Training(Options):
    """How every network is trained."""

    epochs: Count = Field(200, description="passes over the training images")
    batch_size: BatchSize = Field(128, description="images in a step")
    learning_rate: Positive = Field(
        0.1, description="highest learning rate, reached after the warm-up"
    )
    momentum: BelowOne = Field(0.9, description="Nesterov momentum")
    weight_decay: Weight = Field(5.0e-4, description="applied to weight matrices and kernels only")
    schedule: Literal["cosine", "one_cycle"] = Field(
        "cosine", description="how the learning rate changes over the epochs"
    )
    warmup_epochs: int = Field(
        5, ge=0, le=1_000_000, description="epochs in which the learning rate rises"
    )
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32", description="number format of the convolutions"
    )
    evaluations: Count = Field(
        12, description="evaluations during training, evenly spread; at most one an epoch"
    )

    def evaluated(self, epoch: int) -> bool:
        """Whether the network is evaluated after an epoch, counted from 1."""
        count = min(self.evaluations, self.epochs)
        return epoch * count // self.epochs > (epoch - 1) * count // self.epochs


class Running(Options):
    """How trainings run on a machine. No cell's digest depends on it; the records tell it."""

    device: Device = Field("auto", description="auto: the GPU if there is one, else the CPU")
    compile: bool = Field(
        False, description="fuse operations with torch's compiler; slower on a CPU"
    )
    deterministic: bool = Field(
        True, description="take only algorithms of a GPU that repeat to the bit"
    )


class SearchedTraining(Options):
    """What a search may change in the training."""

    learning_rate: Positive = Training().learning_rate
    weight_decay: Weight = Training().weight_decay


if TYPE_CHECKING:

    class Tried(ByName):
        training: SearchedTraining

    class Factors(ByName): ...

else:
    Tried = create_model(
        "Tried",
        __base__=ByName,
        __doc__="Options that a search tries or has chosen, by what they belong to.",
        training=(SearchedTraining, Field(default_factory=SearchedTraining)),
        **{name: (of, Field(default_factory=of)) for name, of in {**WAYS, **BASELINES}.items()},
    )
    Factors = create_model(
        "Factors",
        __base__=ByName,
        __doc__="For each way, a factor of the weight that was chosen for it alone.",
        **dict.fromkeys(WAYS, (Weight, 1.0)),
    )


class Candidate(Tried):
    """Options that a search tries for a method. What they leave out is as without the search."""

    times: Factors = Field(
        default_factory=Factors,
        description="for each way, a factor of the weight that it has without this candidate",
    )

    def given(self) -> dict[str, Any]:
        options = super().given()
        options.pop("times", None)
        return options


class Choice(Options):
    """The options that a search chose for a cell, and why."""

    options: Tried
    reason: Text


# What a study needs, itself or in each of its blocks; the width for our backbones only.
AXES = ("datasets", "noise", "backbones", "methods")
NEEDED = (*AXES, "seeds", "width")


class Block(Options):
    """A part of a study: datasets x noise x backbones x methods, each cell with every seed.

    A block takes over from its study what it leaves out.
    """

    datasets: Open[Names] = None
    noise: Open[Names] = Field(None, description="`clean`, or names of the section `noise`")
    backbones: Open[Names] = Field(
        None, description=f"{', '.join(BACKBONES)}, or names of the section `backbones`"
    )
    methods: Open[Methods] = Field(
        None, description="`combinations` stands for base and all combinations of the four ways"
    )
    seeds: Open[Seeds] = None
    width: Open[Width] = Field(
        None, description=f"channels of the first stage of {' and '.join(BACKBONES)}"
    )
    ways: dict[str, Ways] = Field(
        {}, description="for each noise, overrides of the options in `ways`"
    )
    training: Training = Field(
        default_factory=Training, description="overrides of the options in `training`"
    )


class Study(Block):
    """A study: the cells of its blocks in order, or of itself as the only block."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [*AXES, "seeds"]}, {"required": ["blocks"]}]}
    )

    anchors: dict[str, Share] = Field(
        {}, description="cells that `imcl run` trains first, with the accuracy that they must reach"
    )
    chosen: dict[str, Choice] = Field(
        {},
        description="options by cell, as `imcl search` writes them: those of base hold for the "
        "training of every method with this dataset, noise and backbone; those of a way or a "
        "baseline also where it is combined with others",
    )
    evidence: bool = Field(True, description="whether claims are judged from its records")
    device: Literal["any", "gpu"] = Field(
        "any", description="`gpu`: a training without a usable GPU fails at once"
    )
    blocks: Annotated[list[Block], Field(min_length=1)] = Field(
        [], description="parts with settings of their own; what they leave out, the study states"
    )


@dataclass(frozen=True)
class Grid:
    """A block of a study with everything that it takes over.

    Attributes:
        ways: overrides of the ways by noise, the weaker first.
        chosen: what the search chose, by cell.
    """

    datasets: list[str]
    noise: list[str]
    backbones: list[str]
    methods: list[str]
    seeds: list[int]
    width: int | None
    training: Training
    ways: Sequence[dict[str, Ways]]
    chosen: Mapping[str, Choice]


class Rung(Options):
    """A step of a search, after which the best candidates of each method go on."""

    epochs: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the study's epochs"
    )
    seeds: Seeds
    keep: Count = Field(
        1, description="candidates of each method that go on; the last rung keeps one"
    )


class Search(Options):
    """The search for the settings of a study (`imcl search`), on held-out training images."""

    validation_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="share of the training images that is held out"
    )
    rungs: list[Rung] = Field([], description="first to last; the last has at least two seeds")
    candidates: dict[str, Annotated[list[Candidate], Field(min_length=1)]] = Field(
        {}, description="by method, what is tried for it; as many for each method"
    )


class Evidence(Options):
    """The least that a comparison needs to count as evidence."""

    seeds: int = Field(3, ge=2, le=1_000_000)
    width: Width = 16
    epochs: Count = 30


class FullSize(Options):
    """Below this, a verdict holds at reduced size only."""

    width: Width = 64


Measure = Literal["error", "accuracy", "training_parameters", "macs", "time", "memory"]
Unit = Literal["points", "relative"]
Epoch = Literal["last", "oracle"]


class Readings(Options):
    """What a claim leaves open; every combination is judged."""

    measure: Open[Annotated[list[Measure], Field(min_length=1), *UNIQUE]] = None
    methods: Open[Names] = None
    noise: Open[Names] = None
    unit: Open[Annotated[list[Unit], Field(min_length=1), *UNIQUE]] = None
    epoch: Open[Annotated[list[Epoch], Field(min_length=1), *UNIQUE]] = None


class Claim(Options):
    """What the abstract claims: each of `methods` compared with each of `against`."""

    says: Text
    figure: Open[Positive] = Field(None, description="what the abstract states, in percent")
    measure: Open[Measure] = None
    relation: Open[Literal["smaller", "equal"]] = Field(
        None, description="how the cost is claimed to compare with that of `against`"
    )
    methods: Open[Names] = None
    against: Names
    datasets: Open[Names] = None
    noise: Open[Names] = None
    backbones: OwnBackbones
    readings: Open[Annotated[Readings, *FILLED]] = None


class Claims(Options):
    """What the abstract claims, and what it takes to judge that."""

    evidence: Evidence = Field(default_factory=Evidence)
    full_size: FullSize = Field(default_factory=FullSize)
    ledger: Annotated[dict[Name, Claim], Field(min_length=1)] = Field(
        {}, description="the claims by name"
    )


class Settings(Options):
    """The whole of params.yaml."""

    study: str = Field(description="the study that commands use without --study")
    studies: Annotated[dict[Name, Study], Field(min_length=1)]
    datasets: Annotated[dict[Name, DatasetOptions], Field(min_length=1)]
    noise: dict[Name, NoiseOptions] = Field({}, description="label noise; `clean` needs no entry")
    backbones: dict[Name, ForeignOptions] = Field(
        {}, description="networks of torchvision and timm, besides those of this package"
    )
    ways: Ways = Field(default_factory=Ways, description="overrides of the ways' defaults")
    search: Search = Field(default_factory=Search)
    baselines: Baselines = Field(
        default_factory=Baselines, description="overrides of the baselines' defaults"
    )
    training: Training = Field(
        default_factory=Training, description="overrides of the training's defaults"
    )
    run: Running = Field(default_factory=Running, description="how trainings run on this machine")
    claims: Claims = Field(default_factory=Claims)

    _contents: Contents | None = PrivateAttr(None)

    @property
    def contents(self) -> Contents | None:
        """What the project's own files hold; None if these settings belong to no project."""
        return self._contents

    def knowing(self, contents: Contents) -> Self:
        """The same settings, whose datasets also have the digest of their content."""
        copy = self.model_copy()
        copy._contents = contents
        return copy

    @property
    def chosen_study(self) -> Study:
        return self.studies[self.study]

    @property
    def gpu_for(self) -> str | None:
        """The chosen study in words, if it needs a GPU."""
        needs = self.chosen_study.device == "gpu"
        return f"study {self.study} (studies.{self.study}.device)" if needs else None

    def way(self, name: str, noise: str = "", overrides: Sequence[dict[str, Ways]] = ()) -> Way:
        """A way's options, with what `overrides` say for labels with this noise."""
        options: Way = getattr(self.ways, name)
        for by_noise in overrides:
            if noise in by_noise:
                options = options.overridden(getattr(by_noise[noise], name))
        return options

    def baseline(self, name: str) -> Baseline:
        options: Baseline = getattr(self.baselines, name)
        return options

    @property
    def seeds(self) -> list[int]:
        """Every seed of the chosen study."""
        return sorted({seed for grid in self.grids(self.study) for seed in grid.seeds})

    def grids(self, study: str) -> list[Grid]:
        """The blocks of a study in order; a study without blocks is one."""
        plan = self.studies[study]
        return [self._grid(plan, block) for block in plan.blocks or [Block()]]

    def _grid(self, plan: Study, block: Block) -> Grid:
        stated = {
            key: getattr(block if key in block.model_fields_set else plan, key) for key in NEEDED
        }
        training = self.training.overridden(plan.training).overridden(block.training)
        stated["methods"] = methods.expanded(stated["methods"])
        return Grid(**stated, training=training, ways=(plan.ways, block.ways), chosen=plan.chosen)
