"""Bad values of every key of the config, through the real command: one line, or a run that begins.

All values, keys and pages are tried by `python -m experiments.bad_values`.
"""

import json
import random
import shutil
import subprocess
import sys

import pytest
from support import forks
from support.paths import ROOT

from experiments.bad_values import bench, commands
from unet_jax.data.sources import open_data
from unet_jax.page import load_page

VALUES_PER_KEY = 2


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Returns the folder and the config of a finished run on files of two classes."""
    folder = tmp_path_factory.mktemp("bad_values")
    values = bench.small(load_page(f"{ROOT}/configs/folder.py").to_dict(), folder)
    values["model"]["features"] = (4, 4)
    values["data"]["image_size"] = (32, 32)
    return bench.train(folder, values), values


@pytest.mark.parametrize("mode", bench.MODES)
def test_every_key(good, tmp_path, mode):
    run, values = good
    rng = random.Random(f"{mode} 0")
    keys = bench.leaves(values)
    number = VALUES_PER_KEY if mode == "train" else 1
    with bench.Bench(tmp_path, values, run) as ask:
        cases = [
            bench.Case(mode, key, value, rng.random() < 0.5)
            for key in keys
            for value in rng.sample(bench.VALUES, number)
        ]
        answers = {str(case): ask.ask(case) for case in cases}
    wrong = {case: answer for case, answer in answers.items() if answer.kind == "wrong"}
    assert not wrong
    assert len(answers) > 75
    kinds = [answer.kind for answer in answers.values()]
    assert kinds.count("one line") > len(answers) / 2


@pytest.mark.parametrize("mode", ["eval", "predict"])
def test_a_run_whose_config_names_other_classes(good, tmp_path, mode, capsys):
    run = shutil.copytree(good[0], tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["data"]["folder"]["class_names"] = ["a", "b", "c"]
    (run / "config.json").write_text(json.dumps(config))
    images = config["data"]["path"] + "/images"
    before = sorted(run.rglob("*"))
    line = ["main", f"--mode={mode}", f"--workdir={run}"]
    code = bench.command([*line, f"--input={images}"] if mode == "predict" else line)
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith(f"error: {run / 'checkpoints' / '1'} is not of this run's config: ")
    assert "config.data.folder.class_names: ('background', 'object') -> ('a', 'b', 'c')" in said
    assert said.count("\n") == 1
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_flags(name):
    line = [sys.executable, "-m", "experiments.bad_values.commands", name, "25"]
    done = forks.run(line, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 wrong" in done.stdout


def test_a_log_holds_lines_alone():
    """What is tried is shown on a terminal; a file gets no codes that move its cursor."""
    flags = ("--pages=tiny", "--modes=plan", "--only=train.seed")
    line = [sys.executable, "-m", "experiments.bad_values", *flags]
    done = subprocess.run(line, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{len(bench.VALUES)} tried: ".encode())
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.features": (65536, 65536)}, "lower config.model.features"),
        ({"train.batch_size": 65536, "data.image_size": (32768,)}, "config.train.batch_size"),
        ({"data.fit": "crop", "data.crops": 10**5}, "config.data.crops=100000 must be 10000 or"),
        ({"data.source": "synthetic", "data.synthetic.train": 10**7}, "train=10000000 must be"),
    ],
)
def test_what_would_take_all_memory_is_refused_before(good, tmp_path, capsys, changes, says):
    given = [f"--config.{key}={value}" for key, value in changes.items()]
    page = f"--config={good[0]}/config.json"
    code = bench.command(["main", page, f"--workdir={tmp_path}/run", *given])
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.startswith("error: ")
    assert says in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize("page", sorted((ROOT / "configs").glob("[!_]*.py")), ids=lambda f: f.stem)
def test_every_page_is_made_small(tmp_path, page):
    dataset, _ = open_data(**bench.small(load_page(str(page)).to_dict(), tmp_path)["data"])
    assert len(dataset.splits["train"]) + len(dataset.splits["val"]) >= 8
