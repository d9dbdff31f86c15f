"""How soon an audit of labels finds planted errors.

python -m experiments.bench.audit --images=600 --errors=36 --steps=700 --folder=runs/audit

Draws shapes, plants errors in some masks (a class taken for another, an object left out, a mask
shifted), trains a fold on each half, and prints how many of the first images are planted ones: by
the evidence that `doctor.audit` ranks by, and by the score of images alone.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import unet_jax
from unet_jax.data.synthetic import open_synthetic
from unet_jax.doctor.audit_runs import audit_runs

SHIFT = (10, -8)  # pixels down and right
FOLDS = 2


def plant(folder: Path, images: int, errors: int) -> tuple[set[str], tuple[str, ...]]:
    """Writes images and masks, some of these wrong; returns the ids of those, and the classes."""
    dataset = open_synthetic(train=images, val=1, test=1)
    rng, planted = np.random.default_rng(1), set()
    wrong = set(rng.permutation(images)[:errors].tolist())
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(images):
        sample = dataset.splits["train"].read(index)
        mask, name = sample.truth().copy(), f"{index:04}"
        if index in wrong:
            planted.add(name)
            chosen = int(rng.choice([k for k in np.unique(mask) if k]))
            if index % 3 == 0:
                mask[mask == chosen] = 1 + chosen % (len(dataset.class_names) - 1)
            elif index % 3 == 1:
                mask[mask == chosen] = 0
            else:
                mask = np.roll(mask, SHIFT, (0, 1))
        Image.fromarray(sample.image).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    return planted, dataset.class_names


def main() -> None:
    """Plants, trains, audits and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--errors", type=int, default=36)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--folder", type=Path, required=True, help="A new folder.")
    given = parser.parse_args()
    planted, class_names = plant(given.folder / "data", given.images, given.errors)
    runs = []
    for fold in range(FOLDS):
        data = {"source": "folder", "path": str(given.folder / "data"), "folds": FOLDS}
        data |= {"fold": fold, "folder": {"class_names": class_names}}
        runs.append(given.folder / f"fold_{fold}")
        train = {"duration": f"{given.steps} steps"}
        unet_jax.train("shapes.py", runs[-1], data=data, train=train)
    audit = audit_runs(runs, given.folder / "audit")
    by_score = sorted(audit.images, key=lambda image: image.score)
    for title, images in (("evidence", audit.images), ("score", by_score)):
        _print(title, [image.id in planted for image in images], len(planted))


def _print(title: str, hits: Sequence[bool], errors: int) -> None:
    firsts = [n for n in (10, 20, errors) if n <= len(hits)]
    found = ", ".join(f"{sum(hits[:n])} of the first {n}" for n in firsts)
    print(f"planted images by {title}: {found}", flush=True)


if __name__ == "__main__":
    main()
