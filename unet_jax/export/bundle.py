"""What every format is made of: the prediction of a run, and what people should know of it."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import figures
from unet_jax.data.sample import Spec
from unet_jax.defaults import DEFAULTS, complete, to_config
from unet_jax.export.pipeline import Pipeline, make_pipeline
from unet_jax.network import Network, make_network
from unet_jax.restore import restore
from unet_jax.runs import layout
from unet_jax.runs.provenance import read_provenance

EXAMPLES, EXAMPLE_SIZES = 3, ((37, 53), (64, 48), (29, 90))  # odd, and wider and taller


class Bundle(NamedTuple):
    """A trained model on its way out.

    Attributes:
        network: The network.
        variables: Its {"params", "batch_stats"}, on the host.
        pipeline: Its prediction.
        class_names: Of the labels, by class id.
        config: The run's, whole, without the place of its data.
        facts: What is known of the training: step, scores of val, commit, versions.
        card: The newest card of the run; None where it has none.
        licence: SPDX identifier, such as "CC-BY-4.0"; "" where none was given.
        examples: Images [*n, C].
    """

    network: Network
    variables: dict[str, Any]
    pipeline: Pipeline
    class_names: tuple[str, ...]
    config: dict[str, Any]
    facts: dict[str, Any]
    card: dict[str, Any] | None
    licence: str
    examples: tuple[np.ndarray, ...]

    @property
    def colours(self) -> list[str]:
        """Returns the colour of each class as "#rrggbb"."""
        return [f"#{bytes(colour).hex()}" for colour in figures.palette(len(self.class_names))]

    @property
    def scores(self) -> str:
        """Returns the scores of val at that step in words, without those of a class; "" if none."""
        scores = self.facts.get("scores", {}).items()
        whole = ((name, value) for name, value in scores if "/" not in name and value is not None)
        return ", ".join(f"{name} {value:.3f}" for name, value in whole)

    def describe(self) -> dict[str, Any]:
        """Describes the model as JSON has it, which is the same in every format."""
        spec, task, how = self.network.spec, self.network.task, self.network.loading.normalise
        return {
            "class_names": list(self.class_names),
            "colours": self.colours,
            "licence": self.licence or "not stated",
            "task": self.config["task"]["kind"],
            "channels_of_probability": list(task.names),
            "image": {
                "axes": spec.axes,
                "channels": spec.channels,
                "dtype": self.pipeline.dtype,
                "value_range": list(spec.value_range),
                "least": self.pipeline.least,
                "normalised": how.describe(spec),
                "fit": self.network.loading.fit,
                "grid": self.pipeline.grid._asdict() if self.pipeline.grid else None,
            },
            "training": self.facts,
            "date": str(datetime.datetime.now(datetime.UTC).date()),
            "jax": jax.__version__,
        }


def bundle_of_run(
    config: ConfigDict, workdir: Path, checkpoint: str, licence: str, images: tuple[np.ndarray, ...]
) -> Bundle:
    """Makes the bundle of a run.

    Args:
        config: The run's, whole.
        workdir: Its directory.
        checkpoint: "best" or "latest".
        licence: See `Bundle`.
        images: To have as examples; drawn ones take the place of those that lack.

    Returns:
        The bundle.

    Raises:
        UserError: See `restore`.
    """
    trained = restore(config, workdir, checkpoint)
    said = read_provenance(workdir)
    kept = {name: said[name] for name in ("git_commit", "parameters", "versions") if name in said}
    facts = {"step": trained.step, "scores": dict(trained.scores), **kept}
    own = json.loads(json.dumps(config.to_dict()))
    own["data"]["path"] = DEFAULTS["data"]["path"]
    cards = sorted((workdir / layout.CARDS).glob("*.json"), key=lambda file: file.stat().st_mtime)
    card = json.loads(cards[-1].read_text()) if cards else None
    variables = jax.device_get(trained.variables)
    names = trained.class_names
    return make_bundle(trained.network, variables, names, own, facts, card, licence, images)


def make_bundle(
    network: Network,
    variables: Any,
    class_names: tuple[str, ...],
    config: dict[str, Any],
    facts: dict[str, Any],
    card: dict[str, Any] | None,
    licence: str,
    images: tuple[np.ndarray, ...] = (),
) -> Bundle:
    """Makes a bundle; see its attributes, and `bundle_of_run` for the images."""
    drawn = [draw(network.spec, seed) for seed in range(len(images), EXAMPLES)]
    pipeline = make_pipeline(network, variables)
    examples = (*images[:EXAMPLES], *drawn)
    return Bundle(network, variables, pipeline, class_names, config, facts, card, licence, examples)


def network_of(kept: Mapping[str, Any], config: dict[str, Any]) -> Network:
    """Makes the network again of what an export keeps of it.

    Args:
        kept: "class_names", "spec" and "ends"; see `keep`.
        config: The config.

    Returns:
        The network.

    Raises:
        UserError: The config does not fit this version.
    """
    config = {**config, "mesh": DEFAULTS["mesh"]}  # wherever it was trained
    said: dict[str, Any] = {**kept["spec"], "value_range": tuple(kept["spec"]["value_range"])}
    black_and_white = kept["ends"]
    ends = (tuple(black_and_white[0]), tuple(black_and_white[1])) if black_and_white else None
    return make_network(complete(to_config(config)), tuple(kept["class_names"]), Spec(**said), ends)


def keep(bundle: Bundle) -> dict[str, Any]:
    """Returns what `network_of` needs beside the config, as JSON has it."""
    ends = bundle.network.loading.normalise.ends
    return {
        "class_names": list(bundle.class_names),
        "spec": bundle.network.spec._asdict(),
        "ends": [list(end) for end in ends] if ends else None,
    }


def draw(spec: Spec, seed: int, size: tuple[int, ...] = ()) -> np.ndarray:
    """Draws an image of soft blobs from black to white, since no image of the training may leave.

    Args:
        spec: Of the image.
        seed: Of its numbers.
        size: [*n]; by default one of `EXAMPLE_SIZES`, of volumes that of a cube of its width.

    Returns:
        [*n, C].
    """
    rng = np.random.default_rng(seed)
    plane = EXAMPLE_SIZES[seed % len(EXAMPLE_SIZES)]
    size = size or (plane if spec.axes == 2 else (min(plane) // 2, *plane))
    grids = np.meshgrid(*(np.linspace(0, 1, n) for n in size), indexing="ij")
    values = np.zeros((*size, spec.channels))
    for _ in range(12):
        middle, width = rng.random(spec.axes), 0.03 + 0.2 * rng.random()
        distance = sum((grid - c) ** 2 for grid, c in zip(grids, middle, strict=True))
        values += np.exp(-distance / width**2)[..., None] * rng.random(spec.channels)
    values += 0.1 * rng.random(values.shape)
    unit = (values - values.min()) / np.ptp(values)
    low, high = spec.value_range
    scaled = low + unit * (high - low)
    return (np.rint(scaled) if spec.dtype[0] in "iu" else scaled).astype(spec.dtype)
