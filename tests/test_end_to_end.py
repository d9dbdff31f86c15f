"""The real command, from config to checkpoint and back."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from support import xla
from support.paths import ROOT
from support.runs import DRAWN, TINY, assert_same_run, metrics, start, wait_for

TWICE = "--config.train.eval_every=20"  # so that deaths come between evaluations


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    done = command(TINY, TWICE, DRAWN, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_leaves_what_it_promises(finished):
    workdir, done = finished
    config = json.loads((workdir / "config.json").read_text())
    assert config["train"]["seed"] == 0
    run = json.loads((workdir / "run.json").read_text())
    assert run["overrides"] == {"train.eval_every": "20", "eval.figures": True}
    assert run["devices"]["platform"] == "cpu"
    assert run["versions"]["jax"]
    assert run["command"][0] == sys.executable
    lines = metrics(workdir)
    assert [x["step"] for x in lines if "train/loss" in x] == list(range(1, 41))
    assert [x["step"] for x in lines if "val/mIoU" in x] == [20, 40]
    raw = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])
    assert raw["images_per_s"] > 0
    assert 0 <= raw["data_wait"] <= 1
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    names = {file.name for file in (workdir / "figures").glob("*.png")}
    wanted = {"predictions_00000020.png", "predictions_over_time.png", "learning_curves.png"}
    assert wanted <= names
    results = json.loads((workdir / "results.json").read_text())
    assert results["val"]["step"] in (20, 40)
    assert set(results["val"]) >= {"mIoU", "IoU/background", "pixel_accuracy"}
    for text in ("devices", "parameters", "FLOPs per image", "background", "mean", "figures"):
        assert text in done.stdout
    best = re.findall(r"of the best checkpoint: (\S+)", done.stdout)
    assert set(best) <= names
    assert f"predictions_{results['val']['step']:08d}.png" in best
    for line in lines:  # the score of each evaluation, as it was written
        if "val/mIoU" in line:
            said = f"step {line['step']}/40  validation mIoU {line['val/mIoU']:.4f}\n"
            assert said in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_same_seed_gives_the_same_bytes(finished, tmp_path):
    """In a new process: it has a seed of hashes of its own, which what is forked has not."""
    line = [sys.executable, "-m", "unet_jax.main", TINY, TWICE, DRAWN, f"--workdir={tmp_path}"]
    done = subprocess.run(line, cwd=ROOT, env=xla.env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_run(finished[0], tmp_path)
    texts = []
    for workdir, one in ((tmp_path, done), finished):
        varies = rf"{re.escape(str(workdir))}|[\d.]+ images/s| *\d:\d\d left|\d+ MiB"
        texts.append([re.sub(varies, "", text) for text in (one.stdout, one.stderr)])
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(finished, tmp_path, command):
    often = "--config.train.checkpoint_every=10"
    process = start(tmp_path, TWICE, often)
    # Saving is asynchronous: some checkpoint is complete, a later one perhaps half written.
    wait_for(process, lambda: any((tmp_path / "checkpoints" / s).is_dir() for s in ("10", "20")))
    process.kill()
    process.communicate()
    assert not (tmp_path / "results.json").exists()
    done = command(TINY, TWICE, often, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "resumes at" in done.stdout
    assert_same_run(finished[0], tmp_path)


def test_sigterm_saves_the_step_and_goes_on_to_the_same_bytes(finished, tmp_path, command):
    process = start(tmp_path, TWICE)
    file = tmp_path / "metrics.jsonl"
    wait_for(process, lambda: file.exists() and len(file.read_text().splitlines()) >= 12)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    stopped = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert f"stopped at step {stopped}" in error.decode()
    assert (tmp_path / "checkpoints" / str(stopped)).is_dir()
    # The config comes from the directory, and so does the step.
    done = command(f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert f"step {stopped}" in done.stdout
    assert_same_run(finished[0], tmp_path)


def test_a_finished_run_says_so(finished, command):
    done = command(TINY, TWICE, f"--workdir={finished[0]}")
    assert done.returncode == 0
    assert "finished" in done.stdout


def test_eight_devices_give_the_losses_of_one(finished, tmp_path, command):
    done = command(TINY, f"--workdir={tmp_path}", devices=8)
    assert done.returncode == 0, done.stderr
    assert "8 x cpu" in done.stdout
    one, eight = (
        [x["train/loss"] for x in metrics(d) if "train/loss" in x] for d in (finished[0], tmp_path)
    )
    # AdamW amplifies rounding as it goes on; the first steps are the same up to rounding.
    np.testing.assert_allclose(eight[:5], one[:5], rtol=1e-4)
    np.testing.assert_allclose(eight, one, rtol=0.05)


def test_eval_needs_only_the_directory_and_agrees(finished, command):
    workdir = finished[0]
    before = json.loads((workdir / "results.json").read_text())["val"]
    counts = []
    for devices in (1, 8):
        done = command("--mode=eval", f"--workdir={workdir}", devices=devices)
        assert done.returncode == 0, done.stderr
        counts.append(json.loads((workdir / "results.json").read_text())["val"])
    assert counts[0] == before
    assert {k: v for k, v in counts[1].items() if k != "cross_entropy"} == {
        k: v for k, v in before.items() if k != "cross_entropy"
    }
    done = command("--mode=eval", "--split=test", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    step = json.loads((workdir / "results.json").read_text())["test"]["step"]
    assert (workdir / "figures" / f"predictions_test_{step:08d}.png").exists()


def test_predict_writes_masks_of_the_images_own_size(finished, tmp_path, command):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    sizes = {"small": (20, 30), "tall": (90, 33)}
    for name, size in sizes.items():
        image = Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8))
        image.save(tmp_path / "in" / f"{name}.jpg")
    flags = ("--mode=predict", f"--input={tmp_path}/in", f"--output={tmp_path}/out")
    done = command(*flags, f"--workdir={finished[0]}")
    assert done.returncode == 0, done.stderr
    for name, (height, width) in sizes.items():
        with Image.open(tmp_path / "out" / f"{name}.png") as mask:
            assert mask.mode == "P"
            assert mask.size == (width, height)
            assert np.asarray(mask).max() < 6
        with Image.open(tmp_path / "out" / f"{name}_overlay.png") as shown:
            assert shown.size == (width, height)


def test_help_is_quick_and_touches_no_device(command):
    started = time.monotonic()
    done = command("--help")
    assert done.returncode == 0
    assert "--config" in done.stdout
    assert "--mode" in done.stdout
    assert time.monotonic() - started < 3
    code = (
        "import sys; from unet_jax import command_line, main; "
        "command_line.run(['x', '--help'], main.run, main); "
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
