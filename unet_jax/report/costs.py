"""What runs cost: time, parameters, FLOPs, and on what."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.report.read import Run
from unet_jax.report.variants import Variant
from unet_jax.studies.trials import training_seconds


class Cost(NamedTuple):
    """What a run or a variant's mean run costs; None where it is not known.

    Attributes:
        seconds: Of training steps, without evaluation.
        parameters: Numbers in the model.
        flops: Of one image, forward.
        device: What it ran on.
    """

    seconds: float | None
    parameters: int | None
    flops: float | None
    device: str | None


def cost(run: Run) -> Cost:
    """Returns what a run cost."""
    devices = run.facts.get("devices") or {}
    device = (
        f"{devices['count']} x {devices['kind']}" if {"count", "kind"} <= set(devices) else None
    )
    sizes = run.facts.get("parameters"), run.facts.get("flops_per_image")
    size = 0 if run.config is None else run.config.train.batch_size
    seconds, images = training_seconds(run.lines, size)
    return Cost(seconds if images else None, *sizes, device)


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
