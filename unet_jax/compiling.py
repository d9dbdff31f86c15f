"""The compiled train step of an experiment, before anything has run."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from unet_jax.experiment import Experiment, step_shapes
from unet_jax.step import Step


def compile_step(experiment: Experiment) -> Any:
    """Compiles the train step without making a state or a batch.

    Args:
        experiment: The experiment, from `assemble`.

    Returns:
        The `jax.stages.Compiled`.
    """
    step: Any = experiment.train_step
    return step.lower(*step_shapes(experiment)).compile()


def compile_ahead(experiment: Experiment) -> Step:
    """Begins to compile the train step in another thread, while a run begins in this one.

    Args:
        experiment: The experiment, from `assemble`.

    Returns:
        The step, which waits for its program and raises what compiling it raised.
    """
    thread = ThreadPoolExecutor(1)
    compiled = thread.submit(compile_step, experiment)
    thread.shutdown(wait=False)
    return lambda *arguments: compiled.result()(*arguments)
