"""The library: what the commands do, for NumPy arrays; `import unet_jax` gives these names.

Everything but the standard library is imported where it is needed, so that the import is cheap and
jax starts with the first call. Settings of a page are given by section: train={"seed": 1}.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_jax.errors import UserError
from unet_jax.loaded import Run

if TYPE_CHECKING:
    from ml_collections import ConfigDict
    from numpy.typing import ArrayLike


def load(workdir: str | Path, checkpoint: str = "best", **sections: Mapping[str, Any]) -> Run:
    """Loads the model of a run.

    Args:
        workdir: The run's directory.
        checkpoint: "best" (by `config.eval.headline`) or "latest".
        **sections: Where and how it is computed, where that is other than in training, such as
            mesh={"data": 1}.

    Returns:
        The run, which predicts.

    Raises:
        UserError: There is no such run or checkpoint, or a value does not fit.
    """
    _prepare()
    from unet_jax.config import load as load_config
    from unet_jax.runs.layout import CONFIG
    from unet_jax.runs.workdir import check_same
    from unet_jax.studies.pages import set_values

    folder = Path(workdir).expanduser()
    config = load_config(folder / CONFIG)
    set_values(config, str(folder / CONFIG), _by_key(sections))
    check_same(folder, config)
    return Run(config, folder, checkpoint)


def open_page(page: str | Path, **sections: Mapping[str, Any]) -> "ConfigDict":
    """Opens a config page.

    Args:
        page: A Python file with get_config(), or where there is none the name of a stock page,
            each with its recipe where it has several: "oxford_pets.py:cpu"; or the folder of a run.
        **sections: Values that are other than in the page: optim={"learning_rate": 1e-3}.

    Returns:
        The whole config, which can be changed: config.train.seed = 1.

    Raises:
        UserError: There is no such page, or a value does not fit.
    """
    from unet_jax.studies.pages import make_config

    return make_config(str(page), _by_key(sections))


def train(
    page: "str | Path | ConfigDict",
    workdir: str | Path,
    *,
    overwrite: bool = False,
    **sections: Mapping[str, Any],
) -> Run:
    """Trains a page, or goes on where an earlier training of it in this directory stopped.

    Args:
        page: See `open_page`; or the config that it returned.
        workdir: The run's directory.
        overwrite: Whether to replace a run of another config that is there.
        **sections: Values that are other than in the page: train={"duration": "100 steps"}.

    Returns:
        The run with its best checkpoint; of a finished run at once.

    Raises:
        UserError: A value, the data or the directory do not fit; nothing was trained.
        NonFiniteLossError: The loss became NaN or infinite.
        StoppedError: A signal asked to stop; the state was saved, and the same call goes on.
    """
    _prepare()
    from unet_jax.studies.pages import set_values
    from unet_jax.training import train_and_evaluate

    overrides = _by_key(sections)
    if isinstance(page, str | Path):
        config = open_page(page, **sections)
    else:
        config = page.copy_and_resolve_references()
        set_values(config, "the page", overrides)
    folder = Path(workdir).expanduser()
    train_and_evaluate(config, folder, overwrite=overwrite, overrides=overrides)
    return load(folder)


def score(
    truth: "ArrayLike",
    prediction: "ArrayLike",
    class_names: Sequence[str] | None = None,
    *,
    by_class: bool = False,
) -> dict[str, float | None]:
    """Scores masks as evaluation does, over all their pixels; see `metrics.overlap`.

    Args:
        truth: Class ids [H, W] or [N, H, W], integers or booleans; pixels of 255 do not count.
        prediction: Class ids of the same shape.
        class_names: K names; without them they are "0", "1", and so on, and of class ids K is one
            more than the largest.
        by_class: Whether the masks are [H, W, K] or [N, H, W, K], 1 where a class is and 0 where it
            is not, of classes that may overlap. Pixels that are 255 for a class do not count.

    Returns:
        Every score of overlap by name, such as "IoU/NAME" of every class and the means over the
        classes, each in [0, 1]; None for a class that the truth lacks.

    Raises:
        UserError: The arrays are no masks of one shape, or have an id that is no class. Raw values
            of masks are mapped first: ids = np.zeros_like(mask); ids[mask == 128] = 1.
    """
    _prepare()
    import jax.numpy as jnp
    import numpy as np

    from unet_jax.arrays import as_mask, known_pixels, names_of
    from unet_jax.metrics.base import Outcome
    from unet_jax.metrics.make import values
    from unet_jax.metrics.overlap import BinaryOverlap, Overlap

    truth = as_mask("truth", truth, by_class=by_class)
    prediction = as_mask("prediction", prediction, by_class=by_class)
    if truth.shape != prediction.shape:
        raise UserError(
            f"prediction has the shape {prediction.shape}; expected that of truth, {truth.shape}."
        )
    weight = known_pixels(truth, by_class=by_class)
    counted = {"truth": truth[weight], "prediction": prediction[weight]}
    names = names_of(class_names, counted, by_class=by_class)
    known = weight[..., None] if by_class else weight
    arrays = np.where(known, prediction, 0), np.where(known, truth, 0), known
    axes = 3 if by_class else 2  # of one mask
    batch = (jnp.asarray(x.reshape(-1, *x.shape[-axes:]), jnp.int32) for x in arrays)
    metric = BinaryOverlap(names) if by_class else Overlap(names)
    counts = metric.count(Outcome(None, None, *batch))
    return values(metric.scores({name: np.asarray(x) for name, x in counts.items()}))


def draw(
    path: str | Path,
    images: Sequence["ArrayLike"],
    truths: Sequence["ArrayLike"],
    predictions: Sequence["ArrayLike"],
    class_names: Sequence[str] | None = None,
    *,
    title: str = "Predictions",
    value_range: tuple[float, float] | None = None,
    by_class: bool = False,
) -> Path:
    """Draws a sheet: for every image a row with input, truth, prediction and errors.

    Args:
        path: PNG file to write; missing folders are made.
        images: N of [H, W, 3] or [H, W], each of its own size.
        truths: N masks of class ids [H, W], or with `by_class` [H, W, K]; 255 is ignored.
        predictions: N masks, likewise.
        class_names: See `score`.
        title: Heading.
        value_range: Of the images; see `Run.predict`.
        by_class: See `score`.

    Returns:
        The file.

    Raises:
        UserError: There is no image, numbers or shapes do not match, or an id is no class.
    """
    from unet_jax import figures
    from unet_jax.arrays import as_image, as_mask, known_pixels, names_of
    from unet_jax.data.sample import RGB

    if not len(images) or not len(images) == len(truths) == len(predictions):
        raise UserError(
            f"{len(images)} images, {len(truths)} truths and {len(predictions)} predictions; "
            "expected lists of one length, of one or more."
        )
    pixels = [as_image(f"images[{i}]", x, value_range, RGB) for i, x in enumerate(images)]
    truths, predictions = (
        [
            as_mask(f"{name}[{i}]", mask, x.shape[:2], by_class=by_class)
            for i, (mask, x) in enumerate(zip(given, pixels, strict=True))
        ]
        for name, given in {"truths": truths, "predictions": predictions}.items()
    )
    known = [mask[known_pixels(mask, by_class=by_class)] for mask in truths]
    given = {f"truths[{i}]": mask for i, mask in enumerate(known)}
    given |= {f"predictions[{i}]": mask for i, mask in enumerate(predictions)}
    names = names_of(class_names, given, by_class=by_class)
    ids = [f"image {index}" for index in range(len(pixels))]
    file = Path(path).expanduser()
    figures.prediction_grid(file, pixels, truths, predictions, names, title, ids)
    return file


def _prepare() -> None:
    """Makes the settings that the commands make before jax starts, so that results are the same."""
    from unet_jax.process import runtime

    runtime.prepare()


def _by_key(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns values by whole key: {"train": {"seed": 1}} becomes {"train.seed": 1}."""
    found: dict[str, Any] = {}
    for name, value in sections.items():
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            found |= _by_key(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = tuple(value) if isinstance(value, list) else value
    return found
