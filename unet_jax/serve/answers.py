"""Masks as answers: PNG, a zip of them, JSON, or bare class ids."""

import base64
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from starlette.responses import Response

from unet_jax.data.by_class import mask_name
from unet_jax.figures import encode_indexed_png

IDS, JSON, PNG, ZIP = "application/octet-stream", "application/json", "image/png", "application/zip"
SHAPE = "X-Shape"
"""Header of bare ids: "HEIGHT,WIDTH"."""
NOTE = "X-Note"
"""Header of what is to be said of the first image that anything is to be said of."""


class Predicted(NamedTuple):
    """What is predicted for an image.

    Attributes:
        name: Of its file.
        label: uint8 [H, W], or [H, W, K] by class.
    """

    name: str
    label: np.ndarray


def choose_kind(accept: str) -> str:
    """Returns what a client asks for: the one of `IDS` and `JSON` that it names, or else `PNG`."""
    return next((kind for kind in (IDS, JSON) if kind in accept.lower()), PNG)


def make_answer(
    found: Sequence[Predicted], class_names: Sequence[str], kind: str, notes: Sequence[str] = ()
) -> Response:
    """Makes the answer for the images of a request.

    Args:
        found: What is predicted, one or more.
        class_names: K names.
        kind: See `choose_kind`. Where there is no one mask, PNG files come in a zip.
        notes: Lines about the images.

    Returns:
        The answer.
    """
    headers = {NOTE: notes[0].encode("ascii", "replace").decode()} if notes else {}
    if kind == JSON:
        table = _table(found, class_names) | {"notes": list(notes)}
        return Response(json.dumps(table), media_type=JSON, headers=headers)
    is_one = len(found) == 1 and found[0].label.ndim == 2
    if kind == IDS and is_one:
        shape = ",".join(map(str, found[0].label.shape))
        return Response(found[0].label.tobytes(), media_type=IDS, headers=headers | {SHAPE: shape})
    files = list(_files(found, class_names))
    if is_one:
        return Response(files[0][1], media_type=PNG, headers=headers)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(f"{name}.png"), data)
    return Response(buffer.getvalue(), media_type=ZIP, headers=headers)


def _files(found: Sequence[Predicted], class_names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yields names without suffix, no two alike, and PNG files."""
    taken: set[str] = set()
    for name, label in found:
        stem = name.rpartition(".")[0] or name
        own, count = stem, 1
        while own.casefold() in taken:
            count += 1
            own = f"{stem}_{count}"
        taken.add(own.casefold())
        if label.ndim == 2:
            yield own, encode_indexed_png(label, len(class_names))
        else:
            for k, class_name in enumerate(class_names):
                data = encode_indexed_png(np.ascontiguousarray(label[..., k]), 2)
                yield mask_name(own, class_name).replace("/", "_"), data


def _table(found: Sequence[Predicted], class_names: Sequence[str]) -> dict[str, object]:
    images, files = [], _files(found, class_names)
    for name, label in found:
        per_image = 1 if label.ndim == 2 else len(class_names)
        masks = [base64.b64encode(next(files)[1]).decode() for _ in range(per_image)]
        counts = _counts(label, len(class_names))
        images.append(
            {
                "name": name,
                "height": label.shape[0],
                "width": label.shape[1],
                "pixels": dict(zip(class_names, counts, strict=True)),
                "masks": masks,
            }
        )
    return {"classes": list(class_names), "images": images}


def _counts(label: np.ndarray, classes: int) -> list[int]:
    if label.ndim == 2:
        return np.bincount(label.ravel(), minlength=classes)[:classes].tolist()
    return label.sum(axis=(0, 1), dtype=np.int64).tolist()
