"""A run of random weights, and images for it to predict."""

import dataclasses
import functools
import os
import runpy
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from support.family import random_like
from support.paths import ROOT
from unet_jax.experiment import assemble
from unet_jax.predict.run import predict_run
from unet_jax.runs import layout
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.checkpoint import Checkpoints

CONFIG = runpy.run_path(str(ROOT / "configs" / "tiny.py"))["get_config"]()


@functools.cache
def make_run(workdir: Path) -> Path:
    """Makes a run, once, of the first, random weights: what is predicted does not matter here."""
    return begin_run(workdir, CONFIG)


def begin_run(workdir, config, seed=0, change=lambda state: state):
    """Makes a run of a config, of the first, random weights, which may be changed."""
    workdir.mkdir()
    run_dir.begin(workdir, config, overwrite=False)
    experiment = assemble(config)
    checkpoints = Checkpoints(workdir / layout.CHECKPOINTS)
    meta = {"class_names": experiment.dataset.class_names, "scores": {}}
    state = change(experiment.init(jax.random.key(seed)))
    checkpoints.save(1, state, meta, score=None)
    checkpoints.wait()
    checkpoints.close()
    return workdir


def spread(state):
    """Gives a state weights of which most images have several classes; see `begin_run`."""
    drawn = random_like({"params": state.params, "batch_stats": state.batch_stats})
    average = drawn["params"] if state.average else {}  # which a prediction takes
    return dataclasses.replace(state, **drawn, average=average)


def draw(*files, size=(9, 13)):
    """Writes an image of noise to each file, others for other names."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(os.fsencode(file))
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(file)


def broken_pixels(file):
    """Writes an image whose header is right and whose pixels are damaged."""
    draw(file)
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    file.write_bytes(data)


def tree(folder):
    """Returns all that is in a folder: links by where they lead, files by their bytes."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[path] = "link", os.readlink(path)
        else:
            found[path] = ("folder", "") if path.is_dir() else ("file", path.read_bytes())
    return found


def predict(run, inputs, output, **flags):
    inputs = [str(path) for path in inputs]
    predict_run(CONFIG, run, inputs=inputs, output=str(output), checkpoint="latest", **flags)
