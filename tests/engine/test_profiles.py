"""Profiles of Snakemake beside the default one."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


def settings(name: str) -> dict:
    return YAML(typ="safe").load((PROFILES / name / "config.yaml").read_text())


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_profile_of_a_cluster_keeps_the_settings_of_the_default_one(name):
    here, there = settings("default"), settings(name)
    assert {key: there.get(key) for key in here} == here


def test_profile_for_slurm_starts_a_dry_run(workspace):
    """Every setting is one that Snakemake or its executor knows."""
    assert "Nothing to be done" in workspace.run("snakemake", "--profile", "profiles/slurm", "-n")
