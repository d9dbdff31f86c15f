"""How long the maps take that a loss needs beside the label, such as border weights.

python -m experiments.bench.maps PAGE [KEY=VALUE ...]

KEY=VALUE are config values, such as data.path=PATH. For each map of the page's loss: the median
seconds of a core for the whole label of a training image, over the first images.
"""

import statistics
import sys
import time

from unet_jax.data.maps import Map
from unet_jax.data.sample import Sample, whole
from unet_jax.errors import UserError
from unet_jax.experiment import assemble
from unet_jax.process import runtime
from unet_jax.process.console import console
from unet_jax.studies.pages import make_config, parse_overrides

MOST_IMAGES = 20


def measure(each: Map, sample: Sample) -> float:
    """Returns the seconds of a core that a map of a label takes."""
    label = sample.truth()
    began = time.process_time()
    each.draw(label, sample.objects, whole(label.shape[: len(sample.spacing)]))
    return time.process_time() - began


def main(page: str, *values: str) -> None:
    """Prints what each map takes.

    Args:
        page: The config page.
        *values: Config values, KEY=VALUE.

    Raises:
        UserError: The page's loss needs no map.
    """
    runtime.prepare()
    experiment = assemble(make_config(page, parse_overrides(page, values)))
    if not experiment.maps:
        raise UserError(f"the loss of {page} needs no map; set loss.cross_entropy.border_weight.")
    source = experiment.dataset.splits["train"]
    samples = [source.read(index) for index in range(min(MOST_IMAGES, len(source)))]
    for each in experiment.maps:
        median = statistics.median(measure(each, sample) for sample in samples)
        pixels = statistics.median(sample.truth().size for sample in samples)
        console.print(
            f"{each.name}: {median:.3f} s of a core for {pixels:,.0f} pixels, the median of "
            f"{len(samples)} images"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
