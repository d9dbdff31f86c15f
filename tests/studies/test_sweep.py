"""The real sweep command, from a study page to finished trials, through deaths."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from support import forks
from support.paths import ROOT
from support.runs import TINY, metrics
from support.sweeps import STEPS, assert_same, files, run, start, wait_for, write_page

from unet_jax import experiment
from unet_jax.config import to_json
from unet_jax.errors import UserError
from unet_jax.models.anatomy import forward_flops
from unet_jax.models.unet import UNet
from unet_jax.runs.workdir import is_finished
from unet_jax.studies.naming import make_trials
from unet_jax.studies.pages import load_study, make_config
from unet_jax.studies.sweep import launcher, probe, running
from unet_jax.studies.sweep.launcher import Sweep, run_design, unfinished
from unet_jax.studies.sweep.probe import Facts
from unet_jax.studies.trials import last_line, read_study, read_trial

DESIGN = "zipped(values('optim.learning_rate', 1e-3, 3e-3, 1e-2), seeds(3))"
TWO = "--max_parallel=2"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep that nobody disturbs."""
    folder = tmp_path_factory.mktemp("sweeps")
    baseline = "{'learning_rate': '0.003'}"
    page = write_page(folder / "page.py", DESIGN, baseline=baseline)
    code, out, error = run(page, folder / "study", TWO)
    assert code == 0, error
    return page, folder / "study", out


def test_a_sweep_leaves_what_it_promises(finished):
    page, folder, out = finished
    record = read_study(folder)
    assert record.study == str(page)
    assert record.baseline == {"learning_rate": "0.003"}
    assert record.factors == {"learning_rate": ["0.001", "0.003", "0.01"], "seed": ["0", "1", "2"]}
    assert len(record.trials) == 3
    for name in record.trials:
        trial, run_folder = read_trial(folder / name), folder / name
        assert trial.name == name
        config = json.loads((run_folder / "config.json").read_text())
        assert str(config["train"]["seed"]) == trial.factors["seed"]
        assert str(config["optim"]["learning_rate"]) == trial.factors["learning_rate"]
        assert config["train"]["duration"] == "12 steps"
        assert is_finished(run_folder)
        assert "unet_jax" in (run_folder / "log.txt").read_text()
        score = json.loads((run_folder / "results.json").read_text())["val"]["mIoU"]
        labels = re.escape(trial.factors["learning_rate"]), trial.factors["seed"]
        assert re.search(rf"{labels[0]}\W+{labels[1]}\W+{score:.4f}", out)
    losses = {str([x.get("train/loss") for x in metrics(folder / n)]) for n in record.trials}
    assert len(losses) == 3, "each trial has its own values"
    assert f"python -m experiments.report {folder}" in out


def test_a_trial_is_an_ordinary_run(finished, tmp_path, command):
    _, folder, _ = finished
    name = read_study(folder).trials[2]
    given = [
        f"--config.{key}={value}" for key, value in read_trial(folder / name).overrides.items()
    ]
    done = command(TINY, *given, f"--workdir={tmp_path}/alone")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "alone", folder / name)


@pytest.mark.slow
def test_killed_twice_and_continued_it_ends_as_if_undisturbed(finished, tmp_path):
    page, undisturbed, _ = finished
    names, rng = read_study(undisturbed).trials, random.Random(time.time_ns())
    folder, done_before = tmp_path / "study", {}
    for turn in range(2):
        with start(page, folder, TWO) as process:
            # A random step of one of the trials that this turn runs, and a random moment of it.
            todo = [name for name in names if not is_finished(folder / name)]
            step = rng.randrange(1, STEPS)

            def is_there(todo=todo, step=step):
                logs = [folder / name / "metrics.jsonl" for name in todo]
                return any(f'"step": {step},' in f.read_text() for f in logs if f.exists())

            wait_for(process, is_there)
            time.sleep(rng.random() * 0.5)
            process.kill()
            process.communicate()
        time.sleep(0.2)  # until the kernel has ended the trials
        assert not is_alive(folder), "trials die with their sweep"
        assert not all(is_finished(folder / name) for name in names)
        for name in names:
            if is_finished(folder / name):
                done_before.setdefault(name, (turn, files(folder / name)))
    code, _, error = run(page, folder, TWO)
    assert code == 0, error
    assert read_study(folder) == read_study(undisturbed)
    for name in names:
        assert_same(folder / name, undisturbed / name)
    for name, (_, before) in done_before.items():
        after = files(folder / name)
        kept = {"results.json", "metrics.jsonl", "log.txt", "config.json"}
        assert {k: after[k] for k in kept} == {k: before[k] for k in kept}, "it is not run again"


def is_alive(folder):
    line = ["pgrep", "--full", f"unet_jax.main --workdir={folder}"]
    return subprocess.run(line, capture_output=True).returncode == 0


def test_a_new_value_runs_only_its_trials_and_a_failure_lets_the_rest_go_on(finished, tmp_path):
    page, folder, _ = finished
    before = {name: files(folder / name) for name in read_study(folder).trials}
    design = "zipped(values('optim.learning_rate', 1e30, 1e-3, 3e-3, 2e-2), seeds((3, 0, 1, 4)))"
    more = write_page(tmp_path / "more.py", design)
    code, out, error = run(more, folder, TWO)
    assert code == 1, error
    (bad, *_, new) = read_study(folder).trials
    assert "4 trials, 2 finished before" in out
    assert error == ("error: 1 of 4 trials failed; the same command tries them again.\n")
    told = out.partition("failed: ")[2]
    assert told.startswith(bad)
    assert "the loss is" in told
    assert "ended with exit code 3" in told
    assert is_finished(folder / new)
    assert {name: files(folder / name) for name in before} == before
    # The first study's are as they were: nothing is left to do, and no process is started.
    began = time.monotonic()
    code, out, _ = run(page, folder, TWO)
    assert code == 0
    assert time.monotonic() - began < 10
    assert len(re.findall(r"0\.\d{4}", out)) == 3


def test_a_stopped_sweep_saves_its_trials_and_says_how_to_go_on(tmp_path):
    page = write_page(tmp_path / "page.py", "seeds(3)", steps=2000, every=1000)
    folder = tmp_path / "study"

    def logs():
        return list(folder.glob("*/metrics.jsonl"))

    with start(page, folder, TWO) as process:
        wait_for(process, lambda: list(folder.glob("*/config.json")))  # while the trials start
        code, _, error = run(page, folder)
        assert code == 2
        holder = rf"a sweep: process {process.pid} on \S+, since [^,]+, `.*experiments\.sweep .*`"
        assert re.fullmatch(
            rf"error: --workdir={re.escape(str(folder))} is in use by {holder}; wait for its end, "
            r"stop it, or choose another directory\.\n",
            error,
        )
        wait_for(process, lambda: [last_line(f.parent)["step"] > 5 for f in logs()] == [True] * 2)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.startswith("stopped; what had begun is saved. The same command goes on: ")
    assert f"python -m experiments.sweep --study={page} --workdir={folder} --nopack {TWO}" in error
    assert error.count("\n") == 1
    assert "0/3 trials finished, 2 running" in out
    first, second, third = read_study(folder).trials
    begun = {}
    for name in (first, second):
        log = (folder / name / "log.txt").read_text()
        begun[name] = int(re.search(r"stopped at step (\d+) of 2000; saved", log)[1])
        assert (folder / name / "checkpoints" / str(begun[name])).is_dir()
    assert not (folder / third / "log.txt").exists()
    before = files(folder)
    code, out, error = run(page, folder, "--dry_run", "--set=data.workers=3")
    assert code == 0, error
    assert files(folder) == before
    for name, step in begun.items():
        assert re.search(rf"{re.escape(name)}  at step {step} of 2000, about \d", out)
    assert re.search(rf"{re.escape(third)}  new, about \d+:\d\d", out)
    assert "--config.train.seed=2" in out
    assert "--config.data.workers=3" in out
    assert "3 of one trial each" in out
    assert re.search(r"estimated from \d+ train steps of .*cpu", out)
    # SIGTERM before anything runs, and in a sweep that goes on with other harmless values.
    with start(page, folder, "--set=data.workers=1") as process:
        wait_for(process, lambda: "resumes at" in (folder / first / "log.txt").read_text())
        process.terminate()
        assert process.wait(120) == 143
        process.communicate()
    assert json.loads((folder / first / "config.json").read_text())["data"]["workers"] == 1


class Never:
    """An engine that must not be needed."""

    def submit(self, jobs):
        pytest.fail(f"submitted {jobs}")

    watch = cancel = submit


def make_sweep(page, folder, base=None):
    return Sweep(page, load_study(page), base or {}, folder, "single", [{}], True)


def test_nothing_runs_where_a_config_does_not_fit(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    bad = "choices('up', {'ok': {}, 'bad': {'model.up_filters': ((9, 0, 2),)}})"
    page = write_page(tmp_path / "page.py", bad)
    with pytest.raises(UserError, match=r"^up=bad_.*config\.model\.up_filters: .*does not make n"):
        run_design(make_sweep(page, folder), Never())
    page = write_page(tmp_path / "page.py", "choices('up', {'bad': {'model.upp': 1}})")
    with pytest.raises(UserError, match=r"^up=bad_.*: model\.upp is not a config key"):
        run_design(make_sweep(page, folder), Never())
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim.schedule": "sine"}, r"config\.optim\.schedule='sine' is not known"),
        ({"train.log_every": "x"}, r"config\.train\.log_every='x' is no duration"),
        ({"train.seed": -1}, r"config\.train\.seed=-1 must be 0 or more"),
        ({"optim.learning_rate": float("nan")}, r"config\.optim\.learning_rate=nan must be finite"),
        (
            {"augment.zoom.scale": (1.0, float("inf"))},
            r"config\.augment\.zoom\.scale\[1\]=inf",
        ),
        ({"model.dropout": (float("nan"),)}, r"config\.model\.dropout\[0\]=nan must be finite"),
        ({"train.batch_size": 12}, r"config\.train\.batch_size=12 cannot be split"),
        ({"eval.batch_size": 12}, r"config\.eval\.batch_size=12 cannot be split"),
        ({"augment.colour.hue": 0.9}, r"config\.augment\.colour\.hue=0\.9 must be from 0 to"),
        ({"loss.dice.weight": -1.0}, r"config\.loss\.dice\.weight=-1\.0 must be from 0 to"),
        ({"model.features": ()}, r"config\.model\.features=\(\) must be channels"),
        ({"mesh.space": 3}, r"config\.mesh .* does not fit 8 devices"),
    ],
)
def test_every_section_is_checked(changes, message, tmp_path):
    files = [tmp_path / "0.json", tmp_path / "1.json"]
    for file, given in zip(files, ({}, changes), strict=True):
        file.write_text(to_json(make_config("configs/tiny.py", given)))
    found = probe.answer(files, timed=False, began=0.0)
    assert list(found["errors"]) == [1]
    assert re.match(message, found["errors"][1])


def test_what_differs_in_numbers_is_put_together_once(tmp_path, monkeypatch):
    calls, real = [], experiment.assemble

    def assemble(config, kept, like, *found):
        calls.extend([config] if like is None else [])
        return real(config, kept, like, *found)

    monkeypatch.setattr(experiment, "assemble", assemble)
    given = [
        {},
        {"train.seed": 7},
        {"optim.learning_rate": 0.1, "loss.dice.weight": 0.5},
        {"train.duration": "80 steps", "train.eval_every": "50%"},
        {"train.batch_size": 16, "augment.colour.hue": 0.1},
        {"model.features": (8, 16)},
    ]
    files = [tmp_path / f"{index}.json" for index in range(len(given))]
    for file, changes in zip(files, given, strict=True):
        file.write_text(to_json(make_config("configs/tiny.py", changes)))
    facts = [Facts(*x) for x in probe.answer(files, timed=False, began=0.0)["facts"]]
    assert len(calls) == 2
    assert [x.steps for x in facts] == [40, 40, 40, 80, 40, 40]
    assert [x.batch_size for x in facts] == [8, 8, 8, 8, 16, 8]
    assert [x.evaluated for x in facts] == [20] * 6
    assert facts[0].flops == facts[4].flops
    model, image = UNet(6, **make_config("configs/tiny.py", {}).model), jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    assert facts[0].flops == forward_flops(model, variables, image.shape)
    assert facts[5].flops > 2 * facts[0].flops


def test_a_page_that_has_changed_since_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "ask", lambda *a, **k: pytest.fail("it is too late to ask"))
    page, folder = write_page(tmp_path / "page.py"), tmp_path / "study"
    sweep = make_sweep(page, folder)
    trials = make_trials(sweep.study)
    name = trials[1].name
    configs = unfinished(sweep, trials)
    (folder / name).mkdir(parents=True)
    old = configs[name].to_dict()
    old["loss"]["dice"]["weight"], dice_weight = 0.25, old["loss"]["dice"]["weight"]
    old["eval"]["batch_size"] = 4  # which may differ
    (folder / name / "config.json").write_text(json.dumps(old))
    with pytest.raises(UserError) as error:
        run_design(sweep, Never())
    changed = f"config.loss.dice.weight: 0.25 -> {dice_weight}."
    assert f"{folder / name} holds a run of another config: {changed}" in str(error.value)


def test_estimates_follow_flops_and_own_speed(tmp_path):
    from unet_jax.studies.sweep.outlook import time_left
    from unet_jax.studies.sweep.probe import Timing

    first = Facts(steps=100, batch_size=8, flops=1e6, evaluated=0)
    timing = Timing(start=5.0, step=0.1, count=3, device="")
    assert time_left(tmp_path, first, first, timing) == pytest.approx(5 + 100 * 0.1)
    larger = Facts(steps=50, batch_size=16, flops=3e6, evaluated=240)
    # Three times the FLOPs for each of 800 images, and for a third of 240.
    seconds = 5 + 3 * (800 + 80) * 0.1 / 8
    assert time_left(tmp_path, larger, first, timing) == pytest.approx(seconds)
    (tmp_path / "checkpoints" / "25").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").write_text('{"step": 30, "images_per_s": 20.0}\n')
    assert time_left(tmp_path, larger, first, timing) == pytest.approx(5 + (800 + 80) / 2 / 20)


def test_progress_says_what_compiles_and_does_not_count_up_meanwhile(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(running, "PLAIN_SECONDS", 0.0)
    facts = Facts(steps=100, batch_size=8, flops=1.0, evaluated=0)
    board = running.Board(tmp_path, {"a": facts, "b": facts}, 2)

    def say(now, a, b, step, of):
        (tmp_path / of).mkdir(exist_ok=True)
        (tmp_path / of / "metrics.jsonl").write_text(f'{{"step": {step}}}\n' if step else "")
        clock.now = now
        with running.console.capture() as capture:
            board.update({"a": a, "b": b})
        return capture.get().replace("\n", "")

    said = say(5, "running", "waiting", 0, "a")
    assert f"1 running, 1 of them starting or compiling (see {tmp_path / 'a' / 'log.txt'})" in said
    assert "-:-- left" in said
    said = say(10, "running", "waiting", 50, "a")
    assert "compiling" not in said
    assert "25% of the work, 0:30 left" in said
    said = say(20, "done", "running", 0, "b")
    assert f"compiling (see {tmp_path / 'b' / 'log.txt'})" in said
    assert "0:20 left" in said
    assert "0:05 left" in say(35, "done", "running", 0, "b")
    assert "0:00 left" in say(50, "done", "running", 0, "b")
    said = say(60, "done", "running", 50, "b")
    assert "compiling" not in said
    assert "75% of the work, 0:20 left" in said


def test_flags_that_do_not_fit_end_in_one_line(tmp_path):
    page = write_page(tmp_path / "page.py")
    for given, message in {
        (f"--workdir={tmp_path}/x",): "Give the study page: --study=FILE",
        (f"--study={page}",): "Give the directory of the study: --workdir=DIRECTORY",
        (f"--study={page}", f"--workdir={tmp_path}/x", "--engine=pbs"): "local|slurm|ray",
        (f"--study={tmp_path}/no.py", f"--workdir={tmp_path}/x"): "is no file; give a study page",
        (f"--study={page}", f"--workdir={tmp_path}/x", "--set=train.seed=1"): "is varied by",
        (f"--study={page}", f"--workdir={tmp_path}/x", "--search=tpe"): "has no ranges",
        (f"--study={page}", f"--workdir={tmp_path}/x", "--sweep=3"): "sweep",
    }.items():
        line = [sys.executable, "-m", "experiments.sweep", *given]
        done = forks.run(line, cwd=ROOT)
        assert done.returncode == 2, (given, done.stderr)
        assert message in done.stderr, given
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_help_touches_no_device():
    code = (
        "import sys; from unet_jax import command_line; "
        "from unet_jax.studies.sweep import __main__ as sweep; "
        "command_line.run(['x', '--help'], sweep.run, sweep); sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for flag in ("study", "workdir", "dry_run", "set", "pack", "max_parallel", "search", "trials"):
        assert f"--{flag}" in done.stdout or f"--[no]{flag}" in done.stdout
