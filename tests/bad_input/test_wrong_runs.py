"""What does not fit the run that is there."""

import json
import shutil

import pytest
from support.runs import TINY
from support.spoilt import truncated


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    """Trains two steps, once for several tests that only read the run."""
    workdir = tmp_path_factory.mktemp("finished")
    result = command(TINY, f"--workdir={workdir}", "--config.train.duration=2")
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return workdir


def refuse_in(command, workdir, *flags, says):
    """Like `refuse`, in a directory where a run already is, which must stay as it was."""
    before = {file: file.stat().st_mtime_ns for file in sorted(workdir.rglob("*"))}
    result = command(*flags, f"--workdir={workdir}")
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not [piece for piece in says if piece not in result.stderr], result.stderr
    after = {file: file.stat().st_mtime_ns for file in sorted(workdir.rglob("*"))}
    assert after == before


def test_another_config_in_the_same_workdir(command, finished):
    says = [
        "config.optim.learning_rate: 0.003 -> 0.1",
        "config.train.duration: '2' -> '40 steps'",
        str(finished),
        "--overwrite",
    ]
    refuse_in(command, finished, TINY, "--config.optim.learning_rate=0.1", says=says)


def test_overwrite_trains_another_config(command, finished, folder):
    workdir = shutil.copytree(finished, folder / "run")
    flags = [TINY, "--config.train.duration=1", f"--workdir={workdir}", "--overwrite"]
    assert command(*flags).returncode == 0
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["1"]
    assert json.loads((workdir / "config.json").read_text())["train"]["duration"] == "1"


def test_predict_input_that_does_not_exist(inside, finished, folder):
    flags = ["--mode=predict", f"--input={folder / 'no.jpg'}"]
    refuse_in(inside, finished, *flags, says=["--input=", "no.jpg", "does not exist"])


def test_predict_without_input(inside, finished):
    refuse_in(inside, finished, "--mode=predict", says=["--input"])


def test_predict_a_damaged_image(command, finished, images, folder):
    truncated(images)
    flags = ["--mode=predict", f"--input={images / 'images'}", f"--output={folder / 'out'}"]
    result = command(*flags, f"--workdir={finished}")
    assert result.returncode == 5
    assert "images/pic_3.jpg" in result.stdout
    assert "is truncated" in result.stdout
    assert "error: 1 of 8 images could not be read" in result.stderr
    assert len(list((folder / "out").iterdir())) == 2 * 7


@pytest.mark.usefixtures("no_jax")
def test_eval_with_an_unknown_key_in_flags_without_equals_signs(command, finished):
    flags = ["--mode", "eval", "--workdir", finished, "--config.eval.batchsize", "3"]
    result = command(*flags)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: --config.eval.batchsize is not a config key")
    assert (
        f"{finished}/config.json, config.eval has batch_size, figures, headline, metrics, shown"
        in result.stderr
    )


def test_eval_without_a_checkpoint(command, finished, folder):
    (folder / "config.json").write_text((finished / "config.json").read_text())
    result = command("--mode=eval", f"--workdir={folder}")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {folder / 'checkpoints'} holds no checkpoint")
    assert len(result.stderr.splitlines()) == 1


def test_loss_that_is_not_finite(command, folder):
    flags = {
        "optim.accumulate": 4,  # the first update is that of step 4
        "optim.learning_rate": 1e30,
        "optim.warmup": 0,
        "optim.clip_norm": 0.0,
        "train.checkpoint_every": 3,
    }
    workdir = folder / "run"
    given = [f"--config.{key}={value}" for key, value in flags.items()]
    result = command(TINY, *given, f"--workdir={workdir}")
    assert result.returncode == 3, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: the loss is ")
    assert "config.optim.learning_rate" in result.stderr
    assert "at step 5;" in result.stderr
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["3"]

    result = command("--mode=eval", "--checkpoint=latest", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert json.loads((workdir / "results.json").read_text())["val_latest"]["step"] == 3
