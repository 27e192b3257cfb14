"""Writes what a search chose into params.yaml, and leaves the rest of the file as it is."""

import io
from collections.abc import Mapping

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from imcl.errors import ImclError
from imcl.files import read_bytes, write_text
from imcl.project import Project
from imcl.study.load import load
from imcl.study.settings import Choice, Settings
from imcl.study.snapshot import Snapshot

LONGEST_LINE = 10_000  # so that no line of the file is broken anew


def write(project: Project, settings: Settings, chosen: Mapping[str, Choice]) -> None:
    """Replace `chosen` of the chosen study in params.yaml; comments and layout stay.

    Args:
        project: whose params.yaml is written.
        settings: as that file has them now.
        chosen: by cell.

    Raises:
        ImclError: something else in the file would change with it, or the disk is full.
    """
    text = _replaced(read_bytes(project.params).decode(), settings.study, chosen)
    copy = Snapshot.holding(project, text.encode()).write()
    plan = settings.chosen_study.model_copy(update={"chosen": dict(chosen)})
    wanted = settings.model_copy(update={"studies": {**settings.studies, settings.study: plan}})
    if _dumped(load(copy.params, settings.study)) != _dumped(wanted):
        raise ImclError(
            f"{project.params}: nothing is written, since other studies would change with "
            f"studies.{settings.study}, which shares its lines with them; write its entries out, "
            "without an anchor, and run this again"
        )
    write_text(project.params, text)


def _dumped(settings: Settings) -> object:
    return settings.model_dump(exclude_unset=True)


def _replaced(params: str, study: str, chosen: Mapping[str, Choice]) -> str:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = LONGEST_LINE
    yaml.indent(mapping=2, sequence=4, offset=2)
    read = yaml.load(params)
    plan = read["studies"][study]
    if "chosen" not in plan:  # the comments between two studies belong to the last key
        plan.insert(max(len(plan) - 1, 0), "chosen", CommentedMap())
    entries = plan["chosen"]
    for cell in entries.keys() - chosen.keys():
        del entries[cell]
    for cell, choice in chosen.items():
        options = CommentedMap(choice.options.model_dump(exclude_unset=True))
        options.fa.set_flow_style()
        entry = entries.setdefault(cell, CommentedMap())
        entry["options"], entry["reason"] = options, choice.reason
    text = io.StringIO()
    yaml.dump(read, text)
    return text.getvalue()
