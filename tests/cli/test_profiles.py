"""Where the program looks for shipped profiles: beside itself, or in the source tree if it is in
the build tree."""

import os
import shutil
import subprocess

import pytest
from conftest import MODEL, PROGRAM, ROOT, expect_error


def inspect(program, profile, configs=""):
    """`configs` is $TAMIAS_CONFIGS, which counts as not set when it is empty."""
    return subprocess.run(
        [str(program), "inspect", "--model", str(MODEL), "--sparsity", profile],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"TAMIAS_CONFIGS": str(configs)},
    )


@pytest.fixture
def installed(tmp_path):
    """A copy of the program as in PREFIX/bin."""
    (tmp_path / "bin").mkdir()
    return shutil.copy(PROGRAM, tmp_path / "bin/tamias")


@pytest.fixture
def own_profile(installed, tmp_path):
    """PREFIX/share/tamias/configs with one profile that no other folder has."""
    folder = tmp_path / "share/tamias/configs"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "configs/demo.yml", folder / "own.yml")
    return "own"


def test_the_built_program_takes_the_source_tree():
    assert inspect(PROGRAM, "mochi").returncode == 0


def test_a_link_to_the_built_program_takes_the_source_tree(tmp_path):
    link = tmp_path / "tamias"
    link.symlink_to(PROGRAM)
    assert inspect(link, "mochi").returncode == 0


def test_an_installed_program_takes_the_folder_beside_it_and_no_other(installed, own_profile):
    assert inspect(installed, own_profile).returncode == 0
    expect_error(
        inspect(installed, "mochi"), 2, "sparsity profile 'mochi': not found", "there are: own"
    )


def test_the_environment_adds_a_folder_before_the_shipped_one(installed, own_profile, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(ROOT / "configs/mochi.yml", folder / "mochi.yml")
    assert inspect(installed, "mochi", configs=folder).returncode == 0
    assert inspect(installed, own_profile, configs=folder).returncode == 0
    (folder / "own.yml").write_text("nonsense: 1\n")
    expect_error(
        inspect(installed, own_profile, configs=folder), 2, str(folder / "own.yml"), "nonsense"
    )
