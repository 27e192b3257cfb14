"""Cells of the study `quick`, in a project made by the fixture `micro`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from imcl.project import Project
from imcl.study import grid
from imcl.study.load import load
from imcl.training import worker
from imcl.training.checkpoint import Checkpoints, SeedState
from imcl.training.worker import RunOptions

EVERY_STEP = RunOptions("cpu", checkpoint_share=1e9)  # allows a checkpoint at each step
STEPS = 5  # of an epoch


def cell(
    project: Project,
    name: str,
    *,
    training: Mapping[str, Any] | None = None,
    file: Mapping[str, Any] | None = None,
    **study: Any,
) -> grid.Cell:
    """A cell by its name, after changes to the project's params.yaml.

    Args:
        project: whose parameters are changed.
        name: DATASET-NOISE-BACKBONE-METHOD.
        training: entries of the study's training.
        file: entries of the file, such as `ways`, merged into its own.
        study: entries of the study.
    """
    raw = yaml.safe_load(project.params.read_text())
    study = {"methods": [name.split("-")[3]], "training": training or {}, **study}
    _merge(raw, {"studies": {"quick": study}, **(file or {})})
    project.params.write_text(yaml.safe_dump(raw, sort_keys=False))
    return grid.find(load(project.params), name)


def forget(project: Project, cell: grid.Cell) -> None:
    """Delete the record of a cell and the files of its runs, so that it is trained again."""
    project.record(cell.key).unlink(missing_ok=True)
    for run in cell.runs:
        project.run(run.run_key).unlink(missing_ok=True)


def weights(project: Project, cell: grid.Cell, seed: int) -> Path:
    """Where the weights of a seed are."""
    return project.weights(cell.of_seed(seed).run_key)


class Killed(BaseException):
    """As SIGKILL is to a process: nothing catches it."""


def train_and_kill(
    project: Project, cell: grid.Cell, steps: int = STEPS, options: RunOptions = EVERY_STEP
) -> None:
    """Let a run end, as if by SIGKILL, after so many steps, each of which is saved."""
    save, count = Checkpoints.save, 0

    def counted(self: Checkpoints, state: Callable[[], SeedState]) -> bool:
        nonlocal count
        count += 1
        assert save(self, state)
        if count == steps:
            raise Killed
        return True

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Checkpoints, "save", counted)
        worker.train(project, cell, options)


def _merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
