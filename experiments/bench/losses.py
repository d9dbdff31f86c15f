"""How long the terms of a loss take, and the maps that some of them need beside the label.

python -m experiments.bench.losses PAGE [KEY=VALUE ...]

KEY=VALUE are config values, such as data.path=PATH. For each term there is, with its defaults: the
seconds of all cores that its value and gradient take for a batch of the page, on logits that are
drawn. For each map: the seconds of a core that it takes for the whole label of a training image.
All are medians.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.data.maps import Map
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sample import Sample, whole
from unet_jax.defaults import PARTS, to_config
from unet_jax.experiment import Experiment, assemble
from unet_jax.losses.make import make_loss
from unet_jax.process import runtime
from unet_jax.process.console import console
from unet_jax.studies.pages import make_config, parse_overrides

TURNS, MOST_IMAGES = 7, 20


def _all_terms(config: ConfigDict) -> ConfigDict:
    """Returns a config whose loss needs every map."""
    values = config.to_dict()
    entropy = values["loss"].get("cross_entropy", PARTS["loss"]["cross_entropy"])
    entropy = entropy | {"border_weight": entropy["border_weight"] or 10.0, "class_weights": ()}
    values["loss"] = PARTS["loss"] | values["loss"] | {"cross_entropy": entropy}
    return to_config(values)


def _seconds(function: Callable[[], Any]) -> float:
    began = time.process_time()
    jax.block_until_ready(function())
    return time.process_time() - began


def measure_terms(e: Experiment) -> dict[str, float]:
    """Returns the seconds of each term for a batch."""
    order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1}
    [batch] = train_batches(e.dataset.splits["train"], e.loading, **order)
    label, weight = batch["label"].astype(np.int32), batch["weight"].astype(np.float32)
    shape = (*weight.shape, e.network.task.channels)
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    given = jax.device_put((logits, label, weight, batch["extras"]))
    found = {}
    for name, section in e.config.loss.to_dict().items():
        loss = jax.jit(jax.value_and_grad(make_loss({name: section}, e.network.task)))
        loss(*given)
        found[name] = statistics.median(_seconds(lambda f=loss: f(*given)) for _ in range(TURNS))
    return found


def measure_map(each: Map, sample: Sample) -> float:
    """Returns the seconds that a map of a label takes."""
    label = sample.truth()
    return _seconds(
        lambda: each.draw(label, sample.objects, whole(label.shape[: len(sample.spacing)]))
    )


def main(page: str, *values: str) -> None:
    """Prints what each term and each map takes.

    Args:
        page: The config page.
        *values: Config values, KEY=VALUE.
    """
    runtime.prepare()
    e = assemble(_all_terms(make_config(page, parse_overrides(page, values))))
    size = e.plan.batch_size, *e.loading.image_size, e.network.task.channels
    console.print(f"value and gradient for logits {size}, of all cores:")
    for name, seconds in measure_terms(e).items():
        console.print(f"  {name}: {seconds * 1000:.1f} ms")
    source = e.dataset.splits["train"]
    samples = [source.read(index) for index in range(min(MOST_IMAGES, len(source)))]
    pixels = statistics.median(sample.truth().size for sample in samples)
    console.print(f"maps of {pixels:,.0f} pixels, of one core ({len(samples)} images):")
    for each in e.maps:
        median = statistics.median(measure_map(each, sample) for sample in samples)
        console.print(f"  {each.name}: {median * 1000:.1f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
