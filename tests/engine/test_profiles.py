"""Profiles of Snakemake beside the default one."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.engine.ledger import Ledger
from pipeline.training.nodes import Layout

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ROOT / "profiles"


def settings(name: str) -> dict:
    return YAML(typ="safe").load((PROFILES / name / "config.yaml").read_text())


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_profile_of_a_cluster_keeps_the_settings_of_the_default_one(name):
    here, there = settings("default"), settings(name)
    assert {key: there.get(key) for key in here} == here


def test_profile_for_slurm_starts_a_dry_run(workspace):
    """Every setting is one that Snakemake or its executor knows."""
    assert "Nothing to be done" in workspace.run("snakemake", "--profile", "profiles/slurm", "-n")


@pytest.mark.parametrize("stage", ["initialise", "finetune", "claims_seed"])
def test_a_training_asks_for_as_many_gpus_as_it_starts_processes(stage):
    (asked,) = {entry.meta["gpu"] for entry in Ledger(ROOT, locked=False).entries.values() if entry.name == stage}
    assert asked == Layout.read(ROOT / "envs/accelerate/gpu.yaml").processes
