"""Measures what saving costs.

python -m experiments.scale.cost --config=configs/shapes.py

The train step runs on one batch, each step waits for its scalars, and every tenth is saved. Shown
are the time of a step, of the call that starts a save (the copy to the host and the wait for the
save before), and of the steps after it, while files are written in the background.
"""

import statistics
import tempfile
import time
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from unet_jax.process import runtime
from unet_jax.runs import layout

ROOT = Path(__file__).parents[2]
CONFIG = config_flags.DEFINE_config_file("config", str(ROOT / "configs" / "shapes.py"), "Page.")
SAVES = flags.DEFINE_integer("saves", 6, "How many checkpoints.", lower_bound=1)
EVERY = 10


def cost_of_saving(config: ConfigDict, folder: Path) -> str:
    """Times steps, saves and the steps after them.

    Args:
        config: The whole config.
        folder: For the checkpoints.

    Returns:
        A line.
    """
    import jax

    from unet_jax.data.pipeline import train_batches
    from unet_jax.experiment import assemble
    from unet_jax.runs.checkpoint import Checkpoints
    from unet_jax.sharding import put_batch, replicate

    e = assemble(config)
    order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1}
    batch = next(train_batches(e.dataset.splits["train"], e.loading, **order))
    batch, key = put_batch(batch, e.shardings), replicate(jax.random.key(0), e.shardings)
    state, checkpoints = e.init(jax.random.key(0)), Checkpoints(folder)
    usual, after, blocked = [], [], []
    for step in range(EVERY * (SAVES.value + 1)):
        began = time.perf_counter()
        state, scalars = e.train_step(state, batch, key)
        jax.device_get(scalars)
        seconds = time.perf_counter() - began
        since = step % EVERY
        if step > EVERY and since < 3:
            after.append(seconds)
        elif step > 2:
            usual.append(seconds)
        if since == EVERY - 1:
            began = time.perf_counter()
            checkpoints.save(step, state, {}, None)
            blocked.append(time.perf_counter() - began)
    checkpoints.close()
    size = sum(x.nbytes for x in jax.tree.leaves(state)) / 2**20
    step_s, after_s, save_s = map(statistics.median, (usual, after, blocked))
    return (
        f"saving {size:.1f} MiB: a step takes {1e3 * step_s:.0f} ms, starting a save "
        f"{1e3 * save_s:.0f} ms, each of the three steps after it {1e3 * after_s:.0f} ms "
        f"({after_s / step_s:.2f} of a step)"
    )


def main(argv: list[str]) -> None:
    """Prints a line."""
    del argv
    logging.set_verbosity(logging.ERROR)
    runtime.prepare()
    with tempfile.TemporaryDirectory() as folder:
        print(cost_of_saving(CONFIG.value, Path(folder) / layout.CHECKPOINTS))


if __name__ == "__main__":
    app.run(main)
