"""The provenance of a study as an RO-Crate: a folder that archives can read.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1): the records, the parameters, the report and, if it was
typeset, the paper; and for each record the action that made it, with its software and data.
"""

import shutil
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from imcl.report import BUILD

PATH = BUILD / "crate"
LICENCE = "https://spdx.org/licenses/MIT"


def write(summary: dict, params: Path, files: list[Path]) -> Path:
    """Write paper/build/crate/ anew, ro-crate-metadata.json last.

    Args:
        summary: of the study.
        params: params.yaml.
        files: of the report; those that are there are taken.
    """
    crate = ROCrate()
    study, digest = summary["study"], summary["digest"]
    crate.name = f"imcl, study {study}"
    crate.description = (
        "Records of a reproduction of Fang and Lin, Intra-Model Collaborative Learning of Neural "
        f"Networks (arXiv 2105.09590): study {study}, digest {digest}."
    )
    crate.root_dataset["identifier"] = digest
    crate.license = LICENCE
    software = {}
    for code in summary["code"]:
        commit = code["commit"] or "unknown"
        software[commit] = crate.add(
            ContextEntity(
                crate,
                f"#imcl-{commit}",
                {
                    "@type": "SoftwareApplication",
                    "name": "imcl",
                    "version": code["version"],
                    "softwareVersion": f"commit {commit}" + (" modified" * bool(code["modified"])),
                },
            )
        )
    data = {}
    for name, dataset in summary["data"].items():
        properties = {"@type": "Dataset", "name": name, "identifier": f"sha256:{dataset['sha256']}"}
        data[name] = crate.add(ContextEntity(crate, f"#data-{name}", properties))
    for name, noise in summary["noise"].items():
        properties = {
            "@type": "Dataset",
            "name": f"labels {name}",
            "identifier": f"sha256:{noise['sha256']}",
        }
        place = name.replace(" ", "-")
        data[name] = crate.add(ContextEntity(crate, f"#labels-{place}", properties))
    configuration = crate.add_file(params, properties={"name": "every choice of the study"})
    for row in summary["cells"]:
        path = Path(row["record"]["path"])
        record = crate.add_file(
            path,
            f"records/{path.name}",
            properties={
                "name": row["cell"],
                "encodingFormat": "application/json",
                "sha256": row["record"]["sha256"],
            },
        )
        used = [data[row["dataset"]], data.get(f"{row['dataset']} {row['noise']}")]
        crate.add_action(
            software[row["commit"] or "unknown"],
            identifier=f"#train-{row['key']}",
            object=[configuration, *filter(None, used)],
            result=record,
            properties={"name": f"train and evaluate {row['cell']}"},
        )
    for path in files:
        if path.exists():
            crate.add_file(path, properties={"name": path.stem})
    shutil.rmtree(PATH, ignore_errors=True)
    crate.write(PATH)
    return PATH / "ro-crate-metadata.json"
