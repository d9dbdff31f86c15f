"""What runs cost: time, parameters, FLOPs, and on what."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.report.read import Run
from experiments.report.variants import Variant


class Cost(NamedTuple):
    """What a run or a variant's mean run costs; None where it is not known.

    Attributes:
        seconds: Of training steps, without evaluation.
        parameters: Numbers in the model.
        flops: Of one picture, forward.
        device: What it ran on.
    """

    seconds: float | None
    parameters: int | None
    flops: float | None
    device: str | None


def training_seconds(run: Run) -> float | None:
    """Sums the time of a run's steps from the speeds it logged.

    Args:
        run: The run.

    Returns:
        Seconds, with those of compilation; steps after the last logged one are not counted. In
        a packed program it is the run's share. None where nothing is logged.
    """
    timed = [(line["step"], line["images_per_s"]) for line in run.lines if line.get("images_per_s")]
    if not timed or run.config is None:
        return None
    steps, speeds = np.array(timed, np.float64).T
    return float(np.sum(np.diff(steps, prepend=0) * run.config.train.batch_size / speeds))


def cost(run: Run) -> Cost:
    """Returns what a run cost."""
    devices = run.facts.get("devices") or {}
    device = (
        f"{devices['count']} x {devices['kind']}" if {"count", "kind"} <= set(devices) else None
    )
    sizes = run.facts.get("parameters"), run.facts.get("flops_per_image")
    return Cost(training_seconds(run), *sizes, device)


def mean_cost(variant: Variant) -> Cost:
    """Returns what a variant's finished runs cost on average; devices are joined."""
    costs = [cost(run) for run in variant.runs]
    seconds = [c.seconds for c in costs if c.seconds is not None]
    devices = list(dict.fromkeys(c.device for c in costs if c.device))
    return Cost(
        float(np.mean(seconds)) if seconds else None,
        next((c.parameters for c in costs if c.parameters is not None), None),
        next((c.flops for c in costs if c.flops is not None), None),
        ", ".join(devices) or None,
    )


def differing_facts(runs: Sequence[Run]) -> list[str]:
    """Names what differs between runs beside their configs: devices, versions, the code.

    Args:
        runs: The runs; those that wrote no run.json do not count.

    Returns:
        A line for each, such as "jax: 0.10.1 (2 runs), 0.10.2 (6 runs)".
    """
    told: dict[str, list[str]] = {}
    for run in runs:
        if not run.facts:
            continue
        facts = {"code (git)": run.facts.get("git_commit"), "device": cost(run).device}
        for name, value in (facts | (run.facts.get("versions") or {})).items():
            told.setdefault(name, []).append(str(value)[:12] if "git" in name else str(value))
    lines = []
    for name, values in told.items():
        if len(set(values)) > 1:
            shares = (f"{value} ({values.count(value)} runs)" for value in dict.fromkeys(values))
            lines.append(f"{name}: {', '.join(shares)}")
    return lines
