"""What a config describes, put together: the only place where its parts meet."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.augment.make import Augment, Given, check_augment, make_augment
from unet_jax.config import call, check_sections
from unet_jax.data import foreground
from unet_jax.data.base import Dataset
from unet_jax.data.class_weights import Weights, weigh
from unet_jax.data.maps import Map
from unet_jax.data.sample import Ends
from unet_jax.data.sources import Loading, read_loading
from unet_jax.data.statistics import find_ends
from unet_jax.defaults import complete, to_config
from unet_jax.durations import MOST_STEPS, Plan, check_plan, make_plan
from unet_jax.errors import UserError
from unet_jax.losses.by_rule import find_rules, put_weights
from unet_jax.losses.make import check_loss, find_maps, make_loss
from unet_jax.metrics.make import check_headline, make_metrics
from unet_jax.models.pretrained.weights import Load, make_pretrained
from unet_jax.models.unet import UNet
from unet_jax.network import Network, check_labels, make_eval_settings, make_network
from unet_jax.optim.make import check_optimizer, make_optimizer
from unet_jax.optim.rates import check_parts
from unet_jax.runs.splits import Splits, open_kept
from unet_jax.runs.trackers.make import check_trackers
from unet_jax.runs.variables import read_variables
from unet_jax.sharding import Shardings, check_batch_size
from unet_jax.step import Init, State, Step, abstract_state, make_init, make_train_step
from unet_jax.task import Task

Place = tuple[str, ...]
"""Of a value in a config, such as ("loss", "dice", "weight")."""


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
        maps: What the loss needs beside the label.
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
    maps: tuple[Map, ...] = ()

    @property
    def model(self) -> UNet:
        """Returns the model."""
        return self.network.model

    @property
    def loading(self) -> Loading:
        """Returns how images are loaded, with what the loss needs beside the label."""
        return self.network.loading._replace(maps=self.maps)

    @property
    def shardings(self) -> Shardings:
        """Returns the mesh."""
        return self.network.shardings


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
    check_trackers(plan.trackers)
    if like is None:
        train, how = dataset.splits["train"], read_loading(config.data).normalise
        if how.is_of_train and not ends:
            ends = find_ends(train, how)
        network = make_network(config, dataset.class_names, train.spec, ends)
        load = call(
            make_pretrained, "config.pretrained", config.pretrained, read_run=read_variables
        )
        if load:
            load(network.variables)  # whether the file fits
    else:
        settings = call(make_eval_settings, "config.eval", config.eval)
        network, load = like.network._replace(settings=settings), like.load
    task = network.task
    check_labels(config, task, dataset)
    views, chosen = dataset.views, network.settings.metrics
    check_headline(config.eval.headline, make_metrics(task.names, views, task.decides, chosen))
    _check_batches(network, plan)
    terms = check_loss(config.loss, num_classes=task.channels)  # before the pixels are counted
    config, weights = _weigh(config, dataset, task, weights)
    parts = step_parts(config, network, plan)
    begins = network.model, parts["optimizer"], network.image_shape, network.shardings
    state_shapes = abstract_state(*begins)
    check_parts(network.model.frozen, config.optim.rates, state_shapes.params)
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
        maps=find_maps(terms, task, len(dataset.class_names)),
    )


def _weigh(
    config: ConfigDict, dataset: Dataset, task: Task, kept: Weights | None
) -> tuple[ConfigDict, Weights | None]:
    """Puts the class weights in the place of a rule for them; see `assemble`."""
    values = config.to_dict()
    rules = find_rules(values["loss"], task)
    if not rules:
        return config, None
    rule = next(iter(rules.values()))
    if kept is None or (kept.rule, len(kept.weights)) != (rule, task.channels):
        train = dataset.splits["train"]
        kept = weigh(rule, train, len(dataset.class_names), task)
    values["loss"] = put_weights(values["loss"], rules, kept.weights)
    return to_config(values), kept


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
    model, task = network.model, network.task
    length: dict[str, Any] = {"total_steps": plan.total, "epoch_steps": plan.epoch_steps}
    length["frozen"] = model.frozen
    if not numbers:
        loss = make_loss(check_loss(config.loss, num_classes=task.channels), task)
        length["heads"] = model.heads() * len(loss.parts)
        optim = call(make_optimizer, "config.optim", config.optim, check_optimizer, **length)
        given = Given(network.spec, network.loading.image_size, task, plan.batch_size)
        augment = check_augment(config.augment, given)
        return {
            "model": model,
            "loss": loss,
            "optimizer": optim,
            "augment": _make_augment(augment, network),
        }
    values: dict[str, Any] = config.to_dict()
    for (*path, name), number in numbers.items():
        section = functools.reduce(lambda part, key: part[key], path, values)
        section[name] = number
    loss = make_loss(values["loss"], task)
    length["heads"] = model.heads() * len(loss.parts)
    return {
        "model": UNet(**values["model"], num_classes=task.channels),
        "loss": loss,
        "optimizer": make_optimizer(**values["optim"], **length),
        "augment": _make_augment(values["augment"], network),
    }


def _make_augment(steps: Mapping[str, Mapping[str, Any]], network: Network) -> Augment:
    how = network.loading.normalise
    value_range = how.value_range(network.spec)
    return make_augment(steps, value_range, cuts=how.cuts, is_bounded=how.is_bounded)


def reach(experiment: Experiment) -> float:
    """Returns the share of crops that are put on a chosen class; see `foreground.reach`."""
    loading, names = experiment.loading, experiment.dataset.class_names
    if not loading.foreground:
        return 0.0
    classes, train = loading.foreground_classes, experiment.dataset.splits["train"]
    return foreground.reach(train, classes, len(names), loading.foreground)


def step_shapes(experiment: Experiment) -> tuple[Any, dict[str, Any], Any]:
    """Returns the shapes of the train step's arguments: state, batch and key."""
    # Without shardings, but for the state: those of the step's own arguments hold.
    size, network = experiment.plan.batch_size, experiment.network
    dtype = network.loading.normalise.dtype(network.spec)
    image = jax.ShapeDtypeStruct((size, *network.image_shape), dtype)
    pixels = (size, *network.loading.image_size)
    label = jax.ShapeDtypeStruct((*pixels, *network.task.label_shape), np.uint8)
    weight = jax.ShapeDtypeStruct(pixels, np.uint8)
    batch: dict[str, Any] = {"image": image, "label": label, "weight": weight}
    if maps := experiment.loading.maps:
        extras = {m.name: jax.ShapeDtypeStruct((*pixels, *m.channels), np.float32) for m in maps}
        batch["extras"] = extras
    return experiment.state_shapes, batch, jax.eval_shape(lambda: jax.random.key(0))


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
