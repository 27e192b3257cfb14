"""Label noise: realised rates, where the flipped labels go, and the stored labels."""

import hashlib
import pickle
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from imcl.data import digits, prepare
from imcl.data.arrays import Arrays
from imcl.errors import ImclError
from imcl.noise import human, inject
from imcl.project import Project
from imcl.study import grid
from imcl.study.grid import Dataset, Noise
from imcl.study.load import load
from imcl.study.sources import KINDS, DatasetOptions, NoiseOptions

ROOT = Path(__file__).resolve().parents[2]


def dataset(labels: np.ndarray, classes: int, **changes) -> Arrays:
    images = np.random.default_rng(7).integers(0, 256, (len(labels), 2, 2, 3), np.uint8)
    names = tuple(f"class {c}" for c in range(classes))
    whole = {"class_names": names, "superclasses": (0,) * classes, **changes}
    return Arrays(images, labels, images, labels, **whole)


def flipping(kind: str):
    """The kind's function, of labels and number of classes; all classes in one superclass."""
    module = import_module(f"imcl.noise.{kind}")
    return lambda labels, classes, rate, rng: module.flip(dataset(labels, classes), rate, rng)


FLIPS = {
    kind: flipping(kind)
    for kind in ("symmetric", "symmetric_inclusive", "asymmetric", "pair", "instance")
}


def clean(count: int = 1000, classes: int = 10) -> np.ndarray:
    return np.random.default_rng(99).permutation(np.arange(count) % classes)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_kind_is_tested():
    assert sorted(KINDS) == sorted([*FLIPS, "human"])


# both kinds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_the_seed_decides_the_labels(flip):
    first, second, other = (flip(clean(), 10, 0.5, rng(seed)) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_the_clean_labels_stay_as_they_are(flip):
    labels = clean()

    noisy = flip(labels, 10, 1.0, rng())

    np.testing.assert_array_equal(labels, clean())
    assert not np.shares_memory(noisy, labels)


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_labels_stay_int64_and_within_the_classes(flip):
    noisy = flip(clean(classes=3), 3, 1.0, rng())

    assert noisy.dtype == np.int64
    assert noisy.shape == (1000,)
    assert set(noisy.tolist()) == {0, 1, 2}


# Not `instance`, whose rates are drawn around the nominal one and cut at 0.
@pytest.mark.parametrize("kind", sorted(FLIPS.keys() - {"instance"}))
def test_rate_0_changes_nothing(kind):
    flip = FLIPS[kind]
    np.testing.assert_array_equal(flip(clean(), 10, 0.0, rng()), clean())


# symmetric --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "rate", "changed"),
    [(1000, 0.2, 200), (1000, 0.5, 500), (1000, 1.0, 1000), (1437, 0.2, 287), (1437, 0.8, 1150)],
)
@pytest.mark.parametrize("classes", [2, 10])
def test_symmetric_changes_exactly_the_rate(count, rate, changed, classes):
    labels = clean(count, classes)

    assert (FLIPS["symmetric"](labels, classes, rate, rng()) != labels).sum() == changed


def test_symmetric_goes_to_the_other_classes_uniformly():
    labels = clean(20_000)

    noisy = FLIPS["symmetric"](labels, 10, 0.5, rng())

    pairs = np.zeros((10, 10), int)
    np.add.at(pairs, (labels, noisy), 1)
    flipped = pairs[~np.eye(10, dtype=bool)]  # 90 pairs share 10,000 flips
    assert flipped.sum() == 10_000
    assert 1e-3 < stats.chisquare(flipped).pvalue < 0.999


def test_symmetric_picks_positions_evenly():
    labels = clean(20_000)

    flipped = FLIPS["symmetric"](labels, 10, 0.5, rng()) != labels

    assert stats.chisquare(flipped.reshape(20, 1000).sum(1)).pvalue > 1e-3


# symmetric_inclusive ----------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "redrawn"), [(0.5, 5000), (0.2, 2000), (1.0, 10_000)])
def test_inclusive_changes_nine_tenths_of_the_rate_on_ten_classes(rate, redrawn):
    labels = clean(10_000)

    changed = (FLIPS["symmetric_inclusive"](labels, 10, rate, rng()) != labels).sum()

    low, high = stats.binom.interval(0.999, redrawn, 0.9)
    assert low <= changed <= high
    if rate == 0.5:
        assert changed / 10_000 == pytest.approx(0.45, abs=0.01)


def test_inclusive_goes_to_all_classes_uniformly():
    labels = clean(10_000)

    noisy = FLIPS["symmetric_inclusive"](labels, 10, 1.0, rng())

    pairs = np.zeros((10, 10), int)
    np.add.at(pairs, (labels, noisy), 1)
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


# the transition matrix --------------------------------------------------------------------------


def test_transition_matrix_by_hand():
    true = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    noisy = np.array([0, 0, 1, 2, 1, 0, 2, 2, 1])

    found = inject.transition_matrix(true, noisy, 3)

    expected = [[1 / 2, 1 / 4, 1 / 4], [1 / 2, 1 / 2, 0], [0, 1 / 3, 2 / 3]]
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_transition_matrix_of_a_class_that_does_not_occur():
    found = inject.transition_matrix(np.array([0, 0]), np.array([0, 2]), 3)

    np.testing.assert_array_equal(found, [[0.5, 0, 0.5], [0, 0, 0], [0, 0, 0]])


# stored noise -----------------------------------------------------------------------------------


DATASET = Dataset("mine", DatasetOptions(source="digits", padding=1, flip=False))


def noise(kind: str = "symmetric", rate: float = 0.2, seed: int = 0) -> Noise:
    return Noise("n20", NoiseOptions(kind=kind, rate=rate, noise_seed=seed), DATASET)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A function that gives a project whose dataset has these arrays."""

    def prepared(arrays: Arrays, name: str = "project") -> Project:
        project = Project(tmp_path / name)
        monkeypatch.setattr(digits, "read", lambda *_: arrays)
        prepare.prepare(project, DATASET)
        return project

    return prepared


@pytest.fixture
def project(prepared) -> Project:
    """A project whose dataset has 1,000 images of ten classes."""
    return prepared(dataset(clean(), 10))


def file_of(project: Project, noise: Noise) -> Path:
    """The description of noisy labels."""
    return project.noise(noise.dataset.key, noise.key)


@pytest.mark.parametrize("kind", FLIPS)
def test_inject_describes_the_labels_that_it_stores(project, kind):
    half = noise(kind, 0.5)

    made = inject.inject(project, half)
    described, noisy = inject.load(project, half, clean())

    path = file_of(project, half)
    file = path.with_suffix(".npy")
    assert sorted(path.parent.iterdir()) == [path, file]
    assert described == made
    np.testing.assert_array_equal(noisy, np.load(file), strict=True)
    assert noisy.dtype == np.int64
    assert made["config"] == {"kind": kind, "rate": 0.5, "noise_seed": 0}
    assert made["nominal_rate"] == 0.5
    changed = sum(a != b for a, b in zip(noisy.tolist(), clean().tolist(), strict=True))
    assert made["realised_rate"] == changed / 1000
    assert made["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    matrix = np.array(made["transition_matrix"])
    assert matrix.shape == (10, 10)
    np.testing.assert_allclose(matrix.sum(1), 1)
    assert 1 - matrix.trace() / 10 == pytest.approx(changed / 1000)  # classes of equal size


def test_the_labels_of_the_digits_are_those_of_the_committed_records(tmp_path):
    """As the records of noise n50 in paper/results/quick state them."""
    project = Project(tmp_path)
    prepare.prepare(project, DATASET)

    made = inject.inject(project, noise("symmetric", 0.5))

    assert made["sha256"] == "289a5fd6c7070137c8e3b85c33afd50a979eab10d3c309d865649bed282e6537"
    assert made["realised_rate"] == 0.49965205288796105


def test_a_nominal_rate_and_a_realised_one_are_kept_apart(project):
    exact = inject.inject(project, noise("symmetric", 0.5))
    inclusive = inject.inject(project, noise("symmetric_inclusive", 0.5))

    assert exact["nominal_rate"] == inclusive["nominal_rate"] == 0.5
    assert exact["realised_rate"] == 0.5
    assert 0.40 < inclusive["realised_rate"] < 0.49


def test_the_stored_labels_depend_on_the_noise_seed_alone(project):
    hashes = []
    for i, seed in enumerate([5, 5, 6]):
        np.random.seed(i)  # the global stream has no part in it
        hashes.append(inject.inject(project, noise(seed=seed))["sha256"])

    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_labels_need_a_prepared_dataset(tmp_path):
    project = Project(tmp_path)

    with pytest.raises(ImclError, match=r"dataset.json: missing; run `imcl prepare mine`"):
        inject.inject(project, noise())


def test_labels_that_were_not_drawn_are_named(project):
    path = file_of(project, noise())

    with pytest.raises(ImclError, match=rf"^{path}: missing; run `imcl noise mine n20`"):
        inject.load(project, noise(), clean())


@pytest.fixture
def stored(project) -> Path:
    """The description of labels with 20 % symmetric noise, beside the labels."""
    inject.inject(project, noise())
    return file_of(project, noise())


@pytest.mark.parametrize("content", [b"", b"[]", b'{"nominal_rate": 0.2}', b"\xff"])
def test_a_damaged_description_is_named(project, stored, content):
    stored.write_bytes(content)

    with pytest.raises(ImclError, match=rf"^{stored}: damaged"):
        inject.load(project, noise(), clean())


def test_load_finds_changed_labels(project, stored):
    file = stored.with_suffix(".npy")
    content = bytearray(file.read_bytes())
    content[-8] ^= 1  # the last label's lowest bit
    file.write_bytes(content)

    with pytest.raises(ImclError, match=rf"^{file}: missing or changed .*delete {stored}"):
        inject.load(project, noise(), clean())


def test_load_finds_missing_labels(project, stored):
    stored.with_suffix(".npy").unlink()

    with pytest.raises(ImclError, match="missing"):
        inject.load(project, noise(), clean())


@pytest.mark.parametrize("count", [999, 1001])
def test_load_finds_labels_of_another_length(project, stored, count):
    with pytest.raises(ImclError, match=f"1000 labels for {count} images"):
        inject.load(project, noise(), clean(count))


def test_load_finds_labels_of_another_dataset_of_the_same_length(project, stored):
    """Such as another subset: against its labels, 20 % of noise would really be 90 %."""
    other = np.random.default_rng(1).permutation(clean())

    with pytest.raises(ImclError, match=r"n20.*another dataset"):
        inject.load(project, noise(), other)


def test_an_interrupted_drawing_leaves_nothing_to_load(project, monkeypatch):
    def interrupted(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inject.inject(project, noise())

    assert [*file_of(project, noise()).parent.glob("*")] == []


# kinds by class -------------------------------------------------------------------------------


def matrix(kind: str, arrays: Arrays, rate: float) -> np.ndarray:
    noisy = import_module(f"imcl.noise.{kind}").flip(arrays, rate, rng())
    return inject.transition_matrix(arrays.train_labels, noisy, len(arrays.class_names))


def test_pair_goes_to_the_next_class_and_from_the_last_to_the_first():
    found = matrix("pair", dataset(clean(300, 3), 3), 0.4)
    np.testing.assert_allclose(found, [[0.6, 0.4, 0], [0, 0.6, 0.4], [0.4, 0, 0.6]])


CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship")


def test_asymmetric_on_cifar10_by_hand():
    names = (*CIFAR10_NAMES, "truck")
    arrays = dataset(clean(), 10, class_names=names, superclasses=())
    expected = np.eye(10)
    for a, b in ((9, 1), (2, 0), (4, 7), (3, 5), (5, 3)):
        expected[a, a], expected[a, b] = 0.6, 0.4
    # Cats are not flipped back: 40 % of five classes in ten is 20 % of all.
    np.testing.assert_allclose(matrix("asymmetric", arrays, 0.4), expected)


def test_asymmetric_goes_round_inside_the_superclasses():
    arrays = dataset(clean(500, 5), 5, superclasses=(0, 1, 0, 1, 0))
    found = matrix("asymmetric", arrays, 1.0)
    assert found.argmax(1).tolist() == [2, 3, 4, 1, 0]
    assert found.max(1).tolist() == [1] * 5


def test_asymmetric_refuses_a_dataset_that_it_is_not_defined_for():
    with pytest.raises(ImclError, match="use kind: pair"):
        matrix("asymmetric", dataset(clean(), 10, superclasses=()), 0.4)


def test_instance_noise_has_the_rate_and_spreads_it_over_the_classes():
    arrays = dataset(clean(20_000), 10)
    noisy = import_module("imcl.noise.instance").flip(arrays, 0.3, rng())
    changed = noisy != arrays.train_labels
    # Rates of mean 0.3 (the cut at 0, three deviations away, adds nothing to speak of).
    assert changed.mean() == pytest.approx(0.3, abs=0.015)
    assert len(set(noisy[changed].tolist())) == 10


def test_instance_noise_takes_the_pixels_as_they_are():
    """The scores of a black image are zero, so all classes are as likely. Those of a white one are
    255 times the sums of normal numbers, so far apart that one class gets all flips."""
    shade = np.arange(4000) % 2
    images = np.broadcast_to(255 * shade[:, None, None, None], (4000, 2, 2, 3)).astype(np.uint8)
    labels = np.zeros(4000, np.int64)
    arrays = replace(dataset(labels, 6), train_images=images)
    noisy = import_module("imcl.noise.instance").flip(arrays, 0.5, rng())
    black, white = (np.bincount(noisy[shade == s], minlength=6)[1:] for s in (0, 1))
    assert stats.chisquare(black).pvalue > 1e-3
    assert sorted(white)[:4] == [0] * 4
    assert white.sum() == pytest.approx(1000, abs=100)


def test_a_new_revision_of_a_kind_renews_its_labels_and_their_cells_alone(monkeypatch):
    any_cell = grid.cells(load(ROOT / "params.yaml", "quick"))[0]

    def keys() -> dict[str, str]:
        labels = {kind: noise(kind) for kind in FLIPS}
        cells = {f"cell with {kind}": replace(any_cell, noise=labels[kind]) for kind in FLIPS}
        return {name: each.key for name, each in {**labels, **cells}.items()}

    monkeypatch.setattr(grid, "REVISIONS", {})
    before = keys()
    monkeypatch.setattr(grid, "REVISIONS", {"instance": 2})
    renewed = {name for name, key in keys().items() if key != before[name]}
    assert renewed == {"instance", "cell with instance"}


# labels that people gave ------------------------------------------------------------------------


def human_file(path: Path, **changes) -> Path:
    """CIFAR-10N's file for 20 images: each set of labels has its own number of wrong ones."""
    labels = {"clean_label": clean(20)}
    for wrong, key in enumerate(human.KEYS.values(), 1):
        labels[key] = clean(20)
        labels[key][:wrong] = (labels[key][:wrong] + 1) % 10
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(labels | changes, protocol=2))
        file.writestr("archive/version", "3")
    return path


def cifar10(indices: np.ndarray) -> Arrays:
    return dataset(clean(20)[indices], 10, train_indices=indices)


@pytest.mark.parametrize(("wrong", "name"), list(enumerate(human.RATES, 1)))
def test_each_set_of_human_labels_is_read_for_the_images_that_are_used(tmp_path, wrong, name):
    path = human_file(tmp_path / "h.pt")

    whole = human.read(cifar10(np.arange(20)), name, [path])
    part = human.read(cifar10(np.array([0, 7, 19])), name, [path])

    assert whole.dtype == np.int64
    assert (whole != clean(20)).nonzero()[0].tolist() == list(range(wrong))
    assert part.tolist() == whole[[0, 7, 19]].tolist()


def test_human_labels_are_for_cifar10_in_its_order(tmp_path):
    path = human_file(tmp_path / "h.pt")
    shuffled = dataset(clean(20)[::-1].copy(), 10, train_indices=np.arange(20))
    with pytest.raises(ImclError, match=rf"^{path}: its clean labels are not"):
        human.read(shuffled, "aggre", [path])
    longer = dataset(clean(30), 10, train_indices=np.arange(30))
    with pytest.raises(ImclError, match=rf"^{path}: its clean labels are not"):
        human.read(longer, "aggre", [path])


def test_human_labels_out_of_range_are_refused(tmp_path):
    path = human_file(tmp_path / "h.pt", worse_label=np.full(20, 10))
    with pytest.raises(ImclError, match=str(path)):
        human.read(cifar10(np.arange(20)), "worse", [path])


class Evil:
    """Pickles into a call that writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("content", ["html", "pickle", "no labels"])
def test_a_wrong_file_of_human_labels_is_refused(tmp_path, content):
    path = human_file(tmp_path / "h.pt", worse_label=Evil(tmp_path / "touched"))
    if content == "html":
        path.write_text("<html>")
    elif content == "no labels":
        path = human_file(tmp_path / "h.pt", worse_label=None)
    with pytest.raises(ImclError, match=str(path)):
        human.read(cifar10(np.arange(20)), "worse", [path])
    assert not (tmp_path / "touched").exists()


WORSE = Noise("worse", NoiseOptions(kind="human", labels="worse"), DATASET)


@pytest.fixture
def with_human(prepared) -> Project:
    """A project with the 20 images that `human_file` has labels for."""
    project = prepared(cifar10(np.arange(20)))
    project.archives.mkdir()
    human_file(project.archives / "CIFAR-10_human.pt")
    return project


def test_injecting_human_labels_checks_their_file(with_human):
    path = with_human.archives / "CIFAR-10_human.pt"
    with pytest.raises(ImclError, match=rf"^{path}: SHA-256 is"):
        inject.inject(with_human, WORSE)
    assert not file_of(with_human, WORSE).exists()


def test_injected_human_labels_have_their_published_and_their_realised_rate(
    with_human, monkeypatch
):
    path, trusted = with_human.archives / "CIFAR-10_human.pt", with_human.root / "SHA256SUMS"
    trusted.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    monkeypatch.setenv("IMCL_SHA256SUMS", str(trusted))
    made = inject.inject(with_human, WORSE)
    assert made["nominal_rate"] == 0.4021
    assert made["realised_rate"] == 5 / 20


# held-out images --------------------------------------------------------------------------------


def held_out(arrays: Arrays, count: int) -> Arrays:
    """With the last images held out."""
    train, last = np.split(np.arange(len(arrays.train_labels)), [-count])
    return replace(
        arrays,
        train_images=arrays.train_images[train],
        train_labels=arrays.train_labels[train],
        train_indices=train,
        validation_images=arrays.train_images[last],
        validation_labels=arrays.train_labels[last],
        validation_indices=last,
    )


def test_held_out_images_get_the_noisy_labels_that_they_have_among_the_others(project, monkeypatch):
    half = noise("symmetric", 0.5)
    inject.inject(project, half)
    _, whole = inject.load(project, half, clean())
    arrays = held_out(dataset(clean(), 10, train_indices=np.arange(1000)), 400)
    described, _ = prepare.load(project, DATASET)
    monkeypatch.setattr(prepare, "load", lambda *_: (described, arrays))

    made = inject.inject(project, half)
    _, noisy = inject.load(project, half, arrays.labels)

    np.testing.assert_array_equal(arrays.labels, clean())
    assert noisy.tolist() == whole.tolist()
    assert made["realised_rate"] == np.mean(noisy[:600] != clean()[:600])
    assert np.mean(noisy[600:] != clean()[600:]) == pytest.approx(0.5, abs=0.1)
    relabelled = arrays.relabelled(noisy)
    assert relabelled.train_labels.tolist() == noisy[:600].tolist()
    assert relabelled.validation_labels.tolist() == noisy[600:].tolist()
    assert relabelled.test_labels is arrays.test_labels


def test_held_out_images_of_cifar10_get_what_people_answered(tmp_path):
    path = human_file(tmp_path / "h.pt")
    arrays = held_out(cifar10(np.arange(20)), 8).joined()
    assert human.read(arrays, "worse", [path]).tolist() == [
        *((clean(20)[:5] + 1) % 10),
        *clean(20)[5:],
    ]
