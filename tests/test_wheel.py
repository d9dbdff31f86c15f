"""What is installed: the wheel's files and commands, which need no checkout and run anywhere."""

import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support import xla
from support.paths import ROOT

import unet_jax
from unet_jax import commands, page

BUILD = "from setuptools import build_meta; print(build_meta.build_wheel(%r))"
SCRIPT = "import sys\nfrom unet_jax.commands import %s\nsys.exit(%s())\n"  # as pip writes it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Returns the wheel of a copy of the checkout, in which nothing of earlier builds is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("unet_jax", "configs"):
        without = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / "src" / name, ignore=without)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "src")
    line = [sys.executable, "-c", BUILD % str(folder)]
    done = subprocess.run(line, cwd=folder / "src", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(folder / done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Returns a function that runs a command of the wheel, in a folder far from the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    wheel.extractall(folder / "site")
    (folder / "bin").mkdir()
    entries = ConfigParser()
    entries.read_string(wheel.read(info(wheel, "entry_points.txt")).decode())
    for name, place in entries["console_scripts"].items():
        assert place.startswith("unet_jax.commands:")
        function = place.partition(":")[2]
        (folder / "bin" / name).write_text(SCRIPT % (function, function))
    (folder / "work").mkdir()
    # A console command takes no module from the working directory, nor do its processes.
    (folder / "work" / "queue.py").write_text("raise RuntimeError('queue.py was imported')\n")

    def run(name: str, *flags: str) -> subprocess.CompletedProcess:
        env = {key: value for key, value in xla.env().items() if key != "PYTHONSAFEPATH"}
        env |= {"PYTHONPATH": str(folder / "site")}
        line = [sys.executable, str(folder / "bin" / name), *flags]
        return subprocess.run(line, cwd=folder / "work", env=env, capture_output=True, text=True)

    return SimpleNamespace(run=run, work=folder / "work", site=folder / "site")


def info(wheel: zipfile.ZipFile, name: str) -> str:
    [found] = [file for file in wheel.namelist() if file.endswith(f".dist-info/{name}")]
    return found


def test_the_wheel_holds_the_package_and_the_pages_and_nothing_else(wheel):
    files = [f for f in (ROOT / "unet_jax").rglob("*") if f.is_file() and f.suffix != ".pyc"]
    expected = {str(file.relative_to(ROOT)): file for file in files}
    assert {"unet_jax/py.typed", "unet_jax/report/page.html.j2"} <= expected.keys()
    expected |= {f"unet_jax/pages/{f.name}": f for f in (ROOT / "configs").glob("*.py")}
    assert "unet_jax/pages/shapes.py" in expected
    found = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert sorted(found) == sorted(expected)
    for name, file in expected.items():
        assert wheel.read(name) == file.read_bytes(), name


def test_the_version_has_one_home(wheel):
    metadata = Parser().parsestr(wheel.read(info(wheel, "METADATA")).decode())
    assert metadata["Version"] == unet_jax.__version__


def test_a_stock_page_is_trained_evaluated_and_predicted_far_from_the_checkout(installed):
    short = [f"--config.train.{key}=2" for key in ("duration", "eval_every", "checkpoint_every")]
    short.append("--config.eval.figures=False")  # --mode=eval draws some
    done = installed.run("unet-jax", "--config=tiny.py", *short, "--workdir=runs/tiny")
    assert done.returncode == 0, done.stderr
    assert (installed.work / "runs" / "tiny" / "results.json").is_file()
    done = installed.run("unet-jax", "--mode=eval", "--split=test", "--workdir=runs/tiny")
    assert done.returncode == 0, done.stderr
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(installed.work / "photo.png")
    done = installed.run("unet-jax", "--mode=predict", "--input=photo.png", "--workdir=runs/tiny")
    assert done.returncode == 0, done.stderr
    with Image.open(installed.work / "runs" / "tiny" / "predictions" / "photo.png") as mask:
        assert mask.size == (34, 21)


def test_the_trials_of_a_users_study_run_in_the_users_folder(installed):
    (installed.work / "study.py").write_text(
        "from unet_jax.studies.study import Study, seeds\n"
        "SHORT = {f'train.{key}': '2 steps' for key in ('duration', 'eval_every')}\n"
        "def get_study():\n"
        "    return Study(page='tiny.py', design=seeds(2), overrides=SHORT)\n"
    )
    done = installed.run("unet-jax-sweep", "--study=study.py", "--workdir=runs/a study")
    assert done.returncode == 0, done.stderr
    drawn = list((installed.work / "runs" / "a study").glob("*/figures/learning_curves.png"))
    assert len(drawn) == 2
    # The command that is named is one that the user has: what follows is what a shell would run.
    [said] = [line for line in done.stdout.splitlines() if line.startswith("report: ")]
    assert said.endswith("unet-jax-report 'runs/a study'")
    done = installed.run("unet-jax-report", "runs/a study")
    assert done.returncode == 0, done.stderr
    assert (installed.work / "runs" / "a study" / "report" / "report.html").is_file()


def test_explain_needs_no_page(installed):
    shutil.rmtree(installed.site / "unet_jax" / "pages")
    try:
        numbers = ("--input=3 1; 2 4", "--kernel=2 1 1; 1 1 4; 3 4 3", "--output=explained")
        done = installed.run("unet-jax-explain", *numbers)
        assert done.returncode == 0, done.stderr
        names = {file.name for file in (installed.work / "explained").iterdir()}
        assert names == {"transpose_conv.png", "transpose_conv.gif"}
    finally:
        shutil.copytree(ROOT / "configs", installed.site / "unet_jax" / "pages")


def test_a_page_is_a_file_and_else_a_stock_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stock = ROOT / "configs" / "tiny.py"
    for name in ("tiny.py", "configs/tiny.py"):
        assert page.find_page(name) == stock
    for name in ("tiny", "other/tiny.py", "../tiny.py", str(tmp_path / "tiny.py"), ""):
        assert page.find_page(name) is None
    (tmp_path / "tiny.py").write_text("")
    assert page.find_page("tiny.py") == Path("tiny.py")
    assert page.find_page("configs/tiny.py") == stock
    assert page.load_page("oxford_pets.py:cpu").data.image_size == (128, 128)


ARGUMENTS = "'a b' --x=1"


@pytest.mark.parametrize(
    ("started", "is_on_path", "says"),
    [
        (["python", "-m", "experiments.sweep"], True, f"python -m experiments.report {ARGUMENTS}"),
        (
            ["python", "-m", "unet_jax.studies.sweep"],
            True,
            f"python -m unet_jax.report {ARGUMENTS}",
        ),
        (
            ["python", "-X", "dev", "-m", "experiments.sweep"],
            False,
            f"BIN/python -m experiments.report {ARGUMENTS}",
        ),
        (["python", "BIN/unet-jax-sweep", "-m"], True, f"unet-jax-report {ARGUMENTS}"),
        (["python", "BIN/unet-jax-sweep", "-m"], False, f"BIN/unet-jax-report {ARGUMENTS}"),
        (["python"], True, f"python -m unet_jax.report {ARGUMENTS}"),
    ],
)
def test_a_command_is_spelled_as_the_user_can_start_it(
    tmp_path, monkeypatch, started, is_on_path, says
):
    for name in ("python", *commands.MODULES):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "orig_argv", [x.replace("BIN", str(tmp_path)) for x in started])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path) if is_on_path else "/nowhere")
    said = commands.spell("unet-jax-report", "a b", "--x=1")
    assert said == says.replace("BIN", str(tmp_path))
