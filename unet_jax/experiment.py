"""What a config describes, put together."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax.augment import make_augment
from unet_jax.config import call, check_sections
from unet_jax.data.base import Dataset
from unet_jax.data.folder import open_folder
from unet_jax.data.pets import open_tfds
from unet_jax.data.sources import Loading, open_data
from unet_jax.data.splits import Splits, open_kept
from unet_jax.data.synthetic import open_synthetic
from unet_jax.eval_step import EvalStep
from unet_jax.evaluate import EvalSettings, make_eval_settings
from unet_jax.losses import make_loss
from unet_jax.models.geometry import check_valid_size
from unet_jax.models.options import check_options
from unet_jax.models.unet import UNet
from unet_jax.optim import make_optimizer
from unet_jax.sharding import Shardings, check_batch_size, check_height, make_shardings
from unet_jax.step import (
    Init,
    State,
    Step,
    abstract_state,
    make_init,
    make_pretrained_init,
    make_train_step,
)
from unet_jax.steps import Plan, make_plan
from unet_jax.weights import make_pretrained

# The sections of a config, and whose arguments each of them is.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "data": open_data,
    "data.folder": open_folder,
    "data.tfds": open_tfds,
    "data.synthetic": open_synthetic,
    "augment": make_augment,
    "model": UNet,
    "pretrained": make_pretrained,
    "loss": make_loss,
    "optim": make_optimizer,
    "train": make_plan,
    "eval": make_eval_settings,
    "mesh": make_shardings,
}


class Experiment(NamedTuple):
    """What a config describes, put together; nothing has run yet."""

    dataset: Dataset
    loading: Loading
    plan: Plan
    eval: EvalSettings
    shardings: Shardings
    model: UNet
    init: Init
    state_shapes: State
    train_step: Step
    eval_step: EvalStep


def assemble(config: ConfigDict, kept: Splits | None = None) -> Experiment:
    """Puts together what a config describes.

    Args:
        config: The whole config.
        kept: The splits of a run that goes on; None draws them.

    Returns:
        The parts.

    Raises:
        UserError: A value or the data do not fit.
    """
    check_sections(config)
    dataset, loading = open_kept(config.data, kept, ("train", "val"))
    classes = len(dataset.class_names)
    pictures = len(dataset.splits["train"]) * loading.crops
    plan = call(make_plan, "config.train", config.train, pictures=pictures)
    settings = call(make_eval_settings, "config.eval", config.eval)
    shardings = call(make_shardings, "config.mesh", config.mesh)
    check_batch_size("config.train.batch_size", plan.batch_size, shardings)
    check_batch_size("config.eval.batch_size", settings.batch_size, shardings)
    model = call(UNet, "config.model", config.model, num_classes=classes)
    _check_size(model, loading.image_size, plan.batch_size, shardings)
    load = call(make_pretrained, "config.pretrained", config.pretrained)
    loss = call(make_loss, "config.loss", config.loss, num_classes=classes)
    augment = call(make_augment, "config.augment", config.augment)
    steps = {"total_steps": plan.total, "epoch_steps": plan.epoch_steps, "heads": model.heads()}
    optimizer, schedule = call(make_optimizer, "config.optim", config.optim, **steps)
    init = make_init(model, optimizer, loading.image_size, shardings)
    state_shapes = abstract_state(init, shardings)  # also checks what only the model can check
    if load:
        init = make_pretrained_init(init, load, optimizer, shardings)
    train_step = make_train_step(model, loss, optimizer, schedule, augment, shardings, state_shapes)
    eval_step = EvalStep(model, loading, shardings)
    return Experiment(
        dataset,
        loading,
        plan,
        settings,
        shardings,
        model,
        init,
        state_shapes,
        train_step,
        eval_step,
    )


def _check_size(model: UNet, size: tuple[int, int], batch_size: int, shardings: Shardings) -> None:
    """Checks that a model can train on pictures of a size."""
    check_options(model)
    check_height(size[0], model.multiple(), model.padding, shardings)
    if model.padding == "valid":
        check_valid_size("config.data.image_size", model.axis_path(), size)
    model.check_not_dead(f"config.data.image_size={size}", size, batch_size)
