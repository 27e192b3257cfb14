"""What documents are made from."""

from dataclasses import dataclass

from imcl.analysis import claims, summary
from imcl.analysis.claims import JudgedClaim
from imcl.analysis.summary import Summary
from imcl.project import Project
from imcl.records.record import Measurement
from imcl.records.store import Store
from imcl.study.settings import Settings


@dataclass(frozen=True)
class Documents:
    """A study's summary, the judged claims, and the measurements.

    `measurements` are the committed ones by path, relative to the project's root.
    """

    summary: Summary
    claims: list[JudgedClaim]
    measurements: dict[str, Measurement]

    @classmethod
    def read(cls, project: Project) -> "Documents":
        """The summary that was written last, with the claims that belong to it.

        Raises:
            ImclError: a file is missing or damaged.
        """
        made = summary.read(project)
        return cls(
            made,
            claims.read(project, made["committed"]),
            _measurements(project),
        )

    @classmethod
    def compute(cls, project: Project, settings: Settings, committed: bool = False) -> "Documents":
        """All of them anew from the records, in memory.

        Args:
            project: whose records are read.
            settings: of the chosen study, which may lack records of some cells.
            committed: use committed records alone. Otherwise a record made here comes before the
                committed one.

        Raises:
            ImclError: the study has no records, or one is damaged.
        """
        return cls(
            summary.build(project, settings, committed, partial=True),
            claims.judge(project, settings, committed),
            _measurements(project),
        )


def _measurements(project: Project) -> dict[str, Measurement]:
    found = Store(project).measurements()
    return {project.relative(path): measurement for path, measurement in found.items()}
