"""A study of which some trials are impossible: the others run, and all say which and why."""

import json
import subprocess
import sys

import optuna
import pytest
from support.paths import ROOT
from support.pretend import Pretend
from support.sweeps import files, write_page

from unet_jax.errors import UserError
from unet_jax.report.blocks import Points
from unet_jax.report.course import failures_section
from unet_jax.report.material import gather
from unet_jax.report.numbers import trial_table
from unet_jax.studies.naming import make_trials
from unet_jax.studies.pages import load_study
from unet_jax.studies.sweep import launcher, probe, search
from unet_jax.studies.sweep.launcher import Sweep, print_plan, run_design
from unet_jax.studies.sweep.probe import Answer, Facts, Timing
from unet_jax.studies.sweep.running import FailedTrialsError, ImpossibleTrialsError
from unet_jax.studies.trials import read_study

REASON = "config.model.features=() must be channels per level, such as (64, 128)."
DESIGN = "grid(values('model.features', (4, 8), ()), seeds(2))"


@pytest.fixture(autouse=True)
def pretend(monkeypatch):
    """Lets `ask` answer at once, as it does from its process; returns what was asked."""
    asked, facts = [], Facts(steps=12, batch_size=8, flops=1.0, evaluated=0)

    def ask(configs, env, study, *, timed=False, skips=False):
        asked.append(list(configs))
        wrong = {name: REASON for name, config in configs.items() if not config.model.features}
        for name in () if skips else wrong:
            raise UserError(f"{name}: {REASON}")
        timing = Timing(4.0, 1.0, 3, "abacus") if timed else None
        return Answer([facts] * (len(configs) - len(wrong)), timing, wrong)

    for module in (launcher, search):
        monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr(search, "POLL", 0)
    monkeypatch.setattr(launcher, "run_jobs", run_jobs)
    return asked


def run_jobs(engine, jobs, board):
    engine.submit(jobs)
    while "running" in engine.watch().values():
        pass
    return engine.watch()


def make_sweep(tmp_path, design=DESIGN, skips=True, ranges="{}", mode="single"):
    page = write_page(tmp_path / "page.py", design, search=ranges)
    (tmp_path / "study").mkdir(exist_ok=True)
    return Sweep(page, load_study(page), {}, tmp_path / "study", mode, [{}], True, skips)


def test_the_others_run_and_all_say_which_are_left_out_and_why(tmp_path, capsys):
    sweep, engine = make_sweep(tmp_path), Pretend()
    names = [trial.name for trial in make_trials(sweep.study)]
    wrong = {name: REASON for name in names if name.startswith("features=--")}
    right = [name for name in names if name not in wrong]
    assert (len(right), len(wrong)) == (2, 2)
    print_plan(sweep)
    plan = capsys.readouterr().out
    assert files(sweep.folder) == {}
    assert [plan.count(f"{name}  impossible: {REASON}\n") for name in names] == [0, 0, 1, 1]
    assert [plan.count(f"{name}  new, about") for name in names] == [1, 1, 0, 0]
    assert "0 packed, 2 of one trial each" in plan
    for again in (False, True):
        with pytest.raises(ImpossibleTrialsError, match=f"left out: {', '.join(wrong)}; all other"):
            run_design(sweep, engine)
        out = capsys.readouterr().out
        assert [out.count(f"impossible: {name}: {REASON}\n") for name in wrong] == [1, 1]
        assert ("2 trials, 0 finished before" in out) != again
        assert engine.submitted == right
    assert ImpossibleTrialsError.exit_code == 5
    record = read_study(sweep.folder)
    assert (record.trials, record.impossible) == (right, wrong)
    assert not [name for name in wrong if (sweep.folder / name).exists()]
    material = gather([sweep.folder], "val", {})
    blocks = failures_section(material, trial_table(material)).blocks
    assert Points(tuple(f"{name}: {REASON}" for name in wrong)) in blocks


def test_a_failure_counts_more(tmp_path):
    with pytest.raises(FailedTrialsError, match="1 of 2 trials failed"):
        run_design(make_sweep(tmp_path), Pretend(fails=(1,)))


def test_what_the_page_gets_wrong_is_refused_whole(tmp_path):
    engine = Pretend()
    with pytest.raises(UserError, match=r"^features=--,seed=0_\w+: config.model.features=\(\)"):
        run_design(make_sweep(tmp_path, skips=False), engine)
    every = "grid(values('model.features', ()), seeds(2))"
    with pytest.raises(UserError, match=r"^every trial: config\.model\.features=\(\) must be"):
        run_design(make_sweep(tmp_path, every), engine)
    mixed = "union(values('model.features', ()), values('model.depth', 1))"
    with pytest.raises(UserError, match=r"^no trial is possible: .*depth is not a config key"):
        run_design(make_sweep(tmp_path, mixed), engine)
    assert not engine.submitted
    assert files(tmp_path / "study") == {}


def test_a_config_that_cannot_be_made_is_impossible_too(tmp_path):
    mixed = "union(seeds(1), values('model.depth', 1))"
    sweep, engine = make_sweep(tmp_path, mixed, mode="packed"), Pretend()
    with pytest.raises(ImpossibleTrialsError, match="left out: depth=1_"):
        run_design(sweep, engine)
    assert len(engine.submitted) == 1
    assert "is not a config key" in next(iter(read_study(sweep.folder).impossible.values()))


def test_a_search_leaves_them_out_too(tmp_path, capsys):
    ranges = "{'model.features': among((4, 8), ()), 'train.seed': integers(0, 99)}"
    sweep, engine = make_sweep(tmp_path, ranges=ranges), Pretend()
    with pytest.raises(ImpossibleTrialsError):
        search.search(sweep, engine, "random", 4)
    record = read_study(sweep.folder)
    assert set(record.impossible.values()) == {REASON}
    assert sorted(engine.submitted) == sorted(record.trials)
    assert len(record.trials) + len(record.impossible) == 4
    states = optuna.load_study(
        study_name="search", storage=search.storage_of(sweep.folder)
    ).get_trials()
    failed = [trial for trial in states if trial.state == optuna.trial.TrialState.FAIL]
    assert len(failed) == len(record.impossible)
    # One that goes on still knows.
    capsys.readouterr()
    with pytest.raises(ImpossibleTrialsError):
        search.search(sweep, engine, "random", 5)
    out = capsys.readouterr().out
    assert all(f"impossible: {name}: {REASON}" in out for name in record.impossible)


def test_the_process_that_checks_goes_on_after_one_that_is_impossible(tmp_path):
    from unet_jax.config import to_json
    from unet_jax.studies.pages import make_config

    found = []
    for index, features in enumerate([(), (4,), ()]):
        found.append(tmp_path / f"{index}.json")
        found[-1].write_text(to_json(make_config("configs/tiny.py", {"model.features": features})))
    reply = tmp_path / "reply.json"
    probe.main(["probe", str(reply), "0", "1", *map(str, found)])
    answer = json.loads(reply.read_text())
    assert list(answer["errors"]) == ["0", "2"]
    assert [Facts(*facts).steps for facts in answer["facts"]] == [40]
    probe.main(["probe", str(reply), "0", "0", *map(str, found)])
    assert list(json.loads(reply.read_text())["errors"]) == ["0"]


def test_the_flag_reaches_the_sweep(tmp_path):
    page = write_page(tmp_path / "page.py")
    program = f"""if True:
        import sys
        from absl import flags
        import unet_jax.studies.sweep.__main__ as command
        from unet_jax.studies.sweep import launcher
        flags.FLAGS(["x", "--skip_impossible", "--dry_run", "--study={page}", "--workdir=w"])
        launcher.print_plan = lambda sweep: print("skips", sweep.skips)
        command.run()
    """
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "skips True\n", done.stderr
