"""What is checked before a training spends time."""

import math

import numpy as np

from unet_jax.data.check import check
from unet_jax.errors import UserError
from unet_jax.experiment import Experiment, reach
from unet_jax.predict.predictor import Predictor
from unet_jax.process.capacity import bytes_per_device, device_memory, write_bytes


def check_memory(experiment: Experiment) -> None:
    """Checks that the devices can hold the state and a batch, before either is made.

    Whether the train step fits as well is what --mode=plan tells.

    Args:
        experiment: What trains.

    Raises:
        UserError: They cannot.
    """
    e, there = experiment, device_memory()
    spec = e.network.spec
    label_bytes = math.prod(e.network.task.label_shape) + 1  # with the weight
    label_bytes += sum(4 * math.prod(each.channels) for each in e.loading.maps)
    value = np.dtype(e.loading.normalise.dtype(spec)).itemsize
    pixel = spec.channels * value + label_bytes
    batch = e.plan.batch_size * math.prod(e.loading.image_size) * pixel // e.shardings.mesh.size
    state = bytes_per_device(e.state_shapes)
    if state + batch > there:
        raise UserError(
            f"a device has {write_bytes(there)} of memory, and the parameters and the optimiser's "
            f"state take {write_bytes(state)}, a batch {write_bytes(batch)}: lower "
            "config.model.features or config.model.width, or config.train.batch_size or "
            "config.data.image_size, or split them over more devices with config.mesh."
        )


def check_data(experiment: Experiment, eval_step: Predictor) -> None:
    """Checks the images and masks that training and validation read, before time is spent.

    Args:
        experiment: What trains.
        eval_step: Evaluates its network.

    Raises:
        UserError: One does not fit; see `check.check` and `Predictor.check`.
    """
    e = experiment
    for split in ("train", "val"):
        check(e.dataset.splits[split], split, len(e.dataset.class_names), e.network.known_range)
    reach(e)
    known = e.plan.batch_size * math.prod(e.loading.image_size)  # a step takes more memory
    val, size = e.dataset.splits["val"], e.network.settings.batch_size
    eval_step.check(e.network.variables, val, size, known)
    eval_step.say_tiles(e.network.variables, val, size)
