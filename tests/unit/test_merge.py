"""`imcl merge` and `imcl share`: what is taken from other machines, what is refused and how."""

import copy
import errno
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from handmade import ROOT, parameters, record, write

from imcl.cli import main
from imcl.data import prepare
from imcl.errors import ImclError
from imcl.files import json_text, locked, sha256, write_bytes, write_json
from imcl.project import Project
from imcl.records import candidates as candidates_module
from imcl.records.candidates import candidates
from imcl.records.seal import sealed
from imcl.records.share import share
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.load import checked


def small() -> dict[str, Any]:
    """Parameters with one study: two cells with clean labels and two with noisy ones."""
    raw = parameters()
    raw["studies"] = {"quick": {**raw["studies"]["quick"], "backbones": ["vgg16"]}}
    raw["studies"]["quick"]["methods"] = ["base", "kernel"]
    return raw


@pytest.fixture(scope="module")
def cells() -> list[grid.Cell]:
    return grid.cells(checked(small(), ROOT / "params.yaml"))


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "here").mkdir()
    made = Project(tmp_path / "here")
    made.params.write_text(yaml.safe_dump(small()), encoding="utf-8")
    return made


@pytest.fixture
def other(tmp_path) -> Project:
    (tmp_path / "there").mkdir()
    return Project(tmp_path / "there")


@pytest.fixture
def imcl(project, capsys) -> Callable[..., tuple[int, list[str], str]]:
    """Merges into the project: exit code, lines of output, and error."""

    def run(source: Path) -> tuple[int, list[str], str]:
        code = main(["--project", str(project.root), "merge", str(source)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def good(cell: grid.Cell) -> Any:
    """A record that does not contradict itself."""
    made: Any = copy.deepcopy(record(cell, [0.75] * len(cell.seeds)))
    for run in made["runs"]:
        (last,) = run["history"]
        earlier = {**last, "evaluation": {**last["evaluation"], "accuracy": 0.5}}
        epochs = range(1, cell.training.epochs)
        run["history"] = [{**earlier, "epoch": epoch} for epoch in epochs]
        run["history"] += [{**last, "epoch": cell.training.epochs}]
        run["oracle"] = {**last["evaluation"], "epoch": cell.training.epochs}
    return sealed(made)


def change(path: Path, edit: Callable[[Any], object]) -> None:
    """Change a record and seal it anew."""
    content = json.loads(path.read_text())
    edit(content)
    write_json(path, sealed(content))


def here(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.records.glob("*")}


# taken ------------------------------------------------------------------------------------------


def test_the_records_of_a_project_are_taken_as_they_are(imcl, project, other, cells):
    paths = [write(other, cell, good(cell)) for cell in cells]
    code, out, err = imcl(other.root)
    assert (code, err) == (0, "")
    assert sorted(out[:-1]) == sorted(f"taken    {project.record(cell.key)}" for cell in cells)
    assert out[-1] == "4 taken, 0 were here, 0 refused"
    assert here(project) == {path.name: path.read_bytes() for path in paths}
    assert all(Store(project).faults(cell, project.record(cell.key)) == [] for cell in cells)


def test_what_is_here_already_is_told_and_left(imcl, project, other, cells):
    for cell in cells[:2]:
        write(other, cell, good(cell))
    mine = write(project, cells[0], good(cells[0]))
    before = mine.stat()
    assert imcl(other.root)[1][-1] == "1 taken, 1 were here, 0 refused"
    assert (mine.stat().st_mtime_ns, mine.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert imcl(other.root)[1][-1] == "0 taken, 2 were here, 0 refused"
    assert imcl(project.root)[1][-1] == "0 taken, 2 were here, 0 refused"


def test_the_content_decides_not_the_name_of_the_file(imcl, project, other, cells):
    path = write(other, cells[0], good(cells[0]))
    path.rename(other.root / "a copy (1).json")
    path.parent.rmdir()
    (other.root / "a folder.json").mkdir()
    assert imcl(other.root)[0] == 0
    assert [*here(project)] == [f"{cells[0].key}.json"]


def test_committed_records_are_taken_by_their_study(imcl, project):
    shutil.copy(ROOT / "params.yaml", project.params)
    code, out, _ = imcl(ROOT / "paper/results/every")
    assert code == 0
    assert out[-1] == "44 taken, 0 were here, 0 refused"


def tar(mode: str) -> Callable[[Path, Path], None]:
    def pack(folder: Path, archive: Path) -> None:
        with tarfile.open(archive, mode) as file:
            file.add(folder, "project")

    return pack


def as_zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))


PACKERS = {"tar": tar("w"), "tar.gz": tar("w:gz"), "tar.xz": tar("w:xz"), "zip": as_zip}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("place", ["results/records", "records", "."])
def test_an_archive_is_read_as_its_folder(imcl, project, other, cells, kind, place, tmp_path):
    if place == "results/records":  # of an archive of a project these count alone
        write(other, cells[1], good(cells[1]), study="quick")
        (other.root / "params.json").write_text("{}")
        (other.results / "summary").mkdir(parents=True)
        (other.results / "summary/quick-0123456789ab.json").write_text("{}")
    path = write(other, cells[0], good(cells[0]))
    (other.root / place).mkdir(exist_ok=True)
    path = path.rename(other.root / place / path.name)
    archive = tmp_path / "an archive"
    PACKERS[kind](other.root, archive)
    assert imcl(archive)[:2] == (
        0,
        [f"taken    {project.record(cells[0].key)}", "1 taken, 0 were here, 0 refused"],
    )
    assert here(project) == {path.name: path.read_bytes()}


def run_of(cell: grid.Cell, seed: int) -> Any:
    """A record of one seed that does not contradict itself."""
    whole, run = good(cell), cell.of_seed(seed)
    parts = {key: [p for p in whole[key] if p["seed"] == seed] for key in ("runs", "cost")}
    return sealed({**whole, **parts, "digest": run.digest, "config": run.config})


@pytest.mark.parametrize("kind", ["folder", *PACKERS])
def test_seeds_of_a_cell_from_several_machines_are_taken_one_by_one(
    imcl, project, other, cells, kind, tmp_path
):
    for run in cells[0].runs:
        write_json(other.run(run.run_key), run_of(cells[0], run.seeds[0]))
    source = other.root if kind == "folder" else tmp_path / "an archive"
    if kind != "folder":
        PACKERS[kind](other.root, source)
    assert imcl(source)[:2] == (
        0,
        [
            *(f"taken    {project.run(run.run_key)}" for run in cells[0].runs),
            "2 taken, 0 were here, 0 refused",
        ],
    )
    assert {path.name for path in project.runs.iterdir()} == {
        f"{run.run_key}.json" for run in cells[0].runs
    }
    assert not project.records.exists()
    assert [run["seed"] for run in Store(project).collected(cells[0])["runs"]] == [1, 2]


def test_a_cell_of_one_seed_and_its_run_are_told_apart_by_their_folder(imcl, project, other):
    raw = small()
    raw["studies"]["quick"]["seeds"] = [1]
    project.params.write_text(yaml.safe_dump(raw), encoding="utf-8")
    cell = grid.cells(checked(raw, project.params))[0]
    assert cell.key == cell.runs[0].key
    made = run_of(cell, 1)
    write_json(other.run(cell.run_key), made)
    assert imcl(other.root)[0] == 0
    assert not project.records.exists()
    write(other, cell, made)
    assert imcl(other.root)[1][-1] == "1 taken, 1 were here, 0 refused"
    assert project.record(cell.key).read_bytes() == project.run(cell.run_key).read_bytes()


# refused ----------------------------------------------------------------------------------------


def refusal(imcl: Callable[..., tuple[int, list[str], str]], source: Path) -> str:
    """Why the only file of a source is refused."""
    code, out, err = imcl(source)
    assert code == 1
    assert err == f"imcl merge: {source}: refused 1 of 1 files\n"
    (line, _) = out
    assert line.startswith(f"refused  {source}")
    return line


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:1000]), "is damaged: line "),
    "edited": (lambda p: p.write_text(p.read_text().replace("0.75", "0.76")), "its seal is broken"),
    "respelled": (lambda p: p.write_text(p.read_text().replace("0.75", "7.5e-1")), "not the text"),
    "not a record": (lambda p: p.write_text("{}"), "has no seal"),
    "contradicts itself": (
        lambda p: change(p, lambda r: r["runs"][0]["final"].update(accuracy=0.9)),
        "seed 1: final accuracy is not that of the last epoch",
    ),
    "another digest": (
        lambda p: change(p, lambda r: r["config"].update(views=3)),
        "digest is not that of its config",
    ),
    "a seed less": (lambda p: change(p, lambda r: r["runs"].pop()), "runs are not of the seeds"),
    "too large": (
        lambda p: p.write_bytes(p.read_bytes() + b" " * candidates_module.MOST_BYTES),
        "no record has 64",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_is_refused_with_the_place(imcl, project, other, cells, kind):
    path = write(other, cells[0], good(cells[0]))
    edit, reason = DAMAGE[kind]
    edit(path)
    line = refusal(imcl, other.root)
    assert line.startswith(f"refused  {path}: ")
    assert reason in line
    assert "; " in line  # what to do
    assert not project.records.exists()


def test_the_good_records_are_taken_beside_a_damaged_one(imcl, project, other, cells):
    for cell in cells[:3]:
        write(other, cell, good(cell))
    other.record(cells[1].key).write_text("{")
    code, out, err = imcl(other.root)
    assert (code, out[-1]) == (1, "2 taken, 0 were here, 1 refused")
    assert err.endswith("refused 1 of 3 files\n")
    assert {*here(project)} == {f"{cells[0].key}.json", f"{cells[2].key}.json"}


def test_nothing_here_is_replaced(imcl, project, other, cells):
    made = good(cells[0])
    write(other, cells[0], {**made, "cost": [{**c, "training_seconds": 9.0} for c in made["cost"]]})
    mine = write(project, cells[0], made)
    before = mine.read_bytes()
    assert f"{mine} has other content; keep it, or delete it" in refusal(imcl, other.root)
    assert mine.read_bytes() == before
    mine.unlink()
    mine.symlink_to("nowhere")
    assert f"{mine} has other content" in refusal(imcl, other.root)
    assert os.readlink(mine) == "nowhere"


def test_a_cell_that_is_being_made_here_is_left_alone(imcl, project, other, cells):
    write(other, cells[0], good(cells[0]))
    with locked(project.lock(cells[0].key)):
        assert "is being made here; merge again when" in refusal(imcl, other.root)
    assert imcl(other.root)[0] == 0


def test_a_cell_that_no_study_has_is_refused(imcl, project, other, cells):
    made = good(cells[0])
    made["config"]["dataset"]["name"] = "other"
    made |= {"cell": "other-clean-vgg16-base", "digest": grid.digest(made["config"])}
    write_json(other.root / "x.json", sealed(made))
    line = refusal(imcl, other.root)
    assert f"no study in {project.params} has the cell other-clean-vgg16-base; add" in line
    assert not project.records.exists()


def test_a_cell_with_other_settings_is_refused_with_what_differs(imcl, project, other, cells):
    made = good(cells[0])
    made["config"]["training"] |= {"epochs": 15}
    made["digest"] = grid.digest(made["config"])
    write_json(other.root / "x.json", sealed(made))
    line = refusal(imcl, other.root)
    assert "(training.epochs 15 -> 14); use the params.yaml that it was made with" in line


def test_pictures_that_are_not_here_are_asked_for(imcl, project, other, cells):
    mine = {"source": "folder", "path": "pictures", "side": 8, "padding": 1, "flip": False}
    raw = small()
    raw["datasets"]["digits"] = mine
    project.params.write_text(yaml.safe_dump(raw), encoding="utf-8")
    write(other, cells[0], good(cells[0]))
    assert "its pictures are not here: bring them" in refusal(imcl, other.root)


def test_other_data_than_that_of_a_record_here_is_refused(imcl, project, other, cells):
    clean, noisy = next(c for c in cells if not c.noise), next(c for c in cells if c.noise)
    mine = write(project, clean, good(clean))
    made = good(noisy)
    made["dataset"] = {**made["dataset"], "sha256": "cd" * 32}
    write(other, noisy, made)
    assert f"other data (dataset digits) than {mine}; make both from" in refusal(imcl, other.root)
    mine.unlink()
    assert imcl(other.root)[0] == 0


def test_other_labels_than_those_of_a_record_just_taken_are_refused(imcl, project, other, cells):
    noisy = [cell for cell in cells if cell.noise][:2]
    for number, cell in enumerate(noisy):
        made = good(cell)
        made["noise"] = {**made["noise"], "sha256": f"{number}d" * 32}
        write(other, cell, made)
    code, out, _ = imcl(other.root)
    assert (code, out[-1]) == (1, "1 taken, 0 were here, 1 refused")
    (taken,) = project.records.iterdir()
    assert f"was made from other data (noise digits n50) than {taken}" in "\n".join(out)


def test_other_data_than_is_prepared_is_refused(imcl, project, other, cells):
    prepare.prepare(project, cells[0].dataset)
    write(other, cells[0], good(cells[0]))
    expected = f"(dataset digits) than {project.dataset(cells[0].dataset.key)}"
    assert expected in refusal(imcl, other.root)


def test_other_weights_than_are_here_are_refused(imcl, project, other, cells):
    weights = project.weights(cells[0].runs[0].run_key)
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"others")
    write(other, cells[0], good(cells[0]))
    assert f"{weights} differs from the recorded weights; leave" in refusal(imcl, other.root)


def test_a_damaged_record_here_is_named_before_anything_is_taken(imcl, project, other, cells):
    write(other, cells[0], good(cells[0]))
    mine = write(project, cells[1], good(cells[1]))
    mine.write_text("{")
    code, out, err = imcl(other.root)
    assert (code, out) == (1, [])
    assert err.startswith(f"imcl merge: {mine}: is damaged: ")


def test_a_seed_that_no_study_plans_is_refused(imcl, other, cells):
    run = cells[0].of_seed(7)
    made = run_of(cells[0], 1)
    made["runs"][0]["seed"] = made["cost"][0]["seed"] = 7
    made |= {"config": run.config, "digest": run.digest}
    write_json(other.run(run.run_key), sealed(made))
    assert "(seeds [7] -> [1, 2]); use the params.yaml" in refusal(imcl, other.root)


# what is no folder of records -------------------------------------------------------------------


def test_wrong_usage(imcl, tmp_path):
    missing, text, empty = tmp_path / "missing", tmp_path / "x.tar.gz", tmp_path / "empty"
    text.write_text("text")
    empty.mkdir()
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    os.mkfifo(tmp_path / "pipe")
    for source, reason in (
        (missing, "no folder or archive: No such file or directory"),
        (text, "neither a folder nor a tar, tar.gz, tar.xz or zip archive"),
        (tmp_path / "pipe", "no folder or archive: "),
        (empty, "holds no records"),
    ):
        code, out, err = imcl(source)
        assert (code, out) == (2, [])
        assert err.startswith(f"{source}: {reason}")


# hostile archives -------------------------------------------------------------------------------


def packed(archive: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(archive, "w:gz") as file:
        for member, content in members:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return archive


def test_an_archive_cannot_decide_where_a_file_goes(imcl, project, cells, tmp_path):
    content = json_text(good(cells[0])).encode()
    link, device = tarfile.TarInfo("records/link.json"), tarfile.TarInfo("records/device.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    outside = tarfile.TarInfo("../../records/../../outside/records/evil.json")
    archive = packed(tmp_path / "x.tgz", (link, b""), (device, b""), (outside, content))
    assert imcl(archive)[0] == 0
    assert [*here(project)] == [f"{cells[0].key}.json"]
    assert not [path for path in tmp_path.rglob("*") if path.name in ("evil.json", "link.json")]


def huge(size: int) -> bytes:
    """The header of a member, or of a member's name, that tells of more than there is."""
    member = tarfile.TarInfo("records/a.json")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def long_name(size: int) -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, size
    return member.tobuf(tarfile.GNU_FORMAT)


HEADERS = {
    "cut": (huge(10**9), "unexpected end of data"),
    "back": (huge(-1024), "a part of negative size"),
    "far back": (huge(-(2**40)), "a part of negative size"),
    "long name": (long_name(10**12), "a part of 1000000000000 bytes"),
    "negative name": (long_name(-(2**30)), "a part of -"),
}


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("packer", [bytes, gzip.compress, lzma.compress])
def test_a_damaged_archive_is_refused(tmp_path, kind, packer):
    content, reason = HEADERS[kind]
    archive = tmp_path / "x"
    archive.write_bytes(packer(content))
    with pytest.raises(ImclError, match=f"^{archive}: not a readable tar archive: {reason}"):
        [*candidates(archive)]


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch, cells):
    monkeypatch.setattr(candidates_module, "HARMLESS", 10**6)
    content = b" " * 4_000_000
    archive = packed(tmp_path / "x.tgz", (tarfile.TarInfo("records/a.json"), content))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("records/a.json", content)
    for path in (archive, tmp_path / "x.zip"):
        with pytest.raises(ImclError, match=f"{path}: unpacks to more than 200 times its size"):
            [*candidates(path)]


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates_module, "MOST_FILES", 3)
    members = [(tarfile.TarInfo(f"records/{n}.json"), b"{}") for n in range(4)]
    assert len([*candidates(packed(tmp_path / "x.tgz", *members[:3]))]) == 3
    with pytest.raises(ImclError, match="holds more than 3 files"):
        [*candidates(packed(tmp_path / "x.tgz", *members))]


# results/shared, the copy that DVC carries ------------------------------------------------------


@pytest.fixture
def trained(project, cells) -> Path:
    """The record of a cell with its weights."""
    made = good(cells[0])
    for run in made["runs"]:
        weights = project.weights(cells[0].of_seed(run["seed"]).run_key)
        write_bytes(weights, f"weights of seed {run['seed']}".encode())
        run["weights_sha256"] = sha256(weights)
    return write(project, cells[0], made)


def move_copy(project: Project, folder: Path) -> Project:
    """A project that has the copy alone, as a clone that has pulled it."""
    clone = Project(folder)
    shutil.copytree(project.shared, clone.shared)
    shutil.copy(project.params, clone.params)
    return clone


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("links", [True, False])
def test_a_clone_takes_from_the_copy_what_is_missing(
    project, trained, tmp_path, monkeypatch, links
):
    if not links:
        monkeypatch.setattr("os.link", refuse)
    before = content(project.results)
    assert share(project) == (0, 3)
    assert content(project.shared) == before
    assert trained.samefile(project.shared / "records" / trained.name) == links
    clone = move_copy(project, tmp_path / "clone")
    assert share(clone) == (3, 0)
    assert content(clone.results) == content(project.results)
    assert share(clone) == share(project) == (0, 0)


def refuse(*paths: object) -> None:
    raise OSError(errno.EPERM, "no hard links")


def test_what_dvc_deletes_or_puts_back_costs_nothing(project, trained, cells):
    share(project)
    before = content(project.results)
    shutil.rmtree(project.shared)
    share(project)
    assert content(project.results) == before
    copy = project.shared / "records" / trained.name
    copy.unlink()
    copy.write_text("{}")
    assert share(project) == (0, 3)  # the weights may be others, too
    assert content(project.results) == before


def test_seeds_are_exchanged_before_the_cell_is_whole(project, cells, tmp_path):
    first, second = cells[0].runs
    weights = project.weights(first.run_key)
    write_bytes(weights, b"weights of seed 1")
    write_bytes(project.weights(second.run_key), b"of a seed that is not finished")
    made = run_of(cells[0], 1)
    made["runs"][0]["weights_sha256"] = sha256(weights)
    write_json(project.run(first.run_key), sealed(made))
    assert share(project) == (0, 2)
    clone = move_copy(project, tmp_path / "clone")
    assert share(clone) == (2, 0)
    assert Store(clone).lacks(first) is None
    assert clone.weights(first.run_key).read_bytes() == weights.read_bytes()
    assert not clone.weights(second.run_key).exists()


def test_a_seed_that_is_trained_again_brings_its_weights(project, trained, cells, tmp_path):
    """Though the record of its cell is not collected again yet."""
    run = cells[0].runs[1]
    share(project)
    weights = project.weights(run.run_key)
    write_bytes(weights, b"weights of seed 2, trained again")
    made = run_of(cells[0], 2)
    made["runs"][0]["weights_sha256"] = sha256(weights)
    write_json(project.run(run.run_key), sealed(made))
    assert share(project) == (0, 2)
    clone = move_copy(project, tmp_path / "clone")
    share(clone)
    assert clone.weights(run.run_key).read_bytes() == weights.read_bytes()
    assert Store(clone).lacks(run) is None


def test_records_that_no_study_plans_stay_in_the_copy(project, trained, tmp_path, cells):
    share(project)
    (project.shared / "records" / f"{cells[1].name}-000000000000.json").write_text("{")
    clone = move_copy(project, tmp_path / "clone")
    before = content(clone.shared)
    assert share(clone) == (3, 0)
    assert content(clone.shared) == before
    assert [path.name for path in clone.records.iterdir()] == [trained.name]


def test_what_cannot_be_taken_from_the_copy_is_named(project, trained, tmp_path, cells):
    write(project, cells[1], good(cells[1]))
    share(project)
    clone = move_copy(project, tmp_path / "clone")
    record = clone.shared / "records" / f"{cells[1].key}.json"
    weights = clone.shared / "weights" / f"{cells[0].runs[1].run_key}.pt"
    for path in (record, weights):
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ImclError) as raised:
        share(clone)
    first, second = sorted(str(raised.value).splitlines())
    assert first.startswith(f"{record}: is damaged: ")
    assert second == f"{weights}: is not what {clone.records / trained.name} names; delete it"
    assert [path.name for path in clone.records.iterdir()] == [trained.name]
    assert not clone.weights(cells[0].runs[1].run_key).exists()


def test_the_contents_of_pictures_go_with_the_records(project, tmp_path):
    """Without them the names of records are unknown."""
    manifest = project.contents / "pictures.json"
    write_json(manifest, {"train/a.png": [3, 1, 1, "ab" * 32]})
    share(project)
    clone = move_copy(project, tmp_path / "clone")
    share(clone)
    assert (clone.contents / "pictures.json").read_bytes() == manifest.read_bytes()
    copy = project.shared / "contents/pictures.json"
    for entry, changes in (([3, 2, 2, "ab" * 32], False), ([3, 3, 3, "cd" * 32], True)):
        before = copy.read_bytes()
        write_json(manifest, {"train/a.png": entry})
        share(project)
        assert (copy.read_bytes() != before) == changes
    assert copy.read_bytes() == manifest.read_bytes()
