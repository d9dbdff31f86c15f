"""The compiled step of evaluation and prediction, run over whole images."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import with_sharding_constraint

from unet_jax.augment import standardise, to_unit
from unet_jax.capacity import bytes_per_device, device_memory, program_bytes, write_bytes
from unet_jax.data.base import Source
from unet_jax.data.pipeline import Fit, eval_batches, read_sizes
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.fits import make_fit
from unet_jax.metrics import confusion_matrices
from unet_jax.models.unet import UNet
from unet_jax.sharding import ROWS, Shardings, batch_shapes, process_rows, put_batch

Batch = dict[str, Any]
Canvas = tuple[int, int]


class EvalStep:
    """Computes the counts, losses and predictions of batches of whole images.

    Attributes:
        loading: How images are loaded.
        fit: How they come to the network.
        shardings: The mesh.
        run: run(variables, batch) -> {"confusion": int32 [B, K, K], "loss": float32 [B] (sums of
            the pixels' cross-entropy), "prediction": uint8 [B, H, W]}, for batches of
            `pipeline.eval_batches`; compiled for each of their shapes.
    """

    def __init__(self, model: UNet, loading: Loading, shardings: Shardings) -> None:
        """Plans the step; nothing is compiled.

        Args:
            model: The model.
            loading: How images are loaded.
            shardings: The mesh.
        """
        self.loading, self.shardings, self._model = loading, shardings, model
        self.fit = make_fit(loading, model)
        # Every process fetches the counts of all images.
        self.run: Any = jax.jit(
            _make_run(model, self.fit, shardings), out_shardings=shardings.replicated
        )
        self._needs: dict[tuple[int, Canvas], int | None] = {}

    def batches(
        self, variables: Any, source: Source, batch_size: int
    ) -> Iterator[tuple[Batch, dict[str, jax.Array]]]:
        """Runs over a source; a result comes when the next batch is under way.

        Args:
            variables: {"params", "batch_stats"}.
            source: Images.
            batch_size: B.

        Yields:
            Batches of `pipeline.eval_batches` with what `run` returned for them.

        Raises:
            UserError: An image is too small for the network, or needs more memory than there is.
        """
        before = None
        batches = eval_batches(
            source,
            self.fit,
            batch_size=batch_size,
            workers=self.loading.workers,
            rows=lambda size: process_rows(size, self.shardings).tolist(),
            share=self._share(),
        )
        for batch in batches:
            index, canvas = batch["index"][0], batch["label"].shape[1:]
            self._check_size(canvas, source, index)
            self._check_memory(variables, batch["batch_size"], canvas, source, index)
            arrays = {key: batch[key] for key in ("image", "label", "weight", "size")}
            under_way = batch, self.run(variables, put_batch(arrays, self.shardings))
            if before is not None:
                yield before
            before = under_way
        if before is not None:
            yield before

    def check(self, variables: Any, source: Source, batch_size: int, known: int = 0) -> None:
        """Checks that no image of a source is too small or too large, before time is spent.

        Args:
            variables: {"params", "batch_stats"}, or their shapes with shardings.
            source: Images; nothing but their headers is read.
            batch_size: B.
            known: Pixels of a batch that are known to fit into memory; for more the step is
                compiled.

        Raises:
            UserError: An image is too small for the network, or needs more memory than there is.
        """
        canvases = [self.fit.canvas(size) for size in read_sizes(source, self.loading.workers)]
        for canvas in set(canvases):
            self._check_size(canvas, source, canvases.index(canvas))
        index = max(range(len(canvases)), key=lambda i: math.prod(canvases[i]))
        count, share = canvases.count(canvases[index]), self._share()
        size = min(batch_size, -(-count // share) * share)
        if size * math.prod(self.fit.read(canvases[index])) > known:
            self._check_memory(variables, size, canvases[index], source, index)

    def _check_size(self, canvas: Canvas, source: Source, index: int) -> None:
        height, width = source.size(index)
        what = f"{source.ids[index]} ({height}x{width} pixels)"
        self._model.check_not_dead(what, self.fit.read(canvas))

    def _share(self) -> int:
        return self.shardings.size(*ROWS)

    def _check_memory(
        self, variables: Any, batch_size: int, canvas: Canvas, source: Source, index: int
    ) -> None:
        there = device_memory()
        needed = self._needed(variables, batch_size, canvas)
        if needed is None or needed <= there:
            return
        height, width = source.size(index)
        text = (
            f"{source.ids[index]} has {height}x{width} pixels (height x width): evaluating "
            f"{batch_size} of that size at once needs {write_bytes(needed)} on each device, and "
            f"there are {write_bytes(there)}; "
        )
        fixed, share = bytes_per_device(variables), self._share()
        each = (needed - fixed) / batch_size
        most = int((there - fixed) / each) // share * share
        if 0 < most < batch_size:
            raise UserError(f"{text}config.eval.batch_size={most} would fit.")
        side = math.isqrt(max(0, int((there - fixed) / (each * share) * math.prod(canvas))))
        padded = side
        while side and self.fit.canvas((side, side))[0] > padded:
            side -= 1
        raise UserError(
            f"{text}images of up to about {side}x{side} would fit: cut the image into parts, "
            "train with config.data.fit='resize', or divide its height over more devices with "
            f"config.mesh.space={-(-needed // there)}."
        )

    def _needed(self, variables: Any, batch_size: int, canvas: Canvas) -> int | None:
        """Returns the bytes on each device; compiles what `run` will take from the cache."""
        key = batch_size, canvas
        if key not in self._needs:
            height, width = self.fit.read(canvas)
            shapes = {
                "image": (batch_size, height, width, 3),
                "label": (batch_size, *canvas),
                "weight": (batch_size, *canvas),
                "size": (batch_size, 2),
            }
            lowered = self.run.lower(variables, batch_shapes(shapes, self.shardings))
            self._needs[key] = program_bytes(lowered.compile())
        return self._needs[key]


def _make_run(
    model: UNet, fit: Fit, shardings: Shardings
) -> Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]]:
    def run(variables: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        image, label, weight = batch["image"], batch["label"].astype(jnp.int32), batch["weight"]
        canvas = label.shape[1], label.shape[2]
        variables = with_sharding_constraint(variables, shardings.replicated)
        logits: Any = model.apply(variables, standardise(to_unit(image)), train=False)
        # Whole images, so that resizing sums over their rows in one order on every mesh.
        logits = with_sharding_constraint(logits, shardings.rows)
        logits = fit.back(logits, batch["size"], canvas)
        prediction = jnp.argmax(logits, axis=-1)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return {
            "confusion": confusion_matrices(prediction, label, weight, logits.shape[-1]),
            "loss": jnp.sum(loss * weight, axis=(1, 2)),
            "prediction": prediction.astype(jnp.uint8),
        }

    return run


def cut_predictions(prediction: jax.Array, batch: Batch) -> dict[int, np.ndarray]:
    """Fetches a batch's predictions and cuts each to its label's own size.

    Args:
        prediction: uint8 [B, H, W].
        batch: Of `pipeline.eval_batches`.

    Returns:
        uint8 [h, w] by index.
    """
    labels, images = jax.device_get(prediction), zip(batch["index"], batch["sizes"], strict=True)
    return {index: labels[row, :h, :w] for row, (index, (h, w)) in enumerate(images)}
