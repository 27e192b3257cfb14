"""What the pipeline itself costs: a study's wall time beside its cells' own training time."""

from imcl import grid
from imcl.bench.project import project
from imcl.files import read_json
from imcl.progress import Progress


def rows(params: dict, cores: int) -> list[dict]:
    """One row: the chosen study from nothing to its paper, and once more with nothing to do.

    `overhead_ratio` is the wall time over the cells' own time (training and evaluation, as their
    records state it) shared by the cores; 1 would be a pipeline that costs nothing.
    """
    cells = grid.cells(params)
    with project(params) as made, Progress("pipeline", 2, "runs") as progress:
        wall = made.snakemake(cores)
        progress.advance(note=f"study {params['study']} in {wall:.0f} s")
        nothing = made.snakemake(cores)
        progress.advance(note=f"nothing to do in {nothing:.1f} s")
        records = [read_json(made.folder / cell.record, ("cost",)) for cell in cells]
    own = sum(
        cost["training_seconds"] + cost["evaluation_seconds"]
        for record in records
        for cost in record["cost"]
    )
    return [
        {
            "study": params["study"],
            "cells": len(cells),
            "networks": sum(len(record["cost"]) for record in records),
            "cores": cores,
            "wall_seconds": wall,
            "own_seconds": own,
            "overhead_ratio": wall * cores / own,
            "nothing_to_do_seconds": nothing,
        }
    ]
