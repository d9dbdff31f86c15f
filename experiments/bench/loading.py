"""How fast training images are loaded, and how much of its time training waits for them.

python -m experiments.bench.loading PAGE [KEY=VALUE ...]

KEY=VALUE are config values, such as data.path=PATH. For the page as it is, with JPEG decoded at a
reduced scale (where images are resized), for images kept in memory and for images mapped from a
file: images/s of the batches alone, the share of time that the train step's loop waits for its
batches at widths 8 and 16, and what loading takes of the time of all cores there, which others on
the machine change less. All take turns; medians of turns, of the waiting the largest too.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from unet_jax.data.cache import keep
from unet_jax.data.pipeline import Batch, train_batches
from unet_jax.data.sample import Source
from unet_jax.data.sources import Loading
from unet_jax.experiment import Experiment, assemble
from unet_jax.process import runtime
from unet_jax.process.console import console
from unet_jax.sharding import put_batch, replicate
from unet_jax.studies.pages import make_config, parse_overrides

TURNS, STEPS, WIDTHS, LEVELS = 3, 8, (8, 16), 4
MOST_IMAGES = 400  # in a turn without training
MEBIBYTES = 8192  # that a cache may take


Kept = tuple[Source, Loading]
"""What `cache.keep` returns: the images, and what is left to do to them."""


def _begin(e: Experiment, kept: Kept, stop: int) -> Iterator[Batch]:
    order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": stop}
    return train_batches(*kept, **order)


class Turn(NamedTuple):
    """What some steps took.

    Attributes:
        seconds: Of an image.
        core: Seconds of a core that an image took, of all cores together.
        waited: Share of the time that went by before batches were there.
    """

    seconds: float
    core: float
    waited: float = 1.0


def measure_loading(e: Experiment, kept: Kept) -> Turn:
    """Measures batches that nobody computes with, of an epoch at most."""
    images = min(MOST_IMAGES, len(kept[0]) * e.loading.crops)
    steps = max(1, images // e.plan.batch_size)
    images = steps * e.plan.batch_size
    began, core = time.perf_counter(), time.process_time()
    for _ in _begin(e, kept, steps):
        pass
    return Turn((time.perf_counter() - began) / images, (time.process_time() - core) / images)


def measure_training(e: Experiment, kept: Kept) -> Turn:
    """Measures `STEPS` steps of training.

    The first steps, which compile and fill what is read ahead, are left out.
    """
    state, key = e.init(jax.random.key(0)), replicate(jax.random.key(1), e.shardings)
    batches, waited, began, core = _begin(e, kept, STEPS + 2), 0.0, 0.0, 0.0
    for step in range(STEPS + 2):
        if step == 2:
            waited, began, core = 0.0, time.perf_counter(), time.process_time()
        asked = time.perf_counter()
        batch = put_batch(next(batches), e.shardings)
        waited += time.perf_counter() - asked
        state, scalars = e.train_step(state, batch, key)
        jax.block_until_ready(scalars)
    seconds, images = time.perf_counter() - began, STEPS * e.plan.batch_size
    return Turn(seconds / images, (time.process_time() - core) / images, waited / seconds)


def experiments_of(page: str, overrides: dict[str, Any]) -> dict[int, Experiment]:
    """Makes the experiment of a page at every width."""
    found = {}
    for width in WIDTHS:
        own = {"model.features": tuple(width * 2**level for level in range(LEVELS))}
        config: ConfigDict = make_config(page, overrides | own | {"mesh.data": 1})
        found[width] = assemble(config)
    return found


def main(page: str, *given: str) -> None:
    """Prints a table."""
    runtime.prepare()
    experiments = experiments_of(page, parse_overrides(page, given))
    first = experiments[WIDTHS[0]]
    plain, loading = first.dataset.splits["train"], first.loading._replace(cache=MEBIBYTES)
    with tempfile.TemporaryDirectory() as folder:
        sources = {
            "decoded each time": (plain, first.loading),
            "decoded at a reduced scale": (plain, first.loading._replace(reduced_jpeg=True)),
            "kept in memory": keep(plain, loading),
        }
        if first.loading.fit != "resize":
            del sources["decoded at a reduced scale"]
        began = time.perf_counter()
        sources["mapped from a file"] = keep(plain, loading._replace(cache_dir=folder))
        made = time.perf_counter() - began
        alone: dict[str, list[Turn]] = {name: [] for name in sources}
        measure_loading(first, sources["kept in memory"])  # which decodes them
        for _ in range(TURNS):
            for name, kept in sources.items():
                alone[name].append(measure_loading(first, kept))
        training: dict[tuple[str, int], list[Turn]] = {}
        for _ in range(TURNS):
            for width, e in experiments.items():
                for name, kept in sources.items():
                    training.setdefault((name, width), []).append(measure_training(e, kept))
    console.print(f"{len(plain)} images to {first.loading.image_size}, B={first.plan.batch_size}")
    for name, found in alone.items():
        core = statistics.median(turn.core for turn in found)
        rate = 1 / statistics.median(turn.seconds for turn in found)
        console.print(f"{name}: {rate:.0f} images/s, {core * 1000:.2f} ms of a core each")
        for width in WIDTHS:
            own = training[name, width]
            waited = [turn.waited for turn in own]
            share = core / statistics.median(turn.core for turn in own)
            console.print(
                f"  width {width}: waiting {statistics.median(waited):.1%} ({max(waited):.1%} at "
                f"most); loading takes {share:.1%} of the cores' time"
            )
    console.print(f"the file took {made:.1f} s to make")


if __name__ == "__main__":
    main(*sys.argv[1:])
