"""Checks the configs of trials and measures a train step, in a process of its own.

The sweep itself then never holds a device that its trials need.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax import config as configs
from unet_jax.errors import UserError
from unet_jax.runs import layout
from unet_jax.studies.engines.child import tied

SECONDS = 3.0  # of timed steps, at most
STEPS = 10  # timed, at most
SKIP = " Or leave out what is impossible: --skip_impossible."
# What decides the shapes; configs that agree in them are the same to the model.
_SHAPES = ("data", "model", "pretrained", "task", "mesh")


class Facts(NamedTuple):
    """What the config of a trial comes to.

    Attributes:
        steps: Of the whole run.
        batch_size: Images in a step.
        flops: Of a forward pass, for one image.
        evaluated: Validation images, over all evaluations.
    """

    steps: int
    batch_size: int
    flops: float
    evaluated: int

    def work(self, steps: int | None = None) -> float:
        """Returns an amount that time grows with: FLOPs forward and backward.

        Args:
            steps: Steps taken of the run; None for all.
        """
        share = 1.0 if steps is None else steps / self.steps
        # A step is a forward pass and a backward pass of twice its size; evaluation is forward.
        return self.flops * share * (self.steps * self.batch_size + self.evaluated / 3)


class Timing(NamedTuple):
    """What the first config took.

    Attributes:
        start: Seconds from the start of a process to the end of its first step.
        step: Seconds of a step, the median.
        count: Steps that were timed.
        device: On which.
    """

    start: float
    step: float
    count: int
    device: str


class Answer(NamedTuple):
    """What `ask` found.

    Attributes:
        facts: Of each config that is possible.
        timing: Of the first of them; None where it was not asked for.
        impossible: Why each of the others is not, by name.
    """

    facts: list[Facts]
    timing: Timing | None
    impossible: Mapping[str, str] = {}


def ask(
    configs_by_name: Mapping[str, ConfigDict],
    env: Mapping[str, str],
    study: Path,
    *,
    timed: bool = False,
    skips: bool = False,
) -> Answer:
    """Checks configs as training would, and counts what they take.

    Args:
        configs_by_name: The configs by their trials' names.
        env: Environment variables of the process that does it, beside those of this one.
        study: Folder with the trials' folders; those that go on keep their splits.
        timed: Whether to time a few steps of the first one.
        skips: Whether those that are impossible are left out.

    Returns:
        What was found, in the order of the configs.

    Raises:
        UserError: A config does not fit, and is not left out; the message begins with its trial's
            name.
    """
    names = list(configs_by_name)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(index) / layout.CONFIG for index in range(len(names))]
        for file, (name, config) in zip(files, configs_by_name.items(), strict=True):
            file.parent.mkdir()
            file.write_text(configs.to_json(config))
            if (kept := study / name / layout.SPLIT).exists():
                shutil.copy(kept, file.parent)
        reply = Path(folder) / "reply.json"
        asked = (int(timed), int(skips))
        line = [sys.executable, "-m", "unet_jax.studies.sweep.probe", reply, *asked, *files]
        code = subprocess.run(tied(map(str, line)), env=os.environ | env).returncode
        if code or not reply.exists():
            raise RuntimeError(f"checking the trials' configs ended with exit code {code}")
        found = json.loads(reply.read_text())
    impossible = {names[int(index)]: error for index, error in found["errors"].items()}
    for name, error in impossible.items() if not skips else ():
        raise UserError(f"{name}: {error}{SKIP if len(names) > 1 else ''}")
    timing = Timing(*found["timing"]) if found["timing"] else None
    return Answer([Facts(*facts) for facts in found["facts"]], timing, impossible)


def answer(
    files: Sequence[Path], *, timed: bool, began: float, skips: bool = False
) -> dict[str, Any]:
    """Answers `ask`, in the process of its own.

    Args:
        files: The configs.
        timed: Whether to time steps of the first one.
        skips: Whether to go on after one that is impossible.
        began: When the process began, of `time.time`.

    Returns:
        Entries "facts" and "timing" of those that are possible, and "errors" by index.
    """
    known: dict[str, Any] = {}
    errors: dict[int, str] = {}
    facts, timing = [], None
    for index, file in enumerate(files):
        config = configs.load(file)
        try:
            facts.append(_check(config, file.parent, known))
        except UserError as error:
            errors[index] = str(error)
            if skips:
                continue
            break
        if timing is None and timed:
            timing = _time(known[_shapes(config, file.parent)][0], began)
    return {"facts": facts, "timing": timing, "errors": errors}


def _shapes(config: ConfigDict, folder: Path) -> str:
    split = folder / layout.SPLIT
    sections = json.dumps([config[name].to_dict() for name in _SHAPES], sort_keys=True)
    return sections + (split.read_text() if split.exists() else "")


def _check(config: ConfigDict, folder: Path, known: dict[str, Any]) -> Facts:
    """Checks a config; of one whose shapes are known, only what is left.

    Args:
        config: The whole config.
        folder: Where its trial's split.json is, if it goes on.
        known: Experiments and their FLOPs, by `_shapes`; a new one is added.

    Returns:
        Its facts.
    """
    from unet_jax.experiment import assemble
    from unet_jax.models.anatomy import forward_flops
    from unet_jax.runs import class_weights, splits, statistics

    configs.check_sections(config)
    key = _shapes(config, folder)
    before, flops = known.get(key, (None, 0.0))
    found = statistics.read(folder), class_weights.read(folder)
    e = assemble(config, splits.read(folder), before, *found)
    if before is None:
        flops = forward_flops(e.model, e.network.variables, (1, *e.network.image_shape))
        known[key] = e, flops
    evaluations = -(-e.plan.total // e.plan.eval_every)
    evaluated = evaluations * len(e.dataset.splits["val"])
    return Facts(e.plan.total, e.plan.batch_size, flops, evaluated)


def _time(e: Any, began: float) -> Timing:
    """Times steps on one batch that stays on the device."""
    import jax

    from unet_jax.data.pipeline import train_batches
    from unet_jax.sharding import describe_devices, put_batch, replicate

    order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1}
    batch = next(train_batches(e.dataset.splits["train"], e.loading, **order))
    batch, key = put_batch(batch, e.shardings), replicate(jax.random.key(0), e.shardings)
    state, scalars = e.train_step(e.init(jax.random.key(0)), batch, key)
    jax.block_until_ready(scalars)
    start, seconds = time.time() - began, []
    while len(seconds) < STEPS and sum(seconds) < SECONDS:
        step_began = time.perf_counter()
        state, scalars = e.train_step(state, batch, key)
        jax.block_until_ready(scalars)
        seconds.append(time.perf_counter() - step_began)
    devices = describe_devices()
    device = f"{devices['count']} x {devices['kind']} ({devices['platform']})"
    return Timing(start, statistics.median(seconds), len(seconds), device)


def main(argv: Sequence[str]) -> None:
    """Writes the reply to the first file; then come 0 or 1 for `timed` and `skips`, and configs."""
    began = time.time()
    from unet_jax.process import runtime

    runtime.prepare()
    timed, skips = (text == "1" for text in argv[2:4])
    reply = answer([Path(name) for name in argv[4:]], timed=timed, skips=skips, began=began)
    Path(argv[1]).write_text(json.dumps(reply))
    runtime.end_quickly()


if __name__ == "__main__":
    main(sys.argv)
