"""Folders of finished trials with planted effects, as a sweep leaves them, without training."""

import itertools
import json

import numpy as np

from configs import tiny
from experiments.calibration.synthetic import Spread, draw_images, draw_networks
from support.scored import scores
from unet_jax import config as configs

CLASSES = ("sky", "road", "car")
FACTORS = {"up": ["transposed 2", "bilinear"], "rate": ["0.001", "0.003"]}
STEPS = (20, 40, 60, 80, 100)


def write_run(folder, confusion, ids, *, factors=None, seed=0, keys=None, parameters=1000):
    """Writes what a finished run leaves, but for checkpoints and figures.

    Args:
        folder: The run's.
        confusion: int [N, K, K] at the best step.
        ids: N names.
        factors: Label by factor, for trial.json; None for an ordinary run.
        seed: Of training.
        keys: Other config values, by dotted key.
        parameters: For run.json.
    """
    (folder / "evaluations").mkdir(parents=True)
    config = tiny.get_config()
    config.train.seed = seed
    for key, value in (keys or {}).items():
        section, name = key.split(".")
        config[section][name] = value
    (folder / "config.json").write_text(configs.to_json(config))
    if factors is not None:
        trial = {"name": folder.name, "factors": factors, "overrides": keys or {}}
        (folder / "trial.json").write_text(json.dumps(trial))
    best = STEPS[-2]
    np.savez_compressed(folder / "evaluations" / f"val_{best:08d}.npz", confusion=confusion, id=ids)
    found = scores(confusion.sum(axis=0), CLASSES)
    results = {"val": {"step": best, **found}, "train": {"step": STEPS[-1], "best_step": best}}
    (folder / "results.json").write_text(json.dumps(results))
    lines = []
    rng = np.random.default_rng(seed)
    for step in range(5, STEPS[-1] + 1, 5):
        loss = 2 * np.exp(-step / 40) + 0.1 * rng.random()
        speed = {"images_per_s": 50.0 + step / 10, "data_wait": 0.01}
        lines.append({"step": step, "train/loss": loss, "learning_rate": 1e-3, **speed})
        if step in STEPS:
            part = 1 - np.exp(-step / 25) if step != best else 1.0
            values = {f"val/{k}": v and v * part for k, v in found.items()}
            lines.append({"step": step, **values, "val/cross_entropy": loss})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    device = {"platform": "cpu", "kind": "cpu", "count": 1}
    run = {"devices": device, "git_commit": "0" * 40, "versions": {"jax": "0.10.2"}}
    run |= {"parameters": parameters, "flops_per_image": 12 * parameters}
    (folder / "run.json").write_text(json.dumps(run))


def write_study(folder, factors, effect, *, seeds=3, images=60, rng_seed=0, page="", keys=None):
    """Writes a crossed study.

    Args:
        folder: The sweep's; "report" etc. come later.
        factors: Labels by factor; the first of each are the baseline.
        effect: Log-odds by (factor, label) that a variant gains.
        seeds: How many.
        images: N.
        rng_seed: Of all draws.
        page: Path of the study page.
        keys: Config values by (factor, label).

    Returns:
        Confusion matrices [variants, S, N, K, K], in the order of the product of the labels.
    """
    rng = np.random.default_rng(rng_seed)
    points = list(itertools.product(*factors.values()))
    gains = [
        sum(effect.get(pair, 0.0) for pair in zip(factors, point, strict=True)) for point in points
    ]
    drawn = draw_images(rng, images)
    confusion = draw_networks(rng, drawn, tuple(gains), seeds, Spread())
    ids = [f"image_{i}" for i in range(images)]
    names = []
    for v, point in enumerate(points):
        labels = dict(zip(factors, point, strict=True))
        changed = {k: x for pair in labels.items() for k, x in (keys or {}).get(pair, {}).items()}
        for seed in range(seeds):
            name = ",".join(f"{k}={x}" for k, x in labels.items()) + f",seed={seed}_{v:08x}"
            names.append(name.replace(" ", "-"))
            write_run(
                folder / names[-1],
                confusion[v, seed],
                ids,
                factors={**labels, "seed": str(seed)},
                seed=seed,
                keys=changed,
                parameters=1000 * (v + 1),
            )
    study = {
        "study": page,
        "baseline": {name: labels[0] for name, labels in factors.items()},
        "factors": {**factors, "seed": [str(s) for s in range(seeds)]},
        "trials": names,
    }
    (folder / "study.json").write_text(json.dumps(study))
    return confusion


def slow_scores(confusion):
    """The scores of counts [N, K, K], pixel class by pixel class, from their definitions."""
    size = len(confusion[0])
    total = [[sum(int(m[i][j]) for m in confusion) for j in range(size)] for i in range(size)]
    iou, dice = [], []
    for k in range(size):
        true, said = sum(total[k]), sum(total[i][k] for i in range(size))
        if true:
            iou.append(total[k][k] / (true + said - total[k][k]))
            dice.append(2 * total[k][k] / (true + said))
        else:
            iou.append(None)
    known = [value for value in iou if value is not None]
    everything = sum(map(sum, total))
    return {
        "mIoU": sum(known) / len(known),
        "mDice": sum(dice) / len(dice),
        "pixel_accuracy": sum(total[k][k] for k in range(size)) / everything,
        **{f"IoU/{name}": value for name, value in zip(CLASSES, iou, strict=True)},
    }


def counts_of(folder):
    """The counts of a run's only evaluation, as they lie on the disk."""
    (file,) = (folder / "evaluations").glob("val_*.npz")
    with np.load(file) as arrays:
        return arrays["confusion"].tolist()
