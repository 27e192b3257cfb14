"""What the pipeline itself costs: a study's wall time beside its cells' own training time."""

from imcl.bench.options import Pipeline, Row
from imcl.bench.workspace import workspace
from imcl.progress import Progress
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.settings import Settings


def rows(project: Project, settings: Settings, options: Pipeline) -> list[Row]:
    """One row: the chosen study from nothing to its paper, and once more with nothing to do.

    `overhead_ratio` is the wall time, times the cores, over the cells' own time (training and
    evaluation, as their records state it); 1 would be a pipeline that costs nothing.
    """
    cells, cores = grid.cells(settings), options.cores
    with workspace(project, settings) as made, Progress("pipeline", 2, "runs") as progress:
        wall = made.snakemake(cores)
        progress.advance(note=f"study {settings.study} in {wall:.0f} s")
        nothing = made.snakemake(cores)
        progress.advance(note=f"nothing to do in {nothing:.1f} s")
        store = Store(made.project)
        costs = [cost for cell in cells for cost in store.read(cell, store.path(cell))["cost"]]
    own = sum(cost["training_seconds"] + cost["evaluation_seconds"] for cost in costs)
    return [
        {
            "study": settings.study,
            "cells": len(cells),
            "networks": len(costs),
            "cores": cores,
            "wall_seconds": wall,
            "own_seconds": own,
            "overhead_ratio": wall * cores / own,
            "nothing_to_do_seconds": nothing,
        }
    ]
