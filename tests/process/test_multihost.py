"""Two and four real processes on this machine, as on so many hosts."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support import forks, xla
from support.paths import ROOT
from support.processes import finish, start
from support.runs import DRAWN, TINY, assert_same_run, metrics, wait_for

from experiments.scale.launch import free_port
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sample import Sample
from unet_jax.data.sources import Loading
from unet_jax.process import runtime

LOST_SECONDS = 30  # in which a process has to notice that another died

# Gloo's native threads write these, and into each other's lines.
GLOO = {"Gloo", "Rank", "is", "connected", "to", "peer", "ranks", "Expected", "number", "of"}


def losses(workdir):
    return [line["train/loss"] for line in metrics(workdir) if "train/loss" in line]


def steps_done(workdir):
    file = workdir / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A run of two processes with two devices each."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    done = finish(start(workdir, 2, [TINY, DRAWN], devices=2))
    assert [code for code, *_ in done] == [0, 0], done
    return workdir, done


def test_two_processes_have_the_losses_of_one(pair, tmp_path, command):
    workdir, done = pair
    assert "4 x cpu" in done[0][1]
    said = set(re.findall(r"[A-Za-z]+", done[1][1]))
    assert said <= GLOO, "the first process alone writes"
    assert command(TINY, f"--workdir={tmp_path}", devices=4).returncode == 0
    np.testing.assert_allclose(losses(workdir)[:5], losses(tmp_path)[:5], rtol=1e-5)
    np.testing.assert_allclose(losses(workdir), losses(tmp_path), rtol=0.05)
    names = {file.name for file in (workdir / "figures").glob("*.png")}
    assert {"predictions_00000040.png", "learning_curves.png"} <= names
    steps = [line["step"] for line in metrics(workdir) if "train/loss" in line]
    assert steps == list(range(1, 41)), "one line per step"


COUNT = """
import sys
from unet_jax.process import multihost, runtime
runtime.prepare()
multihost.join(sys.argv[1], 2, int(sys.argv[2]))
from configs.tiny import get_config
from unet_jax.experiment import assemble, step_shapes
made = assemble(get_config())
text = made.train_step.lower(*step_shapes(made)).compile().as_text()
print("sends", text.count(" all-gather("), text.count(" all-reduce("))
"""


def test_two_processes_send_few_messages():
    lines = [[sys.executable, "-c", COUNT, f"localhost:{free_port()}"]] * 2
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        forks.Popen([*line, str(number)], cwd=ROOT, env=xla.env(1), **pipes)
        for number, line in enumerate(lines)
    ]
    for code, said, error in finish(processes):
        assert code == 0, error
        # Six normalisations, forward and backward; the sums of the loss, and the gradient.
        assert "sends 12 2" in said


def test_a_process_that_is_done_waits_for_the_last_figures_of_the_first():
    port = free_port()
    code = (
        "import sys, time; from unet_jax.process import multihost;"
        "multihost.HEARTBEAT_SECONDS = 1; number = int(sys.argv[1]);"
        f"multihost.join('localhost:{port}', 2, number); time.sleep(5 * (number == 0))"
    )
    lines = [[sys.executable, "-c", code, str(number)] for number in range(2)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [forks.Popen(line, cwd=ROOT, env=xla.env(1), **pipes) for line in lines]
    done = finish(processes)
    assert [code for code, *_ in done] == [0, 0], done


def test_two_processes_evaluate_to_the_counts_of_one(pair, tmp_path, command):
    workdir = shutil.copytree(pair[0], tmp_path / "run")
    scores, counts = [], []
    for count in (2, 1):
        flags = ["--mode=eval", "--split=test", f"--config={workdir}/config.json"]
        flags += ["--config.eval.metrics={'surface': {}, 'boundary': {}}"]
        if count == 1:
            assert command(f"--workdir={workdir}", *flags).returncode == 0
        else:
            done = finish(start(workdir, count, flags))
            assert [code for code, *_ in done] == [0, 0], done
        scores.append(json.loads((workdir / "results.json").read_text())["test"])
        with np.load(next(workdir.glob("evaluations/test_*.npz"))) as saved:
            counts.append({name: (saved[name].dtype, saved[name].tobytes()) for name in saved})
    found, alone = scores
    assert found.pop("cross_entropy") == pytest.approx(alone.pop("cross_entropy"), rel=1e-5)
    assert found == alone
    for own in counts:
        del own["cross_entropy/loss"]
    assert "surface/HD95" in counts[0]
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_four_processes_train_evaluate_and_save_what_one_restores(pair, tmp_path, command):
    mesh = ["--config.mesh.data=1", "--config.mesh.fsdp=2", "--config.mesh.space=2"]
    four = start(tmp_path, 4, [TINY, *mesh])
    wait_for(four[0], lambda: steps_done(tmp_path) >= 22)
    for process in four:
        process.send_signal(signal.SIGTERM)
    assert [code for code, *_ in finish(four)] == [143] * 4
    np.testing.assert_allclose(losses(tmp_path)[:5], losses(pair[0])[:5], rtol=1e-4)
    page = f"--config={tmp_path}/config.json"
    flags = ["--mode=eval", "--split=test", "--checkpoint=latest", page]
    done = finish(start(tmp_path, 4, flags))
    assert [code for code, *_ in done] == [0] * 4, done
    found = json.loads((tmp_path / "results.json").read_text())["test_latest"]
    (tmp_path / "results.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    config["mesh"] = {"data": 1, "fsdp": 1, "space": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert command(f"--workdir={tmp_path}", *flags[:3]).returncode == 0
    alone = json.loads((tmp_path / "results.json").read_text())["test_latest"]
    assert found.pop("cross_entropy") == pytest.approx(alone.pop("cross_entropy"), rel=1e-5)
    assert found == alone, "the same counts"
    done = command(f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "resumes at" in done.stdout
    np.testing.assert_allclose(losses(tmp_path), losses(pair[0]), rtol=0.05)


def test_sigterm_to_one_process_stops_both_after_the_same_step(pair, tmp_path):
    workdir = tmp_path / "stopped"
    processes = start(workdir, 2, [TINY], devices=2)
    wait_for(processes[0], lambda: steps_done(workdir) >= 5)
    processes[1].send_signal(signal.SIGTERM)
    done = finish(processes)
    assert [code for code, *_ in done] == [143, 143], done
    said = {line for _, _, error in done for line in error.splitlines() if "stopped at" in line}
    assert len(said) == 1, said
    stopped = steps_done(workdir)
    assert f"stopped at step {stopped} of 40" in said.pop()
    assert (workdir / "checkpoints" / str(stopped)).is_dir()
    done = finish(start(workdir, 2, [TINY], devices=2))
    assert [code for code, *_ in done] == [0, 0], done
    assert_same_run(pair[0], workdir)


@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_that_dies_ends_the_other_with_a_clear_line(tmp_path, dies):
    processes = start(tmp_path, 2, [TINY, "--config.train.duration=4000"])
    wait_for(processes[0], lambda: steps_done(tmp_path) >= 5)
    processes[dies].kill()
    died = time.monotonic()
    processes[1 - dies].wait(timeout=LOST_SECONDS)
    code, _, error = finish(processes)[1 - dies]
    assert time.monotonic() - died < LOST_SECONDS
    assert code == 4
    assert "another process of this run was lost" in error
    assert "Start the same command again" in error


def test_a_user_error_in_one_process_ends_both(tmp_path):
    bad = start(tmp_path, 2, [TINY, "--config.train.batch_size=7"])
    done = finish(bad, limit=LOST_SECONDS * 2)
    assert [code for code, *_ in done] == [2, 2], done
    assert all("config.train.batch_size=7" in error for *_, error in done)
    assert not (tmp_path / "config.json").exists()


def test_shares_of_an_epoch_are_disjoint_and_complete():
    class Names:
        def __len__(self):
            return 12

        def read(self, index):
            seen.append(index)
            return Sample(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), "", (1, 1))

    shares = []
    for rows in ([0, 1], [2, 3]):
        seen = []
        order = {"batch_size": 4, "seed": 0, "start": 0, "stop": 3, "rows": rows}
        list(train_batches(Names(), Loading((4, 4), "resize", 1), **order))
        shares.append(set(seen))
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == set(range(12))


@pytest.mark.parametrize(
    ("flag", "environment", "expected"),
    [
        (None, {}, False),
        (None, {"SLURM_STEP_NUM_TASKS": "1"}, False),
        (None, {"SLURM_STEP_NUM_TASKS": "2"}, True),
        (None, {"OMPI_COMM_WORLD_SIZE": "4"}, True),
        (False, {"OMPI_COMM_WORLD_SIZE": "4"}, False),
        (True, {}, True),
    ],
)
def test_launchers_that_start_several_are_noticed(flag, environment, expected, monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert runtime.is_one_of_many(flag) == expected


def test_without_a_launcher_the_error_says_what_to_give(command):
    done = command(TINY, "--workdir=unused", "--multihost")
    assert done.returncode == 2
    assert "--coordinator=HOST:PORT, --num_processes=N and --process_id" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (ROOT / "unused").exists()
