"""Searches: with an engine that makes trials up, and once for real."""

import json
import math

import pytest
from sweeps import files, run, start, wait_for, write_page

from experiments.pages import load_study
from experiments.sweep.launcher import Sweep
from experiments.sweep.probe import Answer, Facts, Timing
from experiments.trials import locked, read_study, read_trial
from unet_jax.errors import StoppedError, UserError
from unet_jax.workdir import is_finished, write_results

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

from experiments.sweep import search  # noqa: E402

RANGES = "{'optim.learning_rate': log_uniform(1e-4, 1e-1), 'augment.flip_lr': among(True, False)}"
STEPS = 6


def score_of(config, step):
    """The best learning rate is 1e-2, with flips; later steps are better."""
    distance = abs(math.log10(config["optim"]["learning_rate"]) + 2)
    return (1 - distance / 4 - 0.1 * (not config["augment"]["flip_lr"])) * step / STEPS


class Pretend:
    """An engine whose trials take a step of two at every look, and a score at each."""

    def __init__(self, fails=()):
        self.jobs, self.steps, self.status, self.fails = {}, {}, {}, fails
        self.cancelled, self.submitted, self.most = [], [], 0
        self.looks, self.stop_after = 0, None

    def submit(self, jobs):
        for job in jobs:
            if self.status.get(job.name) not in ("waiting", "running"):
                self.submitted.append(job.name)
                self.jobs[job.name], self.status[job.name] = job, "running"
                file = job.trials[0] / "metrics.jsonl"
                self.steps[job.name] = len(file.read_text().splitlines()) if file.exists() else 0

    def watch(self):
        self.looks += 1
        if self.stop_after and self.looks > self.stop_after:
            raise StoppedError("", 15)
        running = [name for name, status in self.status.items() if status == "running"]
        self.most = max(self.most, len(running))
        for name in running:
            self._advance(name, self.jobs[name].trials[0])
        return dict(self.status)

    def _advance(self, name, folder):
        if len(self.submitted) - 1 in self.fails and name == self.submitted[-1]:
            self.status[name] = "failed"
            return
        self.steps[name] += 1
        step, config = self.steps[name], json.loads((folder / "config.json").read_text())
        score = score_of(config, step)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "val/mIoU": score}) + "\n")
        if step == STEPS:
            write_results(
                folder, val={"step": step, "mIoU": score}, train={"step": step, "best_step": step}
            )
            self.status[name] = "done"

    def cancel(self, names=None):
        for name in self.status if names is None else names:
            if self.status[name] == "running":
                self.cancelled.append(name)
                self.status[name] = "failed"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(search, "POLL", 0)
    facts = Facts(steps=STEPS, batch_size=8, flops=1.0, evaluated=0)
    monkeypatch.setattr(
        search, "ask", lambda configs, env, study: Answer([facts] * len(configs), None)
    )


def make_sweep(tmp_path, ranges=RANGES, slots=1, base=None):
    page = write_page(tmp_path / "page.py", search=ranges)
    study = load_study(page)
    return Sweep(page, study, base or {}, tmp_path / "study", "single", [{}] * slots, True)


def do(sweep, engine, count, sampler="tpe"):
    with locked(sweep.folder):
        search.search(sweep, engine, sampler, count)


def asked(sweep):
    storage = f"sqlite:///{sweep.folder / search.STORAGE}"
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
    assert best.params["augment.flip_lr"] == "True"
    assert 3e-3 < best.params["optim.learning_rate"] < 3e-2
    # The score of a trial is that of its folder, whose config has the values of its name.
    record = read_study(sweep.folder)
    for frozen, name in zip(found, record.trials, strict=True):
        config = json.loads((sweep.folder / name / "config.json").read_text())
        rate = config["optim"]["learning_rate"]
        assert rate == pytest.approx(frozen.params["optim.learning_rate"], rel=1e-3)
        assert f"learning-rate={rate}" in name
        assert (
            read_trial(sweep.folder / name).factors["flip_lr"] == frozen.params["augment.flip_lr"]
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
    assert "--config.augment.flip_lr=True" in out.partition(shown)[2]
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
    search._open(sweep, "tpe").ask()  # and then it was killed, before any value was drawn
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
    with pytest.raises(UserError, match=r"augment\.flip_lr is searched, so it cannot be set"):
        do(make_sweep(tmp_path, base={"augment.flip_lr": True}), engine, 2)
    with pytest.raises(UserError, match=r"rat=0\.\d+_\w+: optim\.rat is not a config key"):
        do(make_sweep(tmp_path, "{'optim.rat': uniform(0, 1)}"), engine, 2)
    do(make_sweep(tmp_path), engine, 1)
    with pytest.raises(UserError, match=r"another overrides: .*batch_size=4"):
        do(make_sweep(tmp_path, base={"train.batch_size": 4}), engine, 2)
    with pytest.raises(UserError, match="holds a search of another ranges"):
        do(make_sweep(tmp_path, "{'augment.flip_lr': among(True, False)}"), engine, 2)
    do(make_sweep(tmp_path, base={"data.workers": 1}), engine, 2)
    assert len(engine.submitted) == 2


def test_the_plan_of_a_search_writes_nothing(tmp_path, monkeypatch, capsys):
    facts, timing = Facts(STEPS, 8, 1.0, 0), Timing(start=4.0, step=1.0, count=3, device="abacus")
    monkeypatch.setattr(search, "ask", lambda *_, timed=False: Answer([facts], timing))
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
