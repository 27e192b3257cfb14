"""Real pictures of four datasets through the whole pipeline, from archives on a loopback server."""

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

from imcl.data.arrays import Arrays
from imcl.noise import instance

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
    "backbones": ["vgg16"],
    "methods": ["base"],
    "seeds": [1],
    "width": 8,
    "training": {
        "epochs": 6,
        "batch_size": 64,
        "warmup_epochs": 2,
        "evaluations": 1,
        "precision": "bf16",  # twice as fast
    },
}

OTHERS = {
    **STUDY,
    "datasets": ["cifar100_part", "stl10_fold", "imagenet32_part"],
    "width": 2,
    "training": {"epochs": 1, "batch_size": 64, "warmup_epochs": 0, "precision": "bf16"},
}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """The official archives' names and formats, on a real server; its address and checksums."""
    folder = tmp_path_factory.mktemp("mirror")
    command = [sys.executable, str(SHARED / "tools/make_mirror.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    human = SHARED / "data/cifar10n/CIFAR-10_human.pt"  # not in the list: its checksum is official
    (folder / human.name).symlink_to(human)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "IMCL_MIRROR": f"http://127.0.0.1:{server.server_port}",
            "IMCL_SHA256SUMS": str(folder / "SHA256SUMS"),
        }
        server.shutdown()


def test_a_mirror_without_a_trusted_list_is_refused(checkout, mirror):
    output = checkout.run("imcl", "fetch", "cifar10", code=1, IMCL_MIRROR=mirror["IMCL_MIRROR"])
    assert "name its checksum list with IMCL_SHA256SUMS" in output
    left = [path.name for path in (checkout.folder / "data/archives").iterdir()]
    assert left == [".cifar-10-python.tar.gz.lock"]


def test_the_whole_pipeline_on_5000_real_pictures(checkout, mirror):
    checkout.change(study="real", studies__real=STUDY)
    checkout.snakemake(**mirror)
    (record,) = (checkout.folder / "results/records").glob("cifar10_5k-*.json")
    run = json.loads(record.read_text())["runs"][0]
    assert run["final"]["accuracy"] > 0.45
    assert (checkout.folder / "paper/build/tables/accuracy-cifar10_5k.md").exists()


def test_the_archive_is_read_as_published(checkout, mirror):
    checkout.run("imcl", "prepare", "cifar10", **mirror)
    (folder,) = (checkout.folder / "data").glob("cifar10-*")
    made = json.loads((folder / "dataset.json").read_text())
    assert (made["n_train"], made["n_test"], made["shape"]) == (50_000, 10_000, [32, 32, 3])
    assert [round(m, 4) for m in made["mean"]] == [0.4914, 0.4822, 0.4465]
    assert [round(s, 4) for s in made["std"]] == [0.2470, 0.2435, 0.2616]
    labels = np.load(folder / "train_labels.npy")
    assert labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert np.bincount(labels).tolist() == [5000] * 10


def test_the_subset_is_stratified_and_in_order(checkout):
    (whole,) = (checkout.folder / "data").glob("cifar10-*")
    (part,) = (checkout.folder / "data").glob("cifar10_5k-*")
    labels = np.load(part / "train_labels.npy")
    assert np.bincount(labels).tolist() == [500] * 10
    images = np.load(whole / "train_images.npy", mmap_mode="r")
    subset = np.load(part / "train_images.npy", mmap_mode="r")
    indices = [i for i in range(2000) if (images[i] == subset[0]).all()]
    assert len(indices) == 1
    assert labels[0] == np.load(whole / "train_labels.npy")[indices[0]]


def test_instance_noise_sends_most_flips_of_a_class_to_one_other_class(checkout):
    """As the code of Xia et al. does, which takes the pixels as they are: at a rate of 0.4 the
    largest share off the diagonal is 0.23 to 0.34 in the mean over the classes, by the draw. With
    normalised pixels it would be 0.10, little more than 0.4 / 9."""
    (folder,) = (checkout.folder / "data").glob("cifar10-*")
    images = np.load(folder / "train_images.npy", mmap_mode="r")[:5000]
    labels = np.load(folder / "train_labels.npy")[:5000]
    arrays = Arrays(images, labels, images, labels, tuple("0123456789"))
    for seed in range(3):
        noisy = instance.flip(arrays, 0.4, np.random.default_rng(seed))
        wrong = [np.bincount(noisy[(labels == c) & (noisy != labels)]).max() for c in range(10)]
        assert 0.23 < np.mean(wrong / np.bincount(labels)) < 0.34
        assert np.mean(noisy != labels) == pytest.approx(0.4, abs=0.02)


def test_human_labels_have_their_published_rates(checkout, mirror):
    checkout.run("imcl", "fetch", "human", **mirror)
    (folder,) = (checkout.folder / "data").glob("cifar10-*")
    found = {}
    for name in ("aggre", "random1", "random2", "random3", "worse"):
        checkout.run("imcl", "noise", "cifar10", name, **mirror)
        (noise,) = (folder / "noise").glob(f"{name}-*.json")
        found[name] = round(100 * json.loads(noise.read_text())["realised_rate"], 2)
    assert list(found.values()) == [9.01, 17.23, 18.12, 17.64, 40.21]


def test_the_other_three_train_through_the_pipeline(checkout, mirror):
    """Trains on a part of cifar100 and of imagenet32, whose archive is a sample itself."""
    datasets = checkout.params()["datasets"]
    for name in ("cifar100", "imagenet32"):
        whole = {**datasets[name], "train_size": 2000, "subset_seed": 0}
        checkout.change(**{f"datasets__{name}_part": whole})
    checkout.change(datasets__stl10_fold={**datasets["stl10"], "fold": 3}, studies__real=OTHERS)
    checkout.snakemake("records", **mirror)
    found = {
        path.stem.split("-")[0]: json.loads(path.read_text())
        for path in (checkout.folder / "results/records").glob("*.json")
    }
    for name, (n_train, n_test, shape) in {
        "cifar100_part": (2000, 10_000, [32, 32, 3]),
        "stl10_fold": (1000, 8000, [96, 96, 3]),
        "imagenet32_part": (2000, 5000, [32, 32, 3]),
    }.items():
        made = found[name]["dataset"]
        assert (made["n_train"], made["n_test"], made["shape"]) == (n_train, n_test, shape)
        assert 0 < found[name]["runs"][0]["final"]["accuracy"] < 1


def test_the_list_of_datasets_says_what_is_there(checkout, mirror):
    listed = {row["name"]: row for row in json.loads(checkout.run("imcl", "data", "--json"))}
    assert listed["cifar10"]["state"] == "prepared"
    assert (listed["cifar10"]["n_train"], listed["cifar10"]["n_test"]) == (50_000, 10_000)
    (folder,) = (checkout.folder / "data").glob("cifar10-*")
    assert (
        listed["cifar10"]["sha256"] == json.loads((folder / "dataset.json").read_text())["sha256"]
    )
    assert listed["stl10"] == {
        "name": "stl10",
        "source": "stl10",
        "state": "fetched",
        **dict.fromkeys(["n_train", "n_test", "mean", "std", "sha256"]),
        "missing": "`imcl prepare stl10`",
    }


def test_cifar100_has_its_superclasses(checkout, mirror):
    checkout.run("imcl", "prepare", "cifar100", **mirror)
    (folder,) = (checkout.folder / "data").glob("cifar100-*")
    made = json.loads((folder / "dataset.json").read_text())
    assert (made["n_train"], made["n_test"], made["shape"]) == (50_000, 10_000, [32, 32, 3])
    published = json.loads((SHARED / "data/cifar100/index.json").read_text())
    assert made["class_names"] == published["classes"]
    assert made["superclasses"] == published["fine_to_coarse"]
    of = dict(zip(made["class_names"], made["superclasses"], strict=True))
    assert of["maple_tree"] == of["oak_tree"] != of["apple"] == of["pear"]
    checkout.run("imcl", "noise", "cifar100", "asym40")
    (noise,) = (folder / "noise").glob("asym40-*.json")
    made = json.loads(noise.read_text())
    assert made["realised_rate"] == 0.4
    for source, row in enumerate(made["transition_matrix"]):
        targets = [c for c, share in enumerate(row) if share and c != source]
        assert [published["fine_to_coarse"][c] for c in targets] == [
            published["fine_to_coarse"][source]
        ]
