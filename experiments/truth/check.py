"""Trains, evaluates and predicts a case, and compares every number and mask with the truth."""

import json
import math
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from experiments.truth.cases import Case, make_config, names_of, write_folder
from experiments.truth.recompute import (
    Truth,
    first_step,
    read_variables,
    scores_of,
    truth_of,
)
from unet_jax.evaluate import evaluate_run
from unet_jax.predict.run import predict_run
from unet_jax.runs import layout
from unet_jax.training import train_and_evaluate

LOOSE = 2e-4  # relative: of losses and gradients, which are sums of rounded float32


class Findings:
    """Differences from the truth, in words."""

    def __init__(self) -> None:
        """Begins with none."""
        self.wrong: list[str] = []

    def number(self, what: str, found: float | None, right: float | None, rel: float) -> None:
        """Compares a number; None where it is not defined."""
        if found is None or right is None:
            is_right = found is right
        else:
            is_right = math.isclose(found, right, rel_tol=rel, abs_tol=rel)
        if not is_right:
            self.wrong.append(f"{what} is {found}, right is {right}")

    def true(self, what: str, holds: bool) -> None:
        """Notes what does not hold."""
        if not holds:
            self.wrong.append(what)


def check_case(case: Case, folder: Path) -> list[str]:
    """Runs a case through training, evaluation and prediction.

    Args:
        case: The case.
        folder: An empty one, for the data and the run.

    Returns:
        What is wrong, a line each.
    """
    root, run, findings = folder / "data", folder / "run", Findings()
    write_folder(root, case)
    config = make_config(case, root)
    train_and_evaluate(config, run)
    evaluate_run(config, run, split="test", checkpoint="best")
    names = [*names_of(root, "val"), *names_of(root, "test")]
    inputs = [str(root / "images" / f"{name}.png") for name in names]
    predict_run(config, run, inputs=inputs, output=folder / "masks", checkpoint="best")
    lines = [json.loads(line) for line in (run / layout.METRICS).read_text().splitlines()]
    results = json.loads((run / layout.RESULTS).read_text())
    key = jax.random.split(jax.random.key(0))[0]
    right = first_step(case, root, key)
    first = next(line for line in lines if "train/loss" in line)
    for name, value in right.items():
        rel = 0.01 if name == "train/pixel_accuracy" else LOOSE
        findings.number(name, first[name], value, rel)
    truths = {}
    for step in (1, 2):
        variables = read_variables(run / layout.CHECKPOINTS / str(step))
        found = {"val": [truth_of(case, variables, root, n) for n in names_of(root, "val")]}
        if step == results["test"]["step"]:
            found["test"] = [truth_of(case, variables, root, n) for n in names_of(root, "test")]
        truths[step] = found
        line = next(line for line in lines if line["step"] == step and "val/mIoU" in line)
        numbers = {k.removeprefix("val/"): v for k, v in line.items() if k.startswith("val/")}
        _check_split(findings, run, "val", step, numbers, found["val"])
    means = {step: _total(run, "val", step)["mIoU"] or 0 for step in truths}
    best = max(means, key=lambda step: (means[step], step))
    findings.true(
        "the best step is not that of the best mIoU", means[best] == means[results["val"]["step"]]
    )
    for split in ("val", "test"):
        step = results[split]["step"]
        _check_split(findings, run, split, step, results[split], truths[step][split])
        for name, truth in zip(names_of(root, split), truths[step][split], strict=True):
            mask = np.array(Image.open(folder / "masks" / f"{name}.png"))
            is_right = mask.shape == truth.label.shape
            is_right = is_right and not ((mask != truth.prediction) & ~truth.is_tie).any()
            findings.true(f"the mask of {name} is wrong", is_right)
    return findings.wrong


def _counts(run: Path, split: str, step: int) -> np.ndarray:
    with np.load(run / "evaluations" / f"{split}_{step:08d}.npz") as saved:
        return saved["overlap/confusion"]


def _total(run: Path, split: str, step: int) -> dict[str, float | None]:
    return scores_of(_counts(run, split, step).sum(0))


def _check_split(
    findings: Findings,
    run: Path,
    split: str,
    step: int,
    numbers: dict[str, float | None],
    truths: list[Truth],
) -> None:
    """Compares counts with plain network calls, and scores with the counts."""
    counts = _counts(run, split, step)
    findings.true(f"{split}, step {step}: another number of images", len(counts) == len(truths))
    for index, (found, truth) in enumerate(zip(counts, truths, strict=False)):
        ties = int(truth.is_tie[truth.label < 255].sum())
        what = f"{split}, step {step}, image {index}: counts"
        findings.true(f"{what} {found.tolist()}", found.sum() == truth.confusion.sum())
        is_near = np.abs(found - truth.confusion).sum() <= 2 * ties
        findings.true(f"{what} {found.tolist()}, right {truth.confusion.tolist()}", is_near)
    for name, value in scores_of(counts.sum(0)).items():
        findings.number(f"{split}/{name} of step {step}", numbers[name], value, 1e-12)
    pixels = sum(truth.confusion.sum() for truth in truths)
    entropy = sum(truth.loss for truth in truths) / pixels
    findings.number(f"{split}/cross_entropy, {step}", numbers["cross_entropy"], entropy, 1e-5)
