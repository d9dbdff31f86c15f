"""What a config says of a model, its task, its images and its mesh: what evaluates and predicts."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax.config import call, check_range, choose
from unet_jax.data.base import Dataset
from unet_jax.data.foreground import choose_classes
from unet_jax.data.sample import Ends, Spec
from unet_jax.data.sources import Loading, read_loading
from unet_jax.defaults import HEADLINE
from unet_jax.errors import UserError
from unet_jax.metrics.choices import Chosen, check_metrics
from unet_jax.metrics.make import Headline, read_headline
from unet_jax.models.axis import check_valid_size
from unet_jax.models.rules import check_options
from unet_jax.models.unet import UNet
from unet_jax.sharding import (
    Shardings,
    check_batch_size,
    check_height,
    make_shardings,
    put_shapes,
)
from unet_jax.step import variable_shapes
from unet_jax.task import Task, make_task

MODES, WINDOWS = ("exact", "blended"), ("gaussian", "constant")
MOST_TILE, MOST_WHOLE = 2**14, 2**40  # pixels along an axis, and in all


class TileSettings(NamedTuple):
    """The eval.tiles section of a config; see `make_tile_settings`."""

    size: tuple[int, ...] = ()
    whole: int = 2**22
    mode: str = "exact"
    overlap: float = 0.5
    window: str = "gaussian"


def make_tile_settings(
    size: tuple[int, ...] = (),
    whole: int = 2**22,
    mode: str = "exact",
    overlap: float = 0.5,
    window: str = "gaussian",
) -> TileSettings:
    """Checks how images that are too large for one piece are evaluated and predicted.

    It counts with config.data.fit="crop" alone, since "resize" makes all images small.

    Args:
        size: Pixels of a tile: (side,), or one for each axis; they are rounded up to what the
            network's poolings divide. In mode "exact" it is what is kept of each read, which has a
            halo around it; () for 1,024 pixels a side, 128 of volumes, or less where that needs
            more memory than there is. In mode "blended" it is what is read; () for
            config.data.image_size, as in training.
        whole: Pixels of the largest image that goes through the network in one piece; larger ones
            go in tiles.
        mode: "exact", where tiles make up the result of the whole image; or "blended", where tiles
            overlap and their logits are averaged. A network with a layer that takes statistics over
            the image has no exact tiles, and its tiles are blended in any case.
        overlap: Share of a tile that the next one holds as well, in mode "blended"; in [0, 1).
        window: Weights of the average: "gaussian", highest in the middle of a tile, with a standard
            deviation of an eighth of its side; or "constant".

    Returns:
        The settings.

    Raises:
        UserError: A value does not fit.
    """
    key = "config.eval.tiles"
    are_sizes = all(type(n) is int and 1 <= n <= MOST_TILE for n in size)
    if len(size) > 3 or not are_sizes:
        raise UserError(
            f"{key}.size={size} must be (side,) in pixels, or one for each axis, each from 1 to "
            f"{MOST_TILE}; or () to choose it."
        )
    check_range(f"{key}.whole", whole, 0, MOST_WHOLE)
    choose(dict.fromkeys(MODES), f"{key}.mode", mode)
    choose(dict.fromkeys(WINDOWS), f"{key}.window", window)
    if not 0 <= overlap < 1:
        raise UserError(f"{key}.overlap={overlap} must be in [0, 1).")
    return TileSettings(size, whole, mode, overlap, window)


class EvalSettings(NamedTuple):
    """The eval section of a config; see `make_eval_settings`."""

    batch_size: int
    shown: int
    headline: Headline
    figures: bool
    metrics: Chosen
    tiles: TileSettings = TileSettings()


def make_eval_settings(
    batch_size: int = 32,
    shown: int = 6,
    headline: str = HEADLINE,
    figures: bool = True,
    metrics: Mapping[str, Any] | None = None,
    tiles: Mapping[str, Any] | None = None,
) -> EvalSettings:
    """Checks the eval section of a config.

    Args:
        batch_size: B, over all devices.
        shown: How many fixed images are shown in figures.
        headline: The score on the validation split that decides the best checkpoint, searches and
            reports, such as "Dice/disk".
        figures: Whether training draws figures, and training and evaluation the page of the run.
            What they are drawn from is kept without them too, and the same command with True draws
            them later.
        metrics: Metrics beside those that every evaluation has, by name of `CHOICES` in
            `metrics/choices.py`, each with its own keys.
        tiles: Arguments of `make_tile_settings`.

    Returns:
        The settings.

    Raises:
        UserError: A number is out of range, or there is no such score or metric.
    """
    for name, number in {"batch_size": batch_size, "shown": shown}.items():
        if number < 1:
            raise UserError(f"config.eval.{name}={number} must be 1 or more.")
    chosen = check_metrics(metrics or {})
    how = call(make_tile_settings, "config.eval.tiles", tiles or {})
    return EvalSettings(batch_size, shown, read_headline(headline), figures, chosen, how)


class Network(NamedTuple):
    """A model on a mesh, and how images come to it: what evaluates and predicts.

    Attributes:
        model: The model.
        task: What a label means.
        spec: Of the images.
        loading: How images are loaded.
        settings: The settings of evaluation.
        shardings: The mesh.
        variables: Shapes of {"params", "batch_stats"}, with shardings.
    """

    model: UNet
    task: Task
    spec: Spec
    loading: Loading
    settings: EvalSettings
    shardings: Shardings
    variables: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Returns [*n, C] of a training image."""
        return (*self.loading.image_size, self.spec.channels)

    @property
    def known_range(self) -> tuple[float, float]:
        """Returns black and white where they are given; of all numbers where images tell them."""
        how = self.loading.normalise
        is_given = not (how.is_of_image or how.is_of_train)
        return self.spec.value_range if is_given else (-math.inf, math.inf)


def make_network(
    config: ConfigDict, class_names: tuple[str, ...], spec: Spec, ends: Ends | None = None
) -> Network:
    """Makes the network of a config, without its data and its weights.

    Args:
        config: The whole config.
        class_names: Of the labels.
        spec: Of the images.
        ends: Black and white of each channel of the training split, where values are normalised by
            them; see `normalise.Normalise`.

    Returns:
        The network.

    Raises:
        UserError: A value does not fit.
    """
    loading = read_loading(config.data)
    if ends:
        loading = loading._replace(normalise=loading.normalise._replace(ends=ends))
    if loading.value_range:
        black, white = loading.value_range
        spec = spec._replace(value_range=(black, white))
    settings = call(make_eval_settings, "config.eval", config.eval)
    shardings = call(make_shardings, "config.mesh", config.mesh)
    check_batch_size("config.eval.batch_size", settings.batch_size, shardings)
    task = call(make_task, "config.task", config.task, class_names=class_names)
    chosen, by_class = loading.foreground_classes, bool(task.label_shape)
    loading = loading._replace(
        foreground_classes=choose_classes(chosen, class_names, by_class=by_class)
    )
    model = call(UNet, "config.model", config.model, num_classes=task.channels)
    check_options(model)
    _check_axes(model, loading, spec)
    _check_tiles(settings.tiles, spec)
    check_height(loading.image_size[0], model.multiple(), model.padding, shardings)
    if model.padding == "valid":
        check_valid_size("config.data.image_size", model.axis_path(), loading.image_size)
    # Checks what only the model can check.
    shapes = variable_shapes(model, (*loading.image_size, spec.channels))
    return Network(
        model=model,
        task=task,
        spec=spec,
        loading=loading,
        settings=settings,
        shardings=shardings,
        variables=put_shapes(shapes, shardings),
    )


def _check_axes(model: UNet, loading: Loading, spec: Spec) -> None:
    """Checks that the model and the size are for images of so many axes."""
    sizes = ("depth", "height", "width")[-spec.axes :]
    if model.dimensions != spec.axes or len(loading.image_size) != spec.axes:
        raise UserError(
            f"the images of the data have {spec}, and config.model.dimensions={model.dimensions}, "
            f"config.data.image_size={loading.image_size}: set config.model.dimensions={spec.axes} "
            f"and config.data.image_size to ({', '.join(sizes)})."
        )


def _check_tiles(tiles: TileSettings, spec: Spec) -> None:
    """Checks that tiles have as many axes as images."""
    if len(tiles.size) not in (0, 1, spec.axes):
        raise UserError(
            f"config.eval.tiles.size={tiles.size} has {len(tiles.size)} axes, and images have "
            f"{spec.axes}; give one side for all, or {spec.axes}."
        )


def check_labels(config: ConfigDict, task: Task, dataset: Dataset) -> None:
    """Checks that the labels of a data set are of the kind that a task reads.

    Args:
        config: The whole config.
        task: Its task.
        dataset: Its data set.

    Raises:
        UserError: They are not.
    """
    kind, is_by_class = f"config.task.kind={config.task.kind!r}", bool(task.label_shape)
    if is_by_class and not dataset.by_class:
        raise UserError(
            f"{kind} needs labels by class, and those of config.data.source="
            f"{config.data.source!r} hold one class a pixel: set config.data.folder.by_class=True "
            "or config.data.synthetic.by_class=True, or another kind."
        )
    if dataset.by_class and not is_by_class:
        raise UserError(
            f"{kind} needs labels of one class a pixel, and those of config.data.source="
            f"{config.data.source!r} are by class: set config.task.kind='multilabel', or by_class "
            "of the source to False."
        )
