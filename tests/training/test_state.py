"""What a training keeps on disk: one state, never half of one, and losses that go with it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.training import trainer
from pipeline.training.ema import Ema
from pipeline.training.state import load_state, losses_until, save_state
from pipeline.training.trainer import train
from tests.training.launching import ROOT
from tests.training.test_trainer import same, weights


def parts(value: float = 1.0, size: int = 10) -> dict:
    return {"model": {"a": torch.full((size,), value)}}


def test_there_is_one_state_and_while_it_is_replaced_at_most_a_second(tmp_path, monkeypatch):
    path, sizes = tmp_path / "training.pt", []
    replace = Path.replace

    def watched(source, target):
        sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    for step in range(1, 5):
        save_state(path, step, parts(step, 1000))
        assert [file.name for file in tmp_path.iterdir()] == ["training.pt"]
        assert load_state(path, mapped=False)["step"] == step
    assert len(sizes) == 4 and max(sizes) <= 2.01 * path.stat().st_size


def test_a_training_leaves_one_state_file_and_its_size_is_bounded(make_job):
    """Weights, average and the two moments of Adam: four times the weights."""
    job = make_job("svd", steps=8)
    train(job)
    assert [path.name for path in Path(job.state).iterdir()] == ["training.pt"]
    size = (Path(job.output) / "model.safetensors").stat().st_size
    assert 4 * size < (Path(job.state) / "training.pt").stat().st_size < 4.5 * size + 1_000_000


def test_without_an_average_the_weights_are_handed_on_and_nothing_is_kept_beside_them(make_job):
    job = make_job("svd", steps=3)
    job.optimisation.update(ema=0.0, checkpoint_every=2)
    train(job)
    found = load_state(Path(job.state) / "training.pt", mapped=False)
    assert found["ema"] == {} and len(found["model"]) > 50
    whole = make_job("svd", "whole", steps=3)
    whole.optimisation.update(ema=0.0, checkpoint_every=2)
    Path(whole.state).mkdir(parents=True)
    (Path(job.state) / "training.pt").rename(Path(whole.state) / "training.pt")
    train(whole)  # the last step alone
    assert same(weights(job), weights(whole))


def test_average():
    module = torch.nn.Linear(2, 1, bias=False)
    averages = {decay: Ema(module, decay) for decay in (0.0, 0.75)}
    with torch.no_grad():
        start = module.weight.clone()
        module.weight += 4
    for average in averages.values():
        average.update()
    assert torch.allclose(averages[0.75].state_dict()["weight"], start + 1)
    averages[0.0].into_module()
    assert torch.equal(module.weight, start + 4)
    averages[0.75].into_module()
    assert torch.allclose(module.weight, start + 1)


def test_a_partial_state_of_a_killed_run_is_cleared_away(tmp_path):
    save_state(tmp_path / "training.pt", 3, parts())
    (tmp_path / "training.partial").write_bytes(b"half")
    assert load_state(tmp_path / "training.pt", mapped=True)["step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["training.pt"]
    assert load_state(tmp_path / "none.pt", mapped=True) is None


@pytest.mark.parametrize("damage", [lambda whole: whole[:-50], lambda whole: b"", lambda whole: b"x" * 5000])
def test_a_damaged_state_is_an_error_for_people(tmp_path, damage):
    path = tmp_path / "training.pt"
    save_state(path, 3, parts())
    path.write_bytes(damage(path.read_bytes()))
    for mapped in (True, False):
        with pytest.raises(PipelineError, match=r"training\.pt is damaged .*delete it, and the training begins anew"):
            load_state(path, mapped)


FULL = """
import resource, sys
from pathlib import Path
import torch
from pipeline.errors import PipelineError
from pipeline.training.state import load_state, save_state
path = Path(sys.argv[1])
save_state(path, 1, {"model": {"a": torch.zeros(1000)}})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_state(path, 2, {"model": {"a": torch.zeros(1_000_000)}})
except PipelineError as error:
    print(error)
print(load_state(path, mapped=False)["step"], [file.name for file in path.parent.iterdir()])
"""


def test_a_full_disk_keeps_the_state_before(tmp_path):
    """A limit on the size of files stands in for the disk."""
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "training.pt")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    error, kept = run.stdout.splitlines()
    assert "the training state after step 2 could not be written" in error and "goes on from the state before" in error
    assert kept == "1 ['training.pt']"


def test_losses_are_cut_back_to_the_state(tmp_path):
    path = tmp_path / "losses.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(6)) + '{"step": 6, "lo')
    with losses_until(path, 4) as file:
        file.write(json.dumps({"step": 4}) + "\n")
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3, 4]
    losses_until(tmp_path / "new/losses.jsonl", 0).close()
    assert (tmp_path / "new/losses.jsonl").read_text() == ""


def test_only_the_first_process_touches_the_losses(make_job, monkeypatch):
    """Two that cut the file back at once could each leave what the other had half written."""
    opened = []
    monkeypatch.setattr(trainer, "losses_until", lambda *arguments: opened.append(arguments))
    monkeypatch.setattr(trainer.Accelerator, "is_main_process", property(lambda self: False))
    job = make_job("svd", steps=1)
    train(job)
    assert not opened and not Path(job.output).exists()
