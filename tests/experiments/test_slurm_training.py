"""The Slurm script on a real Slurm of two nodes: training, a lost node, a time limit, a mistake."""

import re
import subprocess
import sys
import time

import pytest
from support import slurm_cluster, xla
from support.clusters import SLURM
from support.engine_jobs import last_saved, wait_until
from support.paths import ROOT
from support.runs import TINY, metrics

from experiments.scale.compare import different_bytes, find_other

STEPS = 200
TICK = 30.0  # seconds between two looks of Slurm's controller at time limits, from its start on
FLAGS = [
    f"--config.train.duration={STEPS}",
    "--config.train.checkpoint_every=10",
    f"--config.train.eval_every={STEPS // 2}",
]


class Script:
    """Submits the script, and knows how long an undisturbed run of it took."""

    def __init__(self, folder, cluster, began):
        self.folder, self.cluster, self.began = folder, cluster, began
        self.env = xla.env() | cluster.env | {"PYTHON": sys.executable}
        self.env |= {"CONFIG": TINY.partition("=")[2]}

    def submit(self, name, *flags, options=()):
        """Returns the number of a job that trains in FOLDER/NAME, on two nodes."""
        line = ["sbatch", "--parsable", "--ntasks-per-node=1", "--cpus-per-task=1", "--gres=none"]
        line += ["--time=5", f"--output={self.folder / name}.log", *options, SLURM, *FLAGS, *flags]
        env = self.env | {"WORKDIR": str(self.folder / name)}
        return subprocess.run(
            line, cwd=ROOT, env=env, capture_output=True, text=True, check=True
        ).stdout.strip()

    def show(self, job):
        """Returns what Slurm says of a job: state, exit code and signal, how often it restarted."""
        line = ["scontrol", "show", "job", job]
        shown = subprocess.run(line, env=self.env, capture_output=True, text=True, check=True)
        found = dict(re.findall(r"(\w+)=(\S+)", shown.stdout))
        return found["JobState"], found["ExitCode"], found["Restarts"]

    def has_ended(self, job):
        state, *_ = self.show(job)
        return state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

    def end(self, job):
        wait_until(lambda: self.has_ended(job))
        return self.show(job)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    if slurm_cluster.missing():
        pytest.skip(f"a Slurm of this machine {slurm_cluster.missing()}")
    began = time.monotonic()
    with slurm_cluster.slurm_cluster(tmp_path_factory.mktemp("slurm"), nodes=3) as cluster:
        yield Script(tmp_path_factory.mktemp("runs"), cluster, began)


@pytest.fixture(scope="module")
def alone(script):
    """The undisturbed run: its directory, and the seconds to its first step and to its end."""
    began, workdir = time.monotonic(), script.folder / "alone"
    job = script.submit("alone")
    wait_until(lambda: (workdir / "metrics.jsonl").exists() or script.has_ended(job))
    first = time.monotonic() - began
    assert script.end(job) == ("COMPLETED", "0:0", "0"), script.log("alone")
    return workdir, first, time.monotonic() - began


def assert_went_on(script, alone, name):
    """Checks that a run was interrupted once and left the bytes of the undisturbed one."""
    [step] = re.findall(r"resumes at +step (\d+)", script.log(name))
    assert 0 < int(step) < STEPS
    workdir = script.folder / name
    assert find_other(alone, workdir) == []
    assert different_bytes(alone, workdir, STEPS) == 0
    return int(step)


@pytest.mark.slow
def test_two_nodes_train_as_one_run(script, alone):
    workdir, *_ = alone
    assert "2 x cpu" in script.log("alone")
    steps = [line["step"] for line in metrics(workdir) if "train/loss" in line]
    assert steps == list(range(1, STEPS + 1)), "one line per step"


@pytest.mark.slow
def test_the_time_limit_saves_and_requeues(script, alone):
    workdir, first, total = alone
    # Slurm looks at limits every 30 s; then this job should have steps behind it and before it.
    ahead = first + 0.2 * (total - first)
    time.sleep(-(time.monotonic() - script.began + ahead) % TICK)
    job = script.submit("limit", options=["--time=1", "--signal=TERM@58"])
    assert script.end(job) == ("COMPLETED", "0:0", "1")
    log = script.log("limit")
    assert log.count("Stopped with its state saved; requeued.") == 1
    step = assert_went_on(script, workdir, "limit")
    assert f"stopped at step {step} of {STEPS}; saved." in log


@pytest.mark.slow
def test_a_lost_node_requeues(script, alone):
    job = script.submit("lost")
    wait_until(lambda: last_saved(script.folder / "lost") or script.has_ended(job))
    script.cluster.kill_node("127.0.0.2", job)
    assert script.end(job) == ("COMPLETED", "0:0", "1")
    assert_went_on(script, alone[0], "lost")


# Task 1 finds a mistake while task 0 still starts.
MISTAKE = """#!/usr/bin/env bash
((SLURM_PROCID == 0)) || exit 2
exec sleep 3
"""


def test_a_mistake_is_not_requeued(script):
    python = script.folder / "python"
    python.write_text(MISTAKE)
    python.chmod(0o755)
    script.env |= {"PYTHON": str(python), "MAX_REQUEUES": "1"}
    assert script.end(script.submit("mistake")) == ("FAILED", "2:0", "0")
