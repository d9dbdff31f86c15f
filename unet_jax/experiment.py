"""What a config describes, put together: the only place where its parts meet."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax.augment.make import Augment, check_augment, make_augment
from unet_jax.config import call, check_sections
from unet_jax.data.base import Dataset
from unet_jax.data.class_weights import Weights, find_rule, weigh
from unet_jax.data.foreground import choose_classes
from unet_jax.data.sample import Ends, Spec
from unet_jax.data.sources import Loading, read_loading
from unet_jax.data.statistics import find_ends
from unet_jax.defaults import HEADLINE, complete, to_config
from unet_jax.durations import MOST_STEPS, Plan, check_plan, make_plan
from unet_jax.errors import UserError
from unet_jax.losses.make import check_loss, make_loss
from unet_jax.metrics.make import Headline, check_headline, make_metrics, read_headline
from unet_jax.models.axis import check_valid_size
from unet_jax.models.pretrained.weights import Load, make_pretrained
from unet_jax.models.rules import check_options
from unet_jax.models.unet import UNet
from unet_jax.optim import check_optimizer, make_optimizer
from unet_jax.runs.splits import Splits, open_kept
from unet_jax.sharding import (
    Shardings,
    check_batch_size,
    check_height,
    make_shardings,
    put_shapes,
)
from unet_jax.step import (
    Init,
    State,
    Step,
    abstract_state,
    make_init,
    make_train_step,
    variable_shapes,
)
from unet_jax.task import Task, make_task

Place = tuple[str, ...]
"""Of a value in a config, such as ("loss", "dice", "weight")."""


class EvalSettings(NamedTuple):
    """The eval section of a config; see `make_eval_settings`."""

    batch_size: int
    shown: int
    headline: Headline


def make_eval_settings(
    batch_size: int = 32, shown: int = 6, headline: str = HEADLINE
) -> EvalSettings:
    """Checks the eval section of a config.

    Args:
        batch_size: B, over all devices.
        shown: How many fixed images are shown in figures.
        headline: The score on the validation split that decides the best checkpoint, searches and
            reports, such as "Dice/disk".

    Returns:
        The settings.

    Raises:
        UserError: A number is out of range, or there is no such score.
    """
    for name, number in {"batch_size": batch_size, "shown": shown}.items():
        if number < 1:
            raise UserError(f"config.eval.{name}={number} must be 1 or more.")
    return EvalSettings(batch_size, shown, read_headline(headline))


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


class Experiment(NamedTuple):
    """What trains; nothing has run yet.

    Attributes:
        dataset: The data set, with the splits that are read.
        network: The network.
        load: Puts weights of a file in the place of initial ones; None for none.
        plan: When to do what.
        init: init(key) -> the state before the first step.
        state_shapes: Shapes of the state, with shardings.
        train_step: The compiled step.
        config: The whole config, with numbers for what it leaves to the data.
        class_weights: What the data say of them; None where the config does.
    """

    dataset: Dataset
    network: Network
    load: Load | None
    plan: Plan
    init: Init
    state_shapes: State
    train_step: Step
    config: ConfigDict
    class_weights: Weights | None = None

    @property
    def model(self) -> UNet:
        """Returns the model."""
        return self.network.model

    @property
    def loading(self) -> Loading:
        """Returns how images are loaded."""
        return self.network.loading

    @property
    def shardings(self) -> Shardings:
        """Returns the mesh."""
        return self.network.shardings


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


def assemble(
    config: ConfigDict,
    kept: Splits | None = None,
    like: Experiment | None = None,
    ends: Ends | None = None,
    weights: Weights | None = None,
) -> Experiment:
    """Puts together what trains by a config.

    Args:
        config: The whole config.
        kept: The splits of a run that goes on; None draws them.
        like: What another config describes that has the same sections data, model, pretrained,
            task and mesh, and the same splits, of which then the data and the model are taken.
        ends: Black and white of the training split that a run keeps; None finds them where values
            are normalised by them.
        weights: The class weights that a run keeps which goes on; None finds them where the config
            leaves them to the data.

    Returns:
        The parts.

    Raises:
        UserError: A value or the data do not fit.
    """
    check_sections(config)
    config = complete(config)
    if like is None:
        dataset, _ = open_kept(config.data, kept, ("train", "val"))
    else:
        dataset = like.dataset
    images = len(dataset.splits["train"]) * read_loading(config.data).crops
    if images > MOST_STEPS:
        raise UserError(
            f"config.data.crops={config.data.crops} makes {images:,} images an epoch; "
            f"{MOST_STEPS:,} is the most."
        )
    plan = plan_of(config, images)
    if like is None:
        train, how = dataset.splits["train"], read_loading(config.data).normalise
        if how.is_of_train and not ends:
            ends = find_ends(train, how)
        network = make_network(config, dataset.class_names, train.spec, ends)
        load = call(make_pretrained, "config.pretrained", config.pretrained)
        if load:
            load(network.variables)  # whether the file fits
    else:
        settings = call(make_eval_settings, "config.eval", config.eval)
        network, load = like.network._replace(settings=settings), like.load
    task = network.task
    check_labels(config, task, dataset)
    check_headline(config.eval.headline, make_metrics(task.names, dataset.views, task.decides))
    _check_batches(network, plan)
    check_loss(config.loss, num_classes=task.channels)  # before the pixels are counted
    config, weights = _weigh(config, dataset, task, weights)
    parts = step_parts(config, network, plan)
    begins = network.model, parts["optimizer"], network.image_shape, network.shardings
    state_shapes = abstract_state(*begins)
    return Experiment(
        dataset=dataset,
        network=network,
        load=load,
        plan=plan,
        init=make_init(*begins, load),
        state_shapes=state_shapes,
        train_step=make_train_step(**parts, shardings=network.shardings, state=state_shapes),
        config=config,
        class_weights=weights,
    )


def _weigh(
    config: ConfigDict, dataset: Dataset, task: Task, kept: Weights | None
) -> tuple[ConfigDict, Weights | None]:
    """Puts the class weights in the place of a rule for them; see `assemble`."""
    values = config.to_dict()
    term = values["loss"].get("cross_entropy", {})
    rule = find_rule(term.get("class_weights", ()))
    if not rule:
        return config, None
    if kept is None or (kept.rule, len(kept.weights)) != (rule, task.channels):
        train = dataset.splits["train"]
        kept = weigh(rule, train, len(dataset.class_names), task)
    term["class_weights"] = kept.weights
    return to_config(values), kept


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


def _check_batches(network: Network, plan: Plan) -> None:
    """Checks that the mesh divides the batches, and that no layer sees a single value."""
    shardings, settings, size = network.shardings, network.settings, network.loading.image_size
    check_batch_size("config.train.batch_size", plan.batch_size, shardings)
    check_batch_size("config.eval.batch_size", settings.batch_size, shardings)
    network.model.check_not_dead(f"config.data.image_size={size}", size, plan.batch_size)


def step_parts(
    config: ConfigDict,
    network: Network,
    plan: Plan,
    numbers: Mapping[Place, Any] | None = None,
) -> dict[str, Any]:
    """Makes what the train step of a config is made of.

    Args:
        config: The whole config.
        network: Its network.
        plan: Of its training.
        numbers: By place, numbers that stand for the config's and may be traced; then nothing is
            checked, since the config was.

    Returns:
        "model", "loss", "optimizer" and "augment", the arguments of `step.make_pure_step`.

    Raises:
        UserError: A value does not fit.
    """
    model, task, spec = network.model, network.task, network.spec
    length = {"total_steps": plan.total, "epoch_steps": plan.epoch_steps, "heads": model.heads()}
    if not numbers:
        optim = call(make_optimizer, "config.optim", config.optim, check_optimizer, **length)
        loss = check_loss(config.loss, num_classes=task.channels)
        augment = check_augment(config.augment, spec)
        return {
            "model": model,
            "loss": make_loss(loss, task),
            "optimizer": optim,
            "augment": _make_augment(augment, network),
        }
    values: dict[str, Any] = config.to_dict()
    for (*path, name), number in numbers.items():
        section = functools.reduce(lambda part, key: part[key], path, values)
        section[name] = number
    return {
        "model": UNet(**values["model"], num_classes=task.channels),
        "loss": make_loss(values["loss"], task),
        "optimizer": make_optimizer(**values["optim"], **length),
        "augment": _make_augment(values["augment"], network),
    }


def _make_augment(steps: Mapping[str, Mapping[str, Any]], network: Network) -> Augment:
    how = network.loading.normalise
    value_range = how.value_range(network.spec)
    return make_augment(steps, value_range, cuts=how.cuts, is_bounded=how.is_bounded)


def plan_of(config: ConfigDict, images: int) -> Plan:
    """Makes the plan of a config.

    Args:
        config: The whole config.
        images: Training images in an epoch, one for every crop.

    Returns:
        The plan.

    Raises:
        UserError: A value does not fit.
    """
    shared = {"horizon": config.optim.horizon, "group": config.optim.accumulate}
    return call(make_plan, "config.train", config.train, check_plan, images=images, **shared)
