"""A run that goes on for longer than it was meant to, as if it had been meant to from the start."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax import compare
from unet_jax import config as configs
from unet_jax.defaults import complete
from unet_jax.durations import Plan, to_seconds, to_steps
from unet_jax.errors import UserError
from unet_jax.experiment import Experiment, plan_of
from unet_jax.html.document import is_by
from unet_jax.metrics.make import Headline
from unet_jax.optim.schedule import count_warmup
from unet_jax.process.owner import turn
from unet_jax.process.whole import write_text
from unet_jax.runs import checkpoint, history, layout
from unet_jax.runs.logs import read_lines
from unet_jax.runs.results import read_results

DURATION = "config.train.duration"
_SHARES = (
    ("optim", "warmup"),
    ("optim", "swa_from"),
    ("train", "eval_every"),
    ("train", "checkpoint_every"),
    ("train", "log_every"),
)


def find_shorter(workdir: Path, config: ConfigDict, advice: str) -> ConfigDict | None:
    """Finds the run in a directory that a config makes longer; writes nothing.

    Args:
        workdir: The directory.
        config: The whole config.
        advice: What to do where that is not possible, for the error.

    Returns:
        The config with the duration of the run in the directory, if nothing else is other there;
        None elsewhere.

    Raises:
        UserError: Only the duration is other, and what the run has done depends on it.
    """
    file = workdir / layout.CONFIG
    if not file.exists():
        return None
    saved = configs.load(file)
    lines = compare.other_results(saved, config)
    if [line.partition(":")[0] for line in lines] != [DURATION]:
        return None
    if depends := _depends_on_duration(config) or _depends_on_duration(saved):
        raise UserError(_refusal(workdir, lines, depends, advice))
    shorter = complete(config)
    shorter.train.duration = saved.train.duration
    return shorter


def _refusal(workdir: Path, lines: list[str], depends: list[str], advice: str) -> str:
    return (
        f"--workdir={workdir} holds a run of another config: {'; '.join(lines)}. {advice} A run "
        f"can be made longer only where nothing else depends on its duration, as here "
        f"{', '.join(depends)}: with config.optim.horizon set from the start, or with "
        "config.optim.schedule='constant' and steps or epochs for every percentage."
    )


def _depends_on_duration(config: ConfigDict) -> list[str]:
    """Names the values that say something else in a longer run."""
    if to_seconds(config.train.duration) is not None:
        return [f"{DURATION}={config.train.duration!r}, a time"]
    if config.train.patience:  # the last step is evaluated, due or not
        return [f"config.train.patience={config.train.patience!r}"]
    if config.optim.horizon:
        return []
    schedule = config.optim.schedule
    values = {f"{part}.{key}": config[part][key] for part, key in _SHARES}
    shares = [f"config.{key}={value!r}" for key, value in values.items() if _is_share(key, value)]
    ramps = {f"config.loss.{name}.ramp": term.get("ramp") for name, term in config.loss.items()}
    shares += [f"{key}={ramp}" for key, ramp in ramps.items() if ramp]
    return [f"config.optim.schedule={schedule!r}"] * (schedule != "constant") + shares


def _is_share(key: str, value: str) -> bool:
    if value == "":
        return False
    hundredths = to_steps(value, key=f"config.{key}", epoch_steps=1.0, total_steps=100)
    return "%" in str(value) and hundredths > 0


def plan_shorter(
    workdir: Path, shorter: ConfigDict, config: ConfigDict, experiment: Experiment, advice: str
) -> Plan:
    """Checks that a longer run does the same as long as the shorter one lasts.

    Args:
        workdir: The run's directory.
        shorter: See `find_shorter`.
        config: The whole config.
        experiment: What it describes.
        advice: What to do where it does not, for the error.

    Returns:
        The plan of the shorter run.

    Raises:
        UserError: It is not longer, or the warm-up was cut short.
    """
    longer, dataset = experiment.plan, experiment.dataset
    plan = plan_of(shorter, len(dataset.splits["train"]) * experiment.loading.crops)
    lines = compare.other_results(shorter, config)
    if plan.total >= longer.total:
        raise UserError(
            f"--workdir={workdir} holds a run of another config: {'; '.join(lines)}. {advice}"
        )
    if not config.optim.horizon:
        warmup = config.optim.warmup
        counts = {count_warmup(warmup, p.group, p.total, p.epoch_steps) for p in (plan, longer)}
        if len(counts) > 1:  # it ends before the last update
            depends = [f"config.optim.warmup={warmup!r}, which was cut short"]
            raise UserError(_refusal(workdir, lines, depends, advice))
    _check_best(workdir, plan, longer, experiment.network.settings.headline)
    return plan


def _check_best(workdir: Path, shorter: Plan, longer: Plan, headline: Headline) -> None:
    """Checks that of the evaluations of both the best one's checkpoint is there."""
    saved = [int(x.name) for x in (workdir / layout.CHECKPOINTS).glob("*") if x.name.isdecimal()]
    if not _is_of_both(shorter, longer):
        saved = [step for step in saved if step != shorter.total]
    lines = read_lines(workdir / layout.METRICS)
    ranks = [(headline.rank(line, "val/"), line["step"]) for line in lines]
    found = [x for x in ranks if x[0] is not None and x[1] <= max(saved, default=0)]
    if found and max(found)[1] not in saved:
        raise UserError(
            f"--workdir={workdir} cannot be made longer: its best checkpoint but the last one, of "
            f"step {max(found)[1]}, is not there (older versions did not keep it); train the "
            "longer run in another directory."
        )


def take_back(workdir: Path, shorter: Plan, longer: Plan) -> None:
    """Deletes what the end of the shorter run left and the longer one would not.

    The results go first, and whoever calls writes the config after: a run that dies in between is
    the shorter one still, not finished. Metrics after the last checkpoint go when the run goes on.

    Args:
        workdir: The run's directory.
        shorter: Plan of the run that is there.
        longer: Plan of the run that goes on.
    """
    last = shorter.total
    goes = not _is_of_both(shorter, longer)
    file = workdir / layout.RESULTS
    with turn(file):  # an evaluation may be writing it
        results = {
            name: entry
            for name, entry in read_results(workdir).items()
            if name not in ("val", "train") and not (goes and entry["step"] == last)
        }
        if results:
            write_text(file, json.dumps(results, indent=2) + "\n")
        else:
            file.unlink(missing_ok=True)
    if is_by(workdir / layout.REPORT, layout.REPORT_BY):
        (workdir / layout.REPORT).unlink()
    history.remove_end(workdir)
    if not goes:
        return
    checkpoint.delete(workdir / layout.CHECKPOINTS, last)
    figures = workdir / layout.FIGURES
    for folder in (figures, workdir / layout.EVALUATIONS):
        for file in folder.glob(f"*_{last:08d}.*"):
            file.unlink()
    (figures / "history" / f"{last:08d}.npz").unlink(missing_ok=True)


def _is_of_both(shorter: Plan, longer: Plan) -> bool:
    """Tells whether the longer run leaves the same at the shorter one's last step."""
    last = shorter.total
    logged = [last % plan.log_every == 0 for plan in (shorter, longer)]
    is_due = last % longer.eval_every == 0 and last % longer.group == 0
    return is_due and logged[0] == logged[1]
