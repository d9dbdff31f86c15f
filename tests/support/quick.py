"""configs/tiny.py with half the convolutions and evaluations and a quarter of the pixels.

For tests of real commands, each of which traces and compiles its network, and would take a third
of its time to draw figures.
"""

import runpy
from pathlib import Path

TINY = Path(__file__).parents[2] / "configs" / "tiny.py"


def get_config():
    config = runpy.run_path(str(TINY))["get_config"]()
    config.model.repeats = config.model.decoder_repeats = (1,)
    config.data.image_size, config.data.synthetic.size = (16, 16), 16
    config.train.eval_every, config.train.checkpoint_every = "40 steps", "20 steps"
    # One batch of one size, and so one program; the test split's 10 images make two.
    config.data.synthetic.val = config.eval.batch_size
    config.eval.shown, config.eval.figures = 1, False  # what they are drawn from is kept
    return config
