"""Training that starts from weights of a file."""

import json
import runpy
import shutil

import jax
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file
from support.paths import ROOT
from vectors.make_vectors import milesial_shapes, numbers_for

from unet_jax.config import load
from unet_jax.experiment import assemble
from unet_jax.models.pretrained.torch_layout import milesial_variables
from unet_jax.models.pretrained.weights import make_pretrained
from unet_jax.restore import restore

PAGE = ROOT / "configs" / "tiny.py"
FEATURES = (4, 8)  # of configs/tiny.py
CLASSES = 6


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "unet.safetensors")


def write(file, classes=CLASSES, features=FEATURES):
    save_file(numbers_for(milesial_shapes(features, 3, classes)), file)
    return file


def expected():
    return milesial_variables(numbers_for(milesial_shapes(FEATURES, 3, CLASSES)), FEATURES)


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_without_a_file_nothing_is_loaded():
    assert make_pretrained(read_run=dict) is None


@pytest.mark.parametrize("keep_head", [False, True])
def test_the_state_starts_from_the_weights(file, keep_head):
    config = runpy.run_path(str(PAGE))["get_config"]()
    without = assemble(config).init(jax.random.key(0))
    config.pretrained = {"file": str(file), "keep_head": keep_head}
    experiment = assemble(config)
    state = experiment.init(jax.random.key(0))
    wanted = expected()
    if keep_head:
        wanted["params"]["head"] = without.params["head"]
    assert_same(state.params, wanted["params"])
    assert_same(state.batch_stats, wanted["batch_stats"])
    assert_same(state.eval_variables(), wanted)  # the average of the parameters starts there too
    assert config.optim.ema_decay > 0
    # All else is that of a new run, on the same mesh.
    described = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state)
    assert described == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.sharding), experiment.state_shapes
    )
    assert state.step == 0
    for moment in ("mu", "nu"):
        assert not any(
            leaf.any() for leaf in jax.tree.leaves(optax.tree.get(state.opt_state, moment))
        )


def test_the_command_trains_from_the_weights_once(command, file, tmp_path):
    run, again = tmp_path / "run", tmp_path / "again"
    flags = {
        "pretrained.file": file,
        "model.input_scale": "unit",
        "train.duration": 4,
        "train.checkpoint_every": 2,
        "train.eval_every": 4,
        "optim.learning_rate": 1e-4,
        "optim.warmup": 0,
    }
    given = ["--config=configs/tiny.py", *(f"--config.{k}={v}" for k, v in flags.items())]
    result = command(*given, f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    last = restore(load(run / "config.json"), run, "latest").variables["params"]
    for found, wanted in zip(
        jax.tree.leaves(last), jax.tree.leaves(expected()["params"]), strict=True
    ):
        assert 0 < np.abs(found - wanted).max() < 1e-3  # four steps of at most 1e-4
    # What goes on from a checkpoint does not start from the weights again.
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "4")
    (again / "results.json").unlink()
    result = command(*given, f"--workdir={again}")
    assert result.returncode == 0, result.stderr
    assert "resumes at" in result.stdout
    assert_same(restore(load(run / "config.json"), again, "latest").variables["params"], last)
    assert json.loads((again / "results.json").read_text())["train"]["step"] == 4


def missing(folder):
    return folder / "no.safetensors"


def other_classes(folder):
    return write(folder / "x.safetensors", classes=3)


def other_features(folder):
    return write(folder / "x.safetensors", features=(4, 6))


def other_network(folder):
    save_file({"a": np.zeros(3, np.float32)}, folder / "x.safetensors")
    return folder / "x.safetensors"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, ["no.safetensors does not exist"]),
        (other_classes, ["number of classes", "config.pretrained.keep_head=True"]),
        (other_features, ["has shape (6, 4, 3, 3)", "config.model.features=(4, 6)"]),
        (other_network, ["neither of a ResNet of torchvision", "they are a."]),
    ],
)
def test_a_file_that_does_not_fit_ends_the_command(command, tmp_path, make, says):
    flags = ["--config=configs/tiny.py", f"--config.pretrained.file={make(tmp_path)}"]
    result = command(*flags, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: config.pretrained.file: ")
    assert not [piece for piece in says if piece not in result.stderr], result.stderr
    assert not (tmp_path / "run").exists()
