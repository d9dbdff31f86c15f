"""Searches: with an engine that makes trials up, and once for real."""

import json

import pytest
from support.pretend import STEPS, Pretend, score_of
from support.sweeps import files, run, start, wait_for, write_page

from unet_jax.errors import StoppedError, UserError
from unet_jax.process.owner import SWEEP, owned
from unet_jax.runs.workdir import is_finished
from unet_jax.studies.pages import load_study
from unet_jax.studies.sweep.launcher import Sweep
from unet_jax.studies.sweep.probe import Answer, Facts, Timing
from unet_jax.studies.trials import read_study, read_trial

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

from unet_jax.studies.sweep import launcher, search  # noqa: E402

RANGES = (
    "{'optim.learning_rate': log_uniform(1e-4, 1e-1), "
    "'augment.flip.left_right': among(True, False)}"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(search, "POLL", 0)
    facts = Facts(steps=STEPS, batch_size=8, flops=1.0, evaluated=0)
    monkeypatch.setattr(
        launcher, "ask", lambda configs, *_, **__: Answer([facts] * len(configs), None)
    )


def make_sweep(tmp_path, ranges=RANGES, slots=1, base=None):
    page = write_page(tmp_path / "page.py", search=ranges)
    study = load_study(page)
    return Sweep(page, study, base or {}, tmp_path / "study", "single", [{}] * slots, True)


def do(sweep, engine, count, sampler="tpe"):
    with owned(sweep.folder, SWEEP):
        search.search(sweep, engine, sampler, count)


def asked(sweep):
    storage = search.storage_of(sweep.folder)
    return optuna.load_study(study_name="search", storage=storage).get_trials()


def states(sweep):
    return [trial.state.name for trial in asked(sweep)]


def test_a_search_finds_what_is_best_and_prunes_what_is_not(tmp_path, capsys):
    sweep, engine = make_sweep(tmp_path), Pretend()
    do(sweep, engine, 16)
    found = asked(sweep)
    assert len(found) == 16
    assert set(states(sweep)) == {"COMPLETE", "PRUNED"}
    best = max((t for t in found if t.value is not None), key=lambda t: t.value)
    assert best.params["augment.flip.left_right"] == "True"
    assert 3e-3 < best.params["optim.learning_rate"] < 3e-2
    # The score of a trial is that of its folder, whose config has the values of its name.
    record = read_study(sweep.folder)
    for frozen, name in zip(found, record.trials, strict=True):
        config = json.loads((sweep.folder / name / "config.json").read_text())
        rate = config["optim"]["learning_rate"]
        assert rate == pytest.approx(frozen.params["optim.learning_rate"], rel=1e-3)
        assert f"learning-rate={rate}" in name
        assert (
            read_trial(sweep.folder / name).factors["left_right"]
            == frozen.params["augment.flip.left_right"]
        )
        is_complete = frozen.state.name == "COMPLETE"
        assert is_finished(sweep.folder / name) == is_complete
        assert (name in engine.cancelled) == (not is_complete)
        if is_complete:
            assert frozen.value == pytest.approx(score_of(config, STEPS))
    # What was pruned was worse at that step than the median of those that got there.
    for frozen in found:
        if frozen.state.name == "PRUNED":
            step = max(frozen.intermediate_values)
            before = [t for t in found[: frozen.number] if t.state.name == "COMPLETE"]
            others = sorted(t.intermediate_values[step] for t in before)
            assert frozen.intermediate_values[step] < others[len(others) // 2]
    out = capsys.readouterr().out
    shown = f"best: val mIoU {best.value:.4f} with "
    assert shown in out
    assert "--config.augment.flip.left_right=True" in out.partition(shown)[2]
    assert engine.most == 1


def test_trials_counts_earlier_ones(tmp_path):
    sweep, first, second = make_sweep(tmp_path), Pretend(), Pretend()
    do(sweep, first, 3, "random")
    before = asked(sweep)
    do(sweep, second, 5, "random")
    assert len(first.submitted) == 3
    assert len(second.submitted) == 2
    assert [t.params for t in asked(sweep)[:3]] == [t.params for t in before]
    assert len({str(t.params) for t in asked(sweep)}) == 5, "it does not draw the same again"
    third = Pretend()
    do(sweep, third, 4)
    assert third.submitted == []


def test_a_search_that_dies_goes_on_in_the_same_folders(tmp_path):
    sweep, first, second = make_sweep(tmp_path, slots=2), Pretend(), Pretend()
    first.stop_after = 3
    with pytest.raises(StoppedError):
        do(sweep, first, 4)
    assert states(sweep) == ["RUNNING", "RUNNING"]
    before = [t.params for t in asked(sweep)]
    do(sweep, second, 4)
    assert second.submitted[:2] == first.submitted
    assert len(second.submitted) == 4
    assert [t.params for t in asked(sweep)[:2]] == before
    assert "RUNNING" not in states(sweep)
    assert len(states(sweep)) == 4
    assert second.most == 2
    for name in first.submitted:
        lines = (sweep.folder / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(x)["step"] for x in lines] == [1, 2, 3, 4, 5, 6], "none again"


def test_a_trial_that_was_asked_for_and_not_begun_goes_on(tmp_path):
    sweep = make_sweep(tmp_path)
    sweep.folder.mkdir()
    # It is killed before any value is drawn.
    search._open(sweep, "tpe", search.headline_of(sweep)).ask()
    engine = Pretend()
    do(sweep, engine, 2)
    assert states(sweep) == ["COMPLETE", "COMPLETE"]
    assert len(engine.submitted) == 2


def test_failures_are_told_and_the_rest_goes_on(tmp_path, capsys):
    sweep, engine = make_sweep(tmp_path), Pretend(fails=(1,))
    with pytest.raises(search.FailedTrialsError, match="1 trials failed"):
        do(sweep, engine, 4, "random")
    assert sorted(states(sweep)) == ["COMPLETE"] * 3 + ["FAIL"]
    assert f"failed: {engine.submitted[1]}" in capsys.readouterr().out


def test_a_point_that_comes_again_is_not_run_again(tmp_path):
    sweep, engine = make_sweep(tmp_path, "{'model.up': among('nearest', 'bilinear')}"), Pretend()
    do(sweep, engine, 6, "random")
    assert len(asked(sweep)) == 6
    assert sorted(set(engine.submitted)) == sorted(read_study(sweep.folder).trials)
    assert len(engine.submitted) == 2
    assert len({trial.value for trial in asked(sweep)}) == 1


def test_what_does_not_fit(tmp_path):
    engine = Pretend()
    with pytest.raises(UserError, match=r"page\.py has no ranges; give Study\(search="):
        do(make_sweep(tmp_path, "{}"), engine, 2)
    with pytest.raises(
        UserError, match=r"augment\.flip\.left_right is searched, so it cannot be set"
    ):
        do(make_sweep(tmp_path, base={"augment.flip.left_right": True}), engine, 2)
    with pytest.raises(UserError, match=r"rat=0\.\d+_\w+: optim\.rat is not a config key"):
        do(make_sweep(tmp_path, "{'optim.rat': uniform(0, 1)}"), engine, 2)
    do(make_sweep(tmp_path), engine, 1)
    with pytest.raises(UserError, match=r"another overrides: .*batch_size=4"):
        do(make_sweep(tmp_path, base={"train.batch_size": 4}), engine, 2)
    with pytest.raises(UserError, match="holds a search of another ranges"):
        do(make_sweep(tmp_path, "{'augment.flip.left_right': among(True, False)}"), engine, 2)
    do(make_sweep(tmp_path, base={"data.workers": 1}), engine, 2)
    assert len(engine.submitted) == 2


def test_the_plan_of_a_search_writes_nothing(tmp_path, monkeypatch, capsys):
    facts, timing = Facts(STEPS, 8, 1.0, 0), Timing(start=4.0, step=1.0, count=3, device="abacus")
    answer = lambda configs, *_, **__: Answer([facts] * len(configs), timing)  # noqa: E731
    monkeypatch.setattr(launcher, "ask", answer)
    sweep, engine = make_sweep(tmp_path), Pretend()
    search.print_search_plan(sweep, "tpe", 3)
    assert not sweep.folder.exists()
    out = capsys.readouterr().out
    assert "optim.learning_rate  log_uniform (0.0001, 0.1)" in out
    assert "3 trials, 0 ended, 0 begun" in out
    assert "about 0:30 one by one, 0:10 each" in out
    assert "abacus" in out
    engine.stop_after = STEPS + 2
    with pytest.raises(StoppedError):
        do(sweep, engine, 3)
    before = files(sweep.folder)
    search.print_search_plan(sweep, "tpe", 3)
    assert files(sweep.folder) == before
    out = capsys.readouterr().out
    assert "3 trials, 1 ended, 1 begun" in out
    assert "about 0:20 one by one" in out


def test_a_real_search_killed_and_continued(tmp_path):
    ranges = "{'optim.learning_rate': log_uniform(1e-3, 1e-2), 'train.seed': integers(0, 9)}"
    page, folder = write_page(tmp_path / "page.py", search=ranges), tmp_path / "study"
    flags = ("--search=random", "--trials=2", "--max_parallel=2")
    with start(page, folder, *flags) as process:
        wait_for(process, lambda: len(list(folder.glob("*/metrics.jsonl"))) == 2)
        process.kill()
        process.communicate()
    begun = read_study(folder).trials
    assert len(begun) == 2
    code, out, error = run(page, folder, *flags)
    assert code == 0, error
    assert read_study(folder).trials == begun
    scores = [json.loads((folder / n / "results.json").read_text())["val"]["mIoU"] for n in begun]
    best = begun[scores.index(max(scores))]
    rate = read_trial(folder / best).overrides["optim.learning_rate"]
    shown = out.partition(f"best: val mIoU {max(scores):.4f} with ")[2]
    assert f"--config.optim.learning_rate={rate}" in shown
