"""The provenance of a study as an RO-Crate: a folder that archives can read.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1): the records, the parameters, the report and, if it was
typeset, the paper. For each record it names the action that made it, with its software and data.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from imcl.analysis.summary import Summary
from imcl.present.documents import Documents
from imcl.project import PARAMS, Project

LICENCE = "https://spdx.org/licenses/MIT"


def write(project: Project, documents: Documents, files: Iterable[Path]) -> Path:
    """Write paper/build/crate/ anew.

    Args:
        project: holds the parameters and the records.
        documents: of the study.
        files: of the report; those that exist are copied.

    Returns:
        ro-crate-metadata.json, which is written last.
    """
    summary = documents.summary
    crate = ROCrate()
    crate.name = f"imcl, study {summary['study']}"
    crate.description = (
        "Records of a reproduction of Fang and Lin, Intra-Model Collaborative Learning of Neural "
        f"Networks (arXiv 2105.09590): study {summary['study']}, digest {summary['digest']}."
    )
    crate.root_dataset["identifier"] = summary["digest"]
    crate.license = LICENCE
    software, data = _add_software(crate, summary), _add_data(crate, summary)
    choices = {"name": "every choice of the study"}
    parameters = crate.add_file(project.params, PARAMS, properties=choices)
    for row in summary["cells"]:
        path = project.root / row["record"]["path"]
        record = crate.add_file(
            path,
            f"records/{path.name}",
            properties={
                "name": row["cell"],
                "encodingFormat": "application/json",
                "sha256": row["record"]["sha256"],
            },
        )
        codes = [software[commit or "unknown"] for commit in dict.fromkeys(row["commits"])]
        used = [data[row["dataset"]], data.get(f"{row['dataset']} {row['noise']}")]
        crate.add_action(
            codes if len(codes) > 1 else codes[0],
            identifier=f"#train-{row['key']}",
            object=[parameters, *filter(None, used)],
            result=record,
            properties={"name": f"train and evaluate {row['cell']}"},
        )
    for path in files:
        if path.exists():
            crate.add_file(path, properties={"name": path.stem})
    folder = project.build / "crate"
    shutil.rmtree(folder, ignore_errors=True)
    crate.write(folder)
    return folder / "ro-crate-metadata.json"


def _add_software(crate: ROCrate, summary: Summary) -> dict[str, ContextEntity]:
    """The versions of the code that trained the study, by commit."""
    software = {}
    for code in summary["code"]:
        commit = code["commit"] or "unknown"
        properties = {
            "@type": "SoftwareApplication",
            "name": "imcl",
            "version": code["version"],
            "softwareVersion": f"commit {commit}{' modified' if code['modified'] else ''}",
        }
        software[commit] = crate.add(ContextEntity(crate, f"#imcl-{commit}", properties))
    return software


def _add_data(crate: ROCrate, summary: Summary) -> dict[str, ContextEntity]:
    """The datasets by name, and the noisy labels by `DATASET NOISE`."""
    data = {}
    for name, hashes in summary["hashes"].items():
        kind, label = ("data", name) if name in summary["data"] else ("labels", f"labels {name}")
        listed = [f"sha256:{digest}" for digest in hashes]
        properties = {
            "@type": "Dataset",
            "name": label,
            "identifier": listed if len(listed) > 1 else listed[0],
        }
        identifier = f"#{kind}-{name.replace(' ', '-')}"
        data[name] = crate.add(ContextEntity(crate, identifier, properties))
    return data
