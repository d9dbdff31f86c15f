"""What a task of a Slurm array does on its node, with stand-ins for Slurm's programs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.clusters import NOTE, calls, stand_ins
from support.engine_jobs import SAVED, stoppable, wait_until
from support.paths import ROOT


@pytest.fixture
def cluster(tmp_path):
    found = stand_ins(tmp_path)
    found.folder = tmp_path / "my study" / "engine"
    return found


def start_task(cluster, *command, **env):
    array = cluster.folder / "slurm" / "0000_1"
    array.mkdir(parents=True)
    log = cluster.folder.parent / "a" / "job.log"
    lines = [{}, {"name": "a", "command": command, "log": str(log)}]
    (array / "jobs.json").write_text(json.dumps(lines))
    (array / "1.exit").write_text("5\n")
    cluster.add("scontrol", f'set -- scontrol "$@"\n{NOTE}exit ${{REFUSE:-0}}')
    line = [sys.executable, "-m", "unet_jax.studies.engines.slurm_task", str(array)]
    env = cluster.env | {"SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "23"} | env
    task = subprocess.Popen(line, cwd=ROOT, env=env, start_new_session=True)
    return task, log, array / "1.exit"


@pytest.mark.parametrize(
    ("end", "code", "how"),
    [
        ("exit 0", 0, ""),
        ("exit 3", 3, "ended with exit code 3\n"),
        ("kill -KILL $$", 137, "ended with SIGKILL\n"),
    ],
)
def test_a_task_runs_its_job(cluster, end, code, how):
    task, log, result = start_task(cluster, "bash", "-c", f"pwd; echo error >&2; {end}")
    assert task.wait(60) == code
    assert log.read_text() == f"{ROOT}\nerror\n{how}"
    assert result.read_text() == f"{code}\n"
    assert calls(cluster) == []


@pytest.mark.parametrize(
    ("signals", "env", "requeues", "result"),
    [
        ("USR1", {}, 1, None),
        ("USR2", {}, 0, "143\n"),
        ("USR1 USR2", {}, 0, "143\n"),
        ("USR1", {"SLURM_RESTART_COUNT": "100"}, 0, "143\n"),
        ("USR1", {"REFUSE": "1"}, 1, "143\n"),
        ("TERM", {}, 0, "143\n"),
    ],
)
def test_a_task_that_is_told_to_stop_saves(cluster, signals, env, requeues, result):
    task, log, file = start_task(cluster, *stoppable(saving=0.5), **env)
    wait_until(lambda: log.exists() and "started" in log.read_text())
    assert not file.exists(), "the exit code of an earlier start is gone"
    for name in signals.split():
        if name == "TERM":  # Slurm sends it to all processes of the task
            os.killpg(task.pid, signal.SIGTERM)
        else:
            task.send_signal(signal.Signals[f"SIG{name}"])
        time.sleep(0.2)
    assert task.wait(60) == 143
    assert log.read_text() == SAVED
    assert calls(cluster) == [["scontrol", "requeue", "23"]] * requeues
    assert (file.read_text() if file.exists() else None) == result


def test_a_job_that_ends_by_itself_at_the_limit_is_not_requeued(cluster):
    task, log, result = start_task(cluster, *stoppable(saving=0.0, code=0))
    wait_until(lambda: log.exists() and "started" in log.read_text())
    task.send_signal(signal.SIGUSR1)
    assert task.wait(60) == 0
    assert result.read_text() == "0\n"
    assert calls(cluster) == []


def test_a_job_dies_with_its_task(cluster):
    task, log, _ = start_task(cluster, *stoppable(saving=60.0))
    wait_until(lambda: log.exists() and "started" in log.read_text())
    [pid] = subprocess.run(
        ["pgrep", "-P", str(task.pid)], capture_output=True, text=True
    ).stdout.split()
    task.kill()
    task.wait()
    wait_until(lambda: subprocess.run(["kill", "-0", pid], capture_output=True).returncode)
