"""Configs of a few seconds."""

import runpy

from ml_collections import ConfigDict

from configs import tiny
from support.paths import ROOT


def make_config():
    config = tiny.get_config()
    config.train.duration, config.train.eval_every = "4 steps", "2 steps"
    config.train.checkpoint_every = "2 steps"
    config.data.synthetic.train, config.data.synthetic.val = 8, 5
    config.data.synthetic.size, config.data.image_size = 16, (16, 16)
    config.model.repeats = config.model.decoder_repeats = (1,)  # of half the work to trace
    config.mesh.data, config.eval.figures = 1, False
    return config


def page():
    return runpy.run_path(str(ROOT / "configs" / "tiny.py"))["get_config"]()


def changed(key, value):
    values = page().to_dict()
    values["model"]["features"] = (2, 2)
    *path, name = key.split(".")
    section = values
    for part in path:
        section = section.setdefault(part, {})
    section[name] = value
    return ConfigDict(values)
