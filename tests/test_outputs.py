"""Outputs of a job: published whole, kept until the ledger has them, removed at once or not at all."""

import os
from pathlib import Path

import pytest

from pipeline.engine import outputs, parts, processes


def test_publish_gives_a_folder_its_name_in_one_step_and_replaces_links(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial/new").write_text("new")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_text("kept")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")  # as DVC's cache links may be
    outputs.publish([tmp_path / ".out.partial"], [tmp_path / "out"])
    assert (tmp_path / "out/new").read_text() == "new" and not (tmp_path / "out").is_symlink()
    assert (tmp_path / "elsewhere/kept").read_text() == "kept"


def test_of_a_state_only_what_was_made_and_what_it_cost_outlive_the_job(tmp_path):
    state = tmp_path / "0123"
    for name in ("done/0", "costs/1.json", "parts/000000/part", "training/step-20", "../4567/training/step-10"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).touch()
    (state / "done.json").touch()
    outputs.forget_others(state)
    assert {path.name for path in tmp_path.iterdir()} == {"0123"}
    assert {path.name for path in state.iterdir()} == {"done", "done.json", "costs"}


def test_outputs_that_the_disk_has_no_room_to_keep_leave_nothing_half_kept(tmp_path):
    one, never_written, state = tmp_path / "one", tmp_path / "two", tmp_path / "state"
    one.touch()
    with pytest.raises(OSError):
        outputs.keep([one, never_written], state)
    assert list(state.iterdir()) == []


def kept(folder: Path) -> tuple[list[Path], Path]:
    """Two outputs in their places, kept in a state."""
    finals, state = [folder / "out/one.json", folder / "out/many"], folder / "state"
    stagings = [outputs.staging_of(path) for path in finals]
    outputs.prepare(stagings)
    stagings[0].write_text("{}")
    stagings[1].mkdir()
    (stagings[1] / "part").write_text("content")
    outputs.keep(stagings, state)
    outputs.publish(stagings, finals)
    return finals, state


def test_what_is_kept_is_taken_after_snakemake_gave_it_a_new_time(tmp_path):
    finals, state = kept(tmp_path)
    os.utime(finals[0], (1, 1))
    (finals[1] / ".snakemake_timestamp").touch()
    again = [tmp_path / "again.json", tmp_path / "again"]
    assert outputs.take_back(again, state)
    assert again[0].read_text() == "{}" and (again[1] / "part").read_text() == "content"


@pytest.mark.parametrize("damage", [
    lambda state: (state / "done/0").write_text("other"),
    lambda state: (state / "done/1/part").write_text("other content"),
    lambda state: (state / "done/1/part").unlink(),
    lambda state: (state / "done.json").unlink(),
])  # fmt: skip
def test_what_is_kept_and_damaged_is_not_taken(tmp_path, damage):
    _, state = kept(tmp_path)
    damage(state)
    assert not outputs.take_back([tmp_path / "again.json", tmp_path / "again"], state)


def test_a_folder_whose_removal_is_killed_has_lost_its_name(tmp_path, monkeypatch):
    """Else half of a part would be taken for a whole one."""
    part = tmp_path / "000000"
    part.mkdir()
    (part / "file").touch()

    def killed(path, **options):
        if path.exists():
            raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(parts.shutil, "rmtree", killed)
        with pytest.raises(SystemExit):
            parts.remove(part)
    assert not part.exists()
    part.mkdir()
    parts.remove(part)
    assert list(tmp_path.iterdir()) == []


def test_locks_of_shards_are_of_files_that_can_be_read(tmp_path, monkeypatch):
    """NFS refuses a shared lock of a file that is open for writing alone."""
    modes = []
    monkeypatch.setattr(processes.fcntl, "flock", lambda file, kind: modes.append(file.mode))
    with processes.wait_for_lock(tmp_path / "lock", None, shared=True), processes.try_lock(tmp_path / "other"):
        assert modes == ["a+", "a+"]
