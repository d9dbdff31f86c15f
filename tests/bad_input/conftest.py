"""What users get wrong, on the real command: exit code 2 and one line that says what to change."""

import subprocess

import numpy as np
import pytest
from PIL import Image
from support import caches
from support.paths import ROOT
from support.spoilt import NAMES, save_mask

from experiments.bad_values import bench


@pytest.fixture
def folder(tmp_path_factory):
    """Returns an empty folder whose name holds nothing that a message could be searched for."""
    return tmp_path_factory.mktemp("x")


@pytest.fixture(autouse=True)
def own_cache(folder, monkeypatch):
    """Keeps what the command remembers of checked images."""
    caches.give_own(folder, monkeypatch)


@pytest.fixture
def inside(capsys, monkeypatch):
    """Returns a function that runs the command in this process, where jax has started already."""
    monkeypatch.chdir(ROOT)

    def run(*flags):
        code = bench.command(["main", *map(str, flags)])
        return subprocess.CompletedProcess(flags, code, *capsys.readouterr())

    return run


@pytest.fixture
def refuse(command, folder):
    """Returns a function that runs the command and checks that it ends with one clear line."""

    def run(*flags, says, workdir=folder / "run", command=command, **kwargs):
        result = command(*flags, *([f"--workdir={workdir}"] if workdir else []), **kwargs)
        assert result.returncode == 2, result.stderr
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert "Traceback" not in result.stdout + result.stderr
        missing = [piece for piece in says if piece not in lines[0]]
        assert not missing, lines[0]
        if workdir:  # nothing was begun, so that the same line with the mistake mended may begin
            assert not list(workdir.glob("*"))
        return lines[0]

    return run


@pytest.fixture
def no_jax(folder, monkeypatch):
    """Makes `import jax` an error in commands: what is wrong with a flag is told without it."""
    (folder / "block").mkdir()
    (folder / "block" / "jax.py").write_text("raise RuntimeError('jax was imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder / "block"))


@pytest.fixture
def images(folder):
    """Makes a folder of eight good images with masks of two classes."""
    data, rng = folder / "data", np.random.default_rng(0)
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    for name in NAMES:
        image = Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8))
        image.save(data / "images" / f"{name}.jpg")
        save_mask(data, name, rng.integers(0, 2, (40, 48)))
    return data
