"""The short form of the storm; the long one is `python tests/storm.py --kills 50`."""

import pytest
import storm

pytestmark = pytest.mark.workflow


def test_a_study_killed_five_times_ends_with_the_same_records_and_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(storm, "PAUSE_S", (0.2, 4.0))  # since its trainings are short
    lines: list[str] = []
    try:
        calm = storm.undisturbed(tmp_path / "calm", epochs=3, methods=["base", "all"])
        toll = storm.storm(calm, tmp_path / "storm", kills=5, trainings=1, seed=3, say=lines.append)
    except AssertionError:
        print("\n".join(lines))
        raise
    assert toll.kinds.total() >= 5
    assert set(toll.epochs) <= {*range(7)}  # two trainings of three epochs
    assert toll.epochs
    assert "identical" in lines[-2]
