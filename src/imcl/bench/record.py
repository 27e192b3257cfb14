"""The record of a measurement: its rows and where they were taken."""

from pathlib import Path

import torch

from imcl import experiment, machine
from imcl.files import sealed, write_json
from imcl.report import BENCHES


def write(name: str, settings: dict, rows: list[dict], device: torch.device) -> Path:
    """Write the rows with code, machine and settings to the records; return the file."""
    path = BENCHES / f"{name}-{device.type}.json"
    record = {
        "bench": name,
        "settings": settings,
        "code": experiment.code(),
        "environment": machine.environment(device, settings.get("threads", 1)),
        "rows": rows,
    }
    write_json(path, sealed(record))
    return path
