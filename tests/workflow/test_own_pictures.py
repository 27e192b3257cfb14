"""Both engines see that a picture of one's own has changed."""

import json

import pytest
from conftest import Checkout, planned
from PIL import Image

pytestmark = pytest.mark.workflow

OWN = {
    "datasets": ["mine"],
    "noise": ["clean"],
    "backbones": ["resnet18"],
    "methods": ["base"],
    "seeds": [1],
    "width": 4,
    "training": {"epochs": 1, "warmup_epochs": 0, "batch_size": 2},
}
MINE = {"source": "folder", "path": "pictures/mine", "side": 8, "padding": 0, "flip": False}


def picture(checkout: Checkout, name: str, grey: int) -> None:
    path = checkout.folder / "pictures/mine" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)


def test_a_new_picture_is_seen_by_snakemake_and_by_dvc(checkout):
    for split in ("train", "test"):
        for grey, name in enumerate(("dark", "light")):
            picture(checkout, f"{split}/{name}/a.png", 100 * grey)
    checkout.change(study="own", studies__own=OWN, datasets__mine=MINE)
    before = json.loads(checkout.run("imcl", "data", "--contents"))
    (row,) = json.loads(checkout.run("imcl", "plan", "--json"))
    record = checkout.folder / f"results/records/{row['cell']}-{row['digest']}.json"
    record.parent.mkdir(parents=True)
    record.touch()  # Snakemake knows it by its name
    assert planned(checkout.snakemake("records", "--dry-run")) == {}

    picture(checkout, "train/dark/b.png", 7)

    assert planned(checkout.snakemake("records", "--dry-run")) == {"base": 1}
    checkout.run("dvc", "repro", "contents")
    after = json.loads((checkout.folder / "results/contents.json").read_text())
    assert before.keys() == after.keys() == {"datasets.mine"}
    assert before != after
