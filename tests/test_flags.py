"""Flags that a command would not look at end it at once, before jax starts or anything changes."""

import os
import subprocess
import sys

import pytest
from support.paths import ROOT

TINY = "--config=configs/tiny.py"


@pytest.fixture(scope="module")
def refuse(tmp_path_factory):
    """Returns a function that runs a command without jax, and checks its one line."""
    block = tmp_path_factory.mktemp("block")
    for name in ("jax", "matplotlib"):
        (block / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')\n")
    path = os.pathsep.join([str(block), str(ROOT)])

    def run(module, *given, says):
        line = [sys.executable, "-m", module, *given]
        env = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(f"error: {says[0]}")
        assert len(done.stderr.splitlines()) == 1
        assert not [piece for piece in says if piece not in done.stderr], done.stderr
        assert not done.stdout

    return run


PREDICT, EVAL = ("--input", "--output", "--replace", "--checkpoint"), ("--split", "--checkpoint")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--input=photos"], ["--mode=predict or --mode=export is missing", "--input=photos"]),
        # Where --mode was forgotten, nothing may be deleted.
        (
            ["--overwrite", "--input=a", "--input=b"],
            ["--mode=predict or --mode=export is", "--input=a,b"],
        ),
        (["--overwrite", "--replace"], ["--mode=predict or --mode=score or --mode", "--replace"]),
        (["--checkpoint=best"], ["--mode=eval or --mode=predict or --mode=export or --mode=serve"]),
        (["--memory", "16GiB"], ["--mode=plan is missing: --memory=16GiB"]),
        (["--topology=v5e:2x4"], ["--mode=plan is missing: --topology=v5e:2x4"]),
        (["--mode=train", "--split=val"], ["--split=val is not for --mode=train", "--mode=eval"]),
        (["--mode=predict", "--overwrite"], ["--overwrite is not for", "--mode=train", *PREDICT]),
        (["--mode=predict", "--split=test"], ["--split=test is not for", "--mode=eval", *PREDICT]),
        (["--mode=eval", "--overwrite"], ["--overwrite is not for", "--mode=train", *EVAL]),
        (["--mode=eval", "--output=out"], ["--output=out is not for", "--mode=predict", *EVAL]),
        (["--mode=plan", "--nooverwrite"], ["--nooverwrite is not for --mode=plan", "--memory"]),
        (["--write_page=mine.py"], ["--mode=doctor is missing: --write_page=mine.py"]),
        (
            ["--mode=doctor", "--split=val"],
            ["--split=val is not for --mode=doctor", "--write_page"],
        ),
        (["--process_id=1", "--num_processes=2"], ["--multihost is missing: --num_processes=2"]),
        (["--nomultihost", "--coordinator=a:1"], ["--coordinator=a:1 is not for --nomultihost"]),
    ],
)
def test_flags_of_another_mode(refuse, tmp_path, monkeypatch, given, says):
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "weights").write_text("weights")
    refuse("unet_jax.main", TINY, f"--workdir={tmp_path}", *given, says=says)
    assert {path.name for path in tmp_path.rglob("*")} == {"checkpoints", "weights"}
    assert (tmp_path / "checkpoints" / "weights").read_text() == "weights"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([TINY], ["--operation=unet is missing: --config is for", "--operation=transpose_conv"]),
        (["--operation=conv", "--config.model.norm=none"], ["--config.model.norm=none is not for"]),
        (["--num_classes=2"], ["--operation=unet is missing: --num_classes=2"]),
        (["--operation=unet", "--size=3"], ["--size=3 is not for", "--num_classes", "max_pool"]),
        (["--operation=max_pool", "--input=1 2; 3 4", "--seed=1"], ["--seed=1 is for random"]),
        (["--input=1", "--kernel=1", "--filter=1", "--seed=0"], ["--seed=0 is for random"]),
    ],
)
def test_flags_of_another_operation(refuse, tmp_path, given, says):
    refuse("unet_jax.explain", f"--output={tmp_path}", *given, says=says)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--trials=5"], ["--search=tpe or --search=random is missing: --trials=5"]),
        (["--search=random", "--pack"], ["--pack is not for --search=random"]),
        (["--engine_options=x"], ["--engine=slurm or --engine=ray is missing"]),
        (
            ["--engine=local", "--engine_options=x"],
            ["--engine_options=x is not for --engine=local"],
        ),
    ],
)
def test_flags_of_another_search_or_engine(refuse, tmp_path, given, says):
    page = "--study=experiments/studies/loss.py"
    refuse("experiments.sweep", page, f"--workdir={tmp_path}/study", *given, says=says)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "tables", "of_all"),
    [
        ("unet_jax.main", ["MODES", "OF_MANY"], {"config", "workdir", "mode", "multihost"}),
        ("unet_jax.explain.__main__", ["OPERATIONS"], {"operation", "output"}),
    ],
)
def test_every_flag_is_of_some_modes_or_of_all(module, tables, of_all):
    code = (
        "from absl import flags\n"
        f"import importlib\ncommand = importlib.import_module({module!r})\n"
        "print(*[flag.name for flag in flags.FLAGS.flags_by_module_dict()[command.__name__]])\n"
        + "".join(f"print(*command.{table})\n" for table in tables)
    )  # in a process of its own, since both define --config
    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    defined, *known = [set(line.split()) for line in said.splitlines()]
    assert set.union(*known) == defined - of_all
