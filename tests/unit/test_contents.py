"""The content of one's own files decides the digests: every change of a picture is seen."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from handmade import parameters, record, write
from PIL import Image

from imcl import cli, verify
from imcl.data import contents, folder, prepare
from imcl.data.contents import Manifests
from imcl.errors import ImclError, UsageError
from imcl.project import Project
from imcl.records import plan
from imcl.study import grid
from imcl.study.load import checked
from imcl.study.settings import Settings
from imcl.study.sources import Archive

CELL = "mine-clean-vgg16-base"
ENTRY = {"source": "folder", "path": "pictures", "side": 8, "padding": 0, "flip": False}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """A project with four pictures of two classes, which were written long ago."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("IMCL_SHA256SUMS", raising=False)
    monkeypatch.setattr(contents, "SETTLED_NS", 0)
    places = ("train/leaves/a", "train/roses/a", "test/leaves/a", "test/roses/a")
    for grey, place in enumerate(places):
        picture(tmp_path / f"pictures/{place}.png", grey)
    return Project(tmp_path)


def picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path, "BMP")  # all of the same size


def settings(project: Project, **entry: object) -> Settings:
    """Those of a study with one cell on the pictures, as a new process would have them."""
    loaded = parameters()
    study = {
        "datasets": ["mine"],
        "noise": ["clean"],
        "backbones": ["vgg16"],
        "methods": ["base"],
        "seeds": [1],
        "width": 4,
    }
    loaded |= {"study": "own", "studies": loaded["studies"] | {"own": study}}
    loaded["datasets"] |= {"mine": ENTRY | entry}
    return checked(loaded, project.params).knowing(Manifests(project))


def cell(project: Project) -> grid.Cell:
    return grid.find(settings(project), CELL)


def state(project: Project) -> tuple[str, str]:
    (row,) = plan.rows(project, settings(project))
    return row["state"], row["reason"]


def content(project: Project) -> str | None:
    return Manifests(project).pictures("pictures")


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of the files that are read to be hashed, in order."""
    found: list[str] = []

    def sha256(path: Path) -> str:
        found.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(contents, "sha256", sha256)
    return found


# pictures ---------------------------------------------------------------------------------------


def test_the_content_is_what_sha256sum_would_list(project):
    (project.root / "pictures/train/leaves/.hidden").touch()
    places = ("test/leaves/a", "test/roses/a", "train/leaves/a", "train/roses/a")
    listed = ""
    for place in places:
        digest = hashlib.sha256((project.root / f"pictures/{place}.png").read_bytes()).hexdigest()
        listed += f"{digest}  {place}.png\n"
    assert content(project) == hashlib.sha256(listed.encode()).hexdigest()[:12]


def added(pictures: Path) -> None:
    picture(pictures / "train/roses/b.png", 7)


def edited(pictures: Path) -> None:
    """Another picture of the same size and date."""
    path = pictures / "train/roses/a.png"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def removed(pictures: Path) -> None:
    (pictures / "test/roses/a.png").unlink()


def renamed(pictures: Path) -> None:
    (pictures / "train/roses/a.png").rename(pictures / "train/roses/z.png")


def moved(pictures: Path) -> None:
    (pictures / "train/roses/a.png").rename(pictures / "train/leaves/b.png")


def swapped(pictures: Path) -> None:
    """Two files of the same size change their names, and keep their dates."""
    one, other = pictures / "train/roses/a.png", pictures / "train/leaves/a.png"
    one.rename(pictures / "third")
    other.rename(one)
    (pictures / "third").rename(other)


def another_class(pictures: Path) -> None:
    (pictures / "train/roses").rename(pictures / "train/thorns")


@pytest.mark.parametrize("change", [added, edited, removed, renamed, moved, swapped, another_class])
def test_the_plan_sees_every_change_of_a_picture(project, change):
    write(project, cell(project), record(cell(project), [0.5]))
    before = content(project)
    assert state(project) == ("done", "record is there")
    shutil.copytree(project.root / "pictures", project.root / "copy")

    change(project.root / "pictures")

    assert state(project) == (
        "missing",
        f"changed: dataset.content {before} -> {content(project)}",
    )
    shutil.rmtree(project.root / "pictures")
    (project.root / "copy").rename(project.root / "pictures")
    assert state(project)[0] == "done"


def test_new_dates_alone_change_nothing(project):
    write(project, cell(project), record(cell(project), [0.5]))
    for path in (project.root / "pictures").rglob("*.png"):
        os.utime(path, (2**31, 2**31))
    assert state(project)[0] == "done"


def test_only_changed_pictures_are_read_again(project, reads):
    content(project)
    assert reads == ["a.png"] * 4
    content(project)
    assert reads == ["a.png"] * 4
    added(project.root / "pictures")
    content(project)
    assert reads == ["a.png"] * 4 + ["b.png"]


def test_reading_for_long_is_announced(project, capsys):
    content(project)
    assert capsys.readouterr().err == ""
    added(project.root / "pictures")
    os.truncate(project.root / "pictures/train/roses/b.png", 120_000_000)
    content(project)
    assert capsys.readouterr().err == "pictures: reads 1 new or changed files, 120 MB\n"


def test_a_picture_that_was_just_written_is_read_again(project, reads, monkeypatch):
    """It may change within the same tick of the file system's clock, and show it nowhere."""
    monkeypatch.setattr(contents, "SETTLED_NS", 10**12)
    content(project)
    content(project)
    assert len(reads) == 8


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"train/roses/a.png": [1, 2]}', b"\xff", b"[" * 10**5]
)
def test_a_damaged_manifest_is_made_anew(project, text):
    before = content(project)
    (manifest,) = project.contents.iterdir()
    manifest.write_bytes(text)
    assert content(project) == before
    assert len(json.loads(manifest.read_bytes())) == 4


def test_a_pipe_in_place_of_a_manifest_is_never_opened(project):
    before = content(project)
    (manifest,) = project.contents.iterdir()
    manifest.unlink()
    os.mkfifo(manifest)
    assert content(project) == before


def test_a_project_that_cannot_be_written_is_planned(project):
    project.data.write_text("a file where the folder should be")
    assert content(project) == content(project) is not None


def test_pictures_that_are_gone_count_as_they_were_last_seen(project):
    """A study is not undone because its pictures were moved to another disk."""
    write(project, cell(project), record(cell(project), [0.5]))
    shutil.rmtree(project.root / "pictures")
    assert state(project)[0] == "done"
    (project.root / "pictures").mkdir()  # where a disk is not mounted
    assert state(project)[0] == "done"


def test_without_its_pictures_no_cell_is_trained_to_verify_it(project):
    write(project, cell(project), record(cell(project), [0.5]))
    here = verify.Study(settings(project), [cell(project)], False, project.records, {})
    assert len(verify.sample(project, [here], 1)) == 1
    shutil.rmtree(project.root / "pictures")
    assert verify.sample(project, [here], 1) == []


def test_pictures_that_were_never_there_stop_only_what_needs_them(project, capsys):
    shutil.rmtree(project.root / "pictures")
    assert state(project) == ("missing", f"no record; {grid.NO_PICTURES}")
    dataset = cell(project).dataset
    assert "content" not in dataset.config
    with pytest.raises(ImclError, match=r"pictures/train: no such folder; pictures go to"):
        prepare.prepare(project, dataset)


def test_a_file_that_cannot_be_read_counts_and_is_left_to_prepare(project, monkeypatch):
    def sha256(path: Path) -> str:
        raise PermissionError

    before = content(project)
    added(project.root / "pictures")
    monkeypatch.setattr(contents, "sha256", sha256)
    unread = content(project)
    assert unread not in (None, before)
    monkeypatch.undo()
    monkeypatch.setattr(contents, "SETTLED_NS", 0)
    assert content(project) not in (unread, before)


def test_a_pipe_is_never_opened_and_counts(project):
    before = content(project)
    os.mkfifo(project.root / "pictures/train/roses/pipe.png")
    piped = content(project)
    (project.root / "pictures/train/roses/pipe.png").unlink()
    (project.root / "pictures/train/roses/lost.png").symlink_to("nowhere")
    (project.root / "pictures/train/self").symlink_to(".")
    assert len({before, piped, content(project)}) == 3


def test_two_datasets_of_one_folder_share_its_content(project, reads):
    known = settings(project)
    for side in (8, 16):
        options = known.datasets["mine"].model_copy(update={"side": side})
        assert grid.content(options, Manifests(project)) == content(project)
    assert len(reads) == 4


def test_pictures_that_change_while_they_are_read_are_refused(project, monkeypatch):
    dataset, read = cell(project).dataset, folder.read

    def reading(*arguments):
        made = read(*arguments)
        added(project.root / "pictures")
        return made

    monkeypatch.setattr(folder, "read", reading)
    with pytest.raises(ImclError, match="mine: its files changed while they were read; run again"):
        prepare.prepare(project, dataset)
    assert not project.dataset(dataset.key).exists()


def test_the_limit_of_pixels_is_no_part_of_a_digest(project):
    raised = settings(project, max_megapixels=500)
    assert raised.datasets["mine"].max_megapixels == 500
    assert grid.find(raised, CELL).digest == cell(project).digest
    with pytest.raises(UsageError, match="digits has no option max_megapixels"):
        loaded = parameters()
        loaded["datasets"]["digits"]["max_megapixels"] = 1
        checked(loaded, project.params)


def test_datasets_without_own_files_have_no_content(project):
    known = grid.datasets(settings(project))
    assert known["mine"].content
    assert {name for name, dataset in known.items() if dataset.content} == {"mine"}


def test_the_contents_are_printed_for_dvc(project, capsys):
    loaded = parameters()
    loaded["datasets"] |= {"mine": ENTRY}
    project.params.write_text(json.dumps(loaded))
    assert cli.main(["data", "--contents", "--project", str(project.root)]) == 0
    assert json.loads(capsys.readouterr().out) == {"datasets.mine": content(project)}


# archives ---------------------------------------------------------------------------------------

PLACED = Archive("placed.zip", "https://example.org", 4, behind_login=True, other_form="placed_npz")


def place(project: Project, text: str, name: str = "placed.zip") -> str:
    """Put a file into the archives' folder; its SHA-256."""
    path = project.archives / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_content_of_an_archive_placed_by_hand_counts(project):
    assert Manifests(project).archives([PLACED]) is None
    digest = place(project, "one")
    one = hashlib.sha256(f"{digest}  placed.zip\n".encode()).hexdigest()[:12]
    assert Manifests(project).archives([PLACED]) == one
    place(project, "two")
    assert Manifests(project).archives([PLACED]) not in (None, one)


@pytest.mark.parametrize("name", ["placed.zip", "placed_npz"])
def test_an_archive_that_was_deleted_counts_as_it_was_last_seen(project, name):
    place(project, "one", name)
    before = Manifests(project).archives([PLACED])
    (project.archives / name).unlink()
    assert Manifests(project).archives([PLACED]) == before is not None


def test_a_mirrors_archive_counts_before_it_is_fetched(project, monkeypatch):
    """Else the names that Snakemake plans would not be those that it finds after the download."""
    digest = hashlib.sha256(b"one").hexdigest()
    (project.root / "SHA256SUMS").write_text(f"{digest}  placed.zip\n")
    monkeypatch.setenv("IMCL_SHA256SUMS", str(project.root / "SHA256SUMS"))
    planned = Manifests(project).archives([PLACED])
    place(project, "one")
    assert Manifests(project).archives([PLACED]) == planned is not None


def test_a_pipe_in_place_of_the_mirrors_list_is_refused(project, monkeypatch):
    os.mkfifo(project.root / "SHA256SUMS")
    monkeypatch.setenv("IMCL_SHA256SUMS", str(project.root / "SHA256SUMS"))
    with pytest.raises(UsageError, match="cannot be read: not a file, but a device or a pipe"):
        Manifests(project).archives([PLACED])


def test_a_published_file_changes_no_digest(project):
    official = Archive(
        "human.pt", "https://example.org", 3, sha256=place(project, "one", "human.pt")
    )
    assert Manifests(project).archives([official]) is None
    place(project, "two", "human.pt")
    assert Manifests(project).archives([official]) is not None


def test_other_labels_that_people_gave_give_other_digests(project, reads):
    known = settings(project)
    dataset = cell(project).dataset
    usual = grid.noise_of(known, "worse", dataset)
    assert "content" not in usual.config
    place(project, "other labels", "CIFAR-10_human.pt")
    other = grid.noise_of(settings(project), "worse", dataset)
    assert other.config == usual.config | {"content": other.content}
    assert other.digest != usual.digest


def test_another_archive_of_imagenet32_gives_another_digest(project):
    digests = set()
    for text in ("one", "two"):
        place(project, text, "Imagenet32_train.zip")
        digests.add(grid.datasets(settings(project), ["imagenet32"])["imagenet32"].digest)
    assert len(digests) == 2
