"""Real CIFAR pictures through the whole line, from archives on a loopback server."""

import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not (SHARED / "data/cifar10").exists(),
        reason=f"the pictures are not at {os.path.relpath(SHARED, ROOT)}",
    ),
]

STUDY = {
    "datasets": ["cifar10_5k"],
    "noise": ["clean"],
    "backbones": ["resnet18"],
    "methods": ["base"],
    "seeds": [1],
    "width": 16,
    "training": {
        "epochs": 6,
        "batch_size": 64,
        "warmup_epochs": 2,
        "precision": "bf16",
        "evaluate_every": 6,
    },
}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """The official archive's name and format, on a real server; its address and checksums."""
    folder = tmp_path_factory.mktemp("mirror")
    command = [
        sys.executable,
        str(SHARED / "tools/make_mirror.py"),
        str(folder),
        "cifar10",
        "cifar100",
    ]
    subprocess.run(command, check=True, capture_output=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "IMCL_MIRROR": f"http://127.0.0.1:{server.server_port}",
            "IMCL_SHA256SUMS": str(folder / "SHA256SUMS"),
        }
        server.shutdown()


def test_a_mirror_without_a_trusted_list_is_refused(project, mirror):
    output = project.run("imcl", "fetch", "cifar10", code=1, IMCL_MIRROR=mirror["IMCL_MIRROR"])
    assert "name its checksum list with IMCL_SHA256SUMS" in output
    assert not list((project.folder / "data/archives").iterdir())


def test_the_whole_line_on_5000_real_pictures(project, mirror):
    project.change(study="real", studies__real=STUDY)
    project.snakemake(**mirror)
    (record,) = (project.folder / "results/records").glob("cifar10_5k-*.json")
    run = json.loads(record.read_text())["runs"][0]
    assert run["final"]["accuracy"] > 0.45
    assert (project.folder / "paper/build/tables/accuracy-cifar10_5k.md").exists()


def test_the_archive_is_read_as_published(project, mirror):
    project.run("imcl", "prepare", "cifar10", **mirror)
    (folder,) = (project.folder / "data").glob("cifar10-*")
    made = json.loads((folder / "dataset.json").read_text())
    assert (made["n_train"], made["n_test"], made["shape"]) == (50_000, 10_000, [32, 32, 3])
    assert [round(m, 4) for m in made["mean"]] == [0.4914, 0.4822, 0.4465]
    assert [round(s, 4) for s in made["std"]] == [0.2470, 0.2435, 0.2616]
    labels = np.load(folder / "train_labels.npy")
    assert labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert np.bincount(labels).tolist() == [5000] * 10


def test_the_subset_is_stratified_and_in_order(project):
    (whole,) = (project.folder / "data").glob("cifar10-*")
    (part,) = (project.folder / "data").glob("cifar10_5k-*")
    labels = np.load(part / "train_labels.npy")
    assert np.bincount(labels).tolist() == [500] * 10
    images = np.load(whole / "train_images.npy", mmap_mode="r")
    subset = np.load(part / "train_images.npy", mmap_mode="r")
    places = [i for i in range(2000) if (images[i] == subset[0]).all()]
    assert len(places) == 1
    assert labels[0] == np.load(whole / "train_labels.npy")[places[0]]


def test_cifar100_has_its_superclasses(project, mirror):
    project.run("imcl", "fetch", "cifar100", **mirror)
    project.run("imcl", "prepare", "cifar100", **mirror)
    (folder,) = (project.folder / "data").glob("cifar100-*")
    made = json.loads((folder / "dataset.json").read_text())
    assert (made["n_train"], made["n_test"], made["shape"]) == (50_000, 10_000, [32, 32, 3])
    published = json.loads((SHARED / "data/cifar100/index.json").read_text())
    assert made["class_names"] == published["classes"]
    assert made["superclasses"] == published["fine_to_coarse"]
    of = dict(zip(made["class_names"], made["superclasses"], strict=True))
    assert of["maple_tree"] == of["oak_tree"] != of["apple"] == of["pear"]
    project.run("imcl", "noise", "cifar100", "asym40")
    (noise,) = (folder / "noise").glob("asym40-*.json")
    made = json.loads(noise.read_text())
    assert made["realised_rate"] == 0.4
    for source, row in enumerate(made["transition_matrix"]):
        targets = [c for c, share in enumerate(row) if share and c != source]
        assert [published["fine_to_coarse"][c] for c in targets] == [
            published["fine_to_coarse"][source]
        ]
