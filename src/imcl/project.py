"""A project: the folder that holds params.yaml, and every path inside it.

Nothing in this package depends on the current folder: each function that reads or writes files
takes a `Project`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from imcl.errors import UsageError

PARAMS = "params.yaml"
# Of the environment: the file to read instead of params.yaml. Jobs inherit it from Snakemake.
VARIABLE = "IMCL_PARAMS"


@dataclass(frozen=True)
class Project:
    """The paths of a project.

    Args:
        root: the project's folder. A relative one gives relative paths, which read better in
            messages.
        file: the parameters, if they are not `root`/params.yaml.
        scratch: a folder for everything that the pipeline makes, instead of `root`. Its inputs
            (params.yaml, archives, committed files) stay in `root`.
    """

    root: Path
    file: Path | None = None
    scratch: Path | None = None

    @classmethod
    def find(cls, root: Path | None = None, file: Path | None = None) -> "Project":
        """The project in `root`, or the one that the current folder lies in.

        Without `root` the current folder and its parents are searched for a params.yaml. Without
        `file` the environment may name another one.

        Raises:
            UsageError: `root` is no folder.
        """
        named = os.environ.get(VARIABLE)
        file = file or (Path(named) if named else None)
        if root is not None:
            if not root.is_dir():
                raise UsageError(f"--project {root}: no such folder")
            return cls(root, file)
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / PARAMS).is_file():
                return cls(Path() if folder == here else folder, file)
        return cls(Path(), file)

    @property
    def params(self) -> Path:
        return self.file or self.root / PARAMS

    # What the pipeline makes: data -------------------------------------------------------------

    @property
    def data(self) -> Path:
        return self._made / "data"

    @property
    def archives(self) -> Path:
        """Downloaded files, as their publishers name them."""
        return self.root / "data" / "archives"

    @property
    def contents(self) -> Path:
        """What is known of your own pictures and of files placed by hand: names, dates, hashes."""
        return self.data / "contents"

    def dataset(self, key: str) -> Path:
        """A prepared dataset's description. It is written last: if it exists, so do the arrays."""
        return self.data / key / "dataset.json"

    def noise(self, dataset: str, key: str) -> Path:
        """The description of noisy labels; the arguments are the keys of dataset and noise."""
        return self.data / dataset / "noise" / f"{key}.json"

    # What the pipeline makes: results ----------------------------------------------------------

    @property
    def results(self) -> Path:
        return self._made / "results"

    def snapshot(self, sha256: str) -> Path:
        """A copy of the parameters that jobs read, by the SHA-256 of its content."""
        return self.results / "params" / f"{sha256[:12]}.yaml"

    @property
    def records(self) -> Path:
        return self.results / "records"

    def record(self, cell: str) -> Path:
        """The record of a cell, by the cell's key."""
        return self.records / f"{cell}.json"

    @property
    def runs(self) -> Path:
        return self.results / "runs"

    def run(self, run: str) -> Path:
        """The record of one seed of a cell, by the run's key."""
        return self.runs / f"{run}.json"

    def weights(self, run: str) -> Path:
        return self.results / "weights" / f"{run}.pt"

    @property
    def shared(self) -> Path:
        """A copy of records and weights for DVC, which may delete what it does not know."""
        return self.results / "shared"

    @property
    def checkpoints(self) -> Path:
        return self.results / "checkpoints"

    def lock(self, key: str) -> Path:
        """Held by the process that trains a run, or writes the record of a cell, with this key."""
        return self.checkpoints / f".{key}.lock"

    @property
    def summaries(self) -> Path:
        """Holds one file: the summary of the study that was summarised last."""
        return self.results / "summary"

    @property
    def metrics(self) -> Path:
        return self.results / "metrics"

    @property
    def curves(self) -> Path:
        return self.results / "curves.csv"

    def claims(self, committed: bool) -> Path:
        """The judged claims: from committed records alone, or from those made here too."""
        return self.results / f"claims{_origin(committed)}.json"

    def summary(self, key: str, committed: bool) -> Path:
        """The summary of a study, by its name and digest."""
        return self.summaries / f"{key}{_origin(committed)}.json"

    @property
    def logs(self) -> Path:
        return self._made / "logs"

    def log(self, key: str) -> Path:
        """What a job printed that trained a run, or all runs of a cell, with this key."""
        return self.trainings / f"{key}.log"

    def events(self, run: str) -> Path:
        """What happened in the training of a run: one JSON object in each line."""
        return self.trainings / f"{run}.jsonl"

    @property
    def trainings(self) -> Path:
        """Holds the logs and events of trainings."""
        return self.logs / "train"

    # What is committed -------------------------------------------------------------------------

    @property
    def paper(self) -> Path:
        return self.root / "paper"

    @property
    def templates(self) -> Path:
        return self.paper / "templates"

    @property
    def committed(self) -> Path:
        """The results in git; STUDY/records holds the records of a study."""
        return self.paper / "results"

    def committed_records(self, study: str) -> Path:
        return self.committed / study / "records"

    @property
    def measurements(self) -> Path:
        """Measured speeds. They are committed, since another machine would give others."""
        return self.committed / "bench"

    @property
    def schema(self) -> Path:
        return self.root / "workflow" / "schemas" / "params.schema.json"

    @property
    def build(self) -> Path:
        """Tables, figures, paper and report."""
        return self._made / "paper" / "build"

    @property
    def texts(self) -> list[Path]:
        """The texts of the paper that its templates give and main.tex reads."""
        names = ("numbers", "abstract", "results", "discussion", "appendix")
        return [self.build / f"{name}.tex" for name in names]

    def relative(self, path: Path) -> str:
        """A path as it is written into files: from the root (or `scratch`), with slashes."""
        base = self._made if path.is_relative_to(self._made) else self.root
        return path.relative_to(base).as_posix()

    @property
    def _made(self) -> Path:
        """The folder of what the pipeline makes."""
        return self.root if self.scratch is None else self.scratch


def _origin(committed: bool) -> str:
    return "-committed" if committed else ""
