"""Whole images through a network: what evaluates, predicts and plans calls this alone."""

import math
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.lax import with_sharding_constraint

from unet_jax.augment.scale import standardise, to_unit
from unet_jax.data.images import Batch, image_batches, read_sizes
from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Source, Spec, Window, check_spec, written
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.metrics.make import Metrics
from unet_jax.models.unet import UNet
from unet_jax.network import Network
from unet_jax.predict.fits import make_fit
from unet_jax.process.capacity import bytes_per_device, device_memory, program_bytes, write_bytes
from unet_jax.sharding import ROWS, Shardings, batch_shapes, process_rows, put_batch

_WITH_LABEL, _WITHOUT_LABEL = ("image", "size", "label", "weight"), ("image", "size", "is_read")


class Outputs(NamedTuple):
    """What is computed of the logits of a batch.

    Attributes:
        label: The shape of a pixel's label, () for a class id; None where it takes no labels.
        compute: (logits float32 [B, *n, K] of the images' own pixels, the batch's arrays by name)
            -> arrays by name, which every process fetches.
        metrics: Those among it, some of which may count on the host.
    """

    label: tuple[int, ...] | None
    compute: Callable[[jax.Array, dict[str, jax.Array]], dict[str, Any]]
    metrics: Metrics = MappingProxyType({})


class Sink(Protocol):
    """Takes what is predicted for one image, tile by tile."""

    def add(self, window: Window, decision: np.ndarray) -> None:
        """Takes the decision uint8 [*m], or [*m, K] by class, of the pixels of a window."""
        ...

    def close(self) -> None:
        """Finishes the result, of which every pixel was added."""
        ...


class Predictor:
    """Computes what is wanted of whole images, in batches.

    An image is one tile: the whole of its canvas, see `images.Fit`.

    Attributes:
        spec: Of the images.
        loading: How they are loaded.
        fit: How they come to the network.
        shardings: The mesh.
        metrics: What counts; see `Outputs`.
        run: run(variables, batch, canvas) -> what `Outputs.compute` returns; compiled for each
            shape of a batch and its canvas.
    """

    def __init__(
        self, model: UNet, spec: Spec, loading: Loading, shardings: Shardings, outputs: Outputs
    ) -> None:
        """Plans the programs; nothing is compiled.

        Args:
            model: The model.
            spec: Of the images that it was trained on.
            loading: How images are loaded.
            shardings: The mesh.
            outputs: What is computed.
        """
        self.spec, self.loading, self.shardings = spec, loading, shardings
        self.fit = make_fit(loading, model)
        self._model, self._outputs, self.metrics = model, outputs, outputs.metrics
        self._programs: dict[tuple[int, Size], Any] = {}
        where = {"static_argnums": 2, "out_shardings": shardings.replicated}
        self.run: Any = jax.jit(self._compute, **where)

    def apply(self, variables: Any, image: jax.Array, size: jax.Array, canvas: Size) -> jax.Array:
        """Computes the logits of the images' own pixels; a pure function.

        Args:
            variables: {"params", "batch_stats"}.
            image: [B, *m, C], what the network reads, of the type of `Normalise.dtype`.
            size: float32 [B, axes], the images' own sizes.
            canvas: [*n].

        Returns:
            float32 [B, *n, K]; what lies outside an image's size means nothing.
        """
        variables = with_sharding_constraint(variables, self.shardings.replicated)
        how = self.loading.normalise
        unit = to_unit(image, how.value_range(self.spec), cuts=how.cuts)
        logits: Any = self._model.apply(variables, standardise(unit), train=False)
        # Whole images, so that resizing sums over their rows in one order on every mesh.
        logits = with_sharding_constraint(logits, self.shardings.rows)
        return self.fit.back(logits, size, canvas)

    def _compute(self, variables: Any, batch: dict[str, jax.Array], canvas: Size) -> dict[str, Any]:
        logits = self.apply(variables, batch["image"], batch["size"], canvas)
        return self._outputs.compute(logits, batch)

    def batches(
        self, variables: Any, source: Source, batch_size: int
    ) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """Runs over a source; a result comes when the next batch is under way.

        Args:
            variables: {"params", "batch_stats"}.
            source: Images.
            batch_size: B.

        Yields:
            Batches of `images.image_batches` with what `run` returned.

        Raises:
            UserError: The images are of another kind than the model's, or one is too small for
                the network, or needs more memory than there is.
        """
        self._check_spec(source)
        before = None
        with_labels = self._outputs.label is not None
        names = _WITH_LABEL if with_labels else _WITHOUT_LABEL
        batches = image_batches(
            source,
            self.fit,
            with_labels=with_labels,
            batch_size=batch_size,
            workers=self.loading.workers,
            rows=lambda size: process_rows(size, self.shardings).tolist(),
            share=self._share(),
            normalise=self.loading.normalise,
            reduced_size=self.loading.reduced_size,
        )
        for batch in batches:
            index, canvas = batch["index"][0], batch["canvas"]
            self._check_size(canvas, source, index)
            self._check_memory(variables, batch["batch_size"], canvas, source, index)
            arrays = put_batch({name: batch[name] for name in names}, self.shardings)
            program = self._program(variables, batch["batch_size"], canvas)
            under_way = batch, program(variables, arrays)
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
            known: Pixels of a batch that are known to fit into memory; for more the program is
                compiled.

        Raises:
            UserError: See `batches`.
        """
        self._check_spec(source)
        canvases = [self.fit.canvas(size) for size in read_sizes(source, self.loading.workers)]
        for canvas in set(canvases):
            self._check_size(canvas, source, canvases.index(canvas))
        index = max(range(len(canvases)), key=lambda i: math.prod(canvases[i]))
        count, share = canvases.count(canvases[index]), self._share()
        size = min(batch_size, -(-count // share) * share)
        if size * math.prod(self.fit.read(canvases[index])) > known:
            self._check_memory(variables, size, canvases[index], source, index)

    def _check_spec(self, source: Source) -> None:
        what = f"image {source.ids[0]!r}"
        check_spec(what, source.spec, self.spec, "what the model was trained on has")

    def _check_size(self, canvas: Size, source: Source, index: int) -> None:
        what = f"image {source.ids[index]!r} ({written(source.shape(index))} pixels)"
        self._model.check_not_dead(what, self.fit.read(canvas))

    def _share(self) -> int:
        return self.shardings.size(*ROWS)

    def _check_memory(
        self, variables: Any, batch_size: int, canvas: Size, source: Source, index: int
    ) -> None:
        there = device_memory()
        needed = program_bytes(self._program(variables, batch_size, canvas))
        if needed is None or needed <= there:
            return
        axes = len(canvas)
        order = "height x width" if axes == 2 else "depth x height x width"
        text = (
            f"image {source.ids[index]!r} has {written(source.shape(index))} pixels ({order}): "
            f"evaluating {batch_size} of that size at once needs {write_bytes(needed)} on each "
            f"device, and there are {write_bytes(there)}; "
        )
        fixed, share = bytes_per_device(variables), self._share()
        each = (needed - fixed) / batch_size
        most = int((there - fixed) / each) // share * share
        if 0 < most < batch_size:
            raise UserError(f"{text}config.eval.batch_size={most} would fit.")
        pixels = max(0, (there - fixed) / (each * share) * math.prod(canvas))
        side = math.isqrt(int(pixels)) if axes == 2 else int(pixels ** (1 / axes))
        padded = side
        while side and self.fit.canvas((side,) * axes)[0] > padded:
            side -= 1
        raise UserError(
            f"{text}images of up to about {written((side,) * axes)} would fit: cut the image into "
            "parts, train with config.data.fit='resize', or divide its "
            f"{'height' if axes == 2 else 'depth'} over more devices with "
            f"config.mesh.space={-(-needed // there)}."
        )

    def _program(self, variables: Any, batch_size: int, canvas: Size) -> Any:
        """Returns `run` compiled for such a batch."""
        key = batch_size, canvas
        if key not in self._programs:
            image = (batch_size, *self.fit.read(canvas), self.spec.channels)
            arrays: dict[str, tuple[tuple[int, ...], str]] = {
                "image": (image, self.loading.normalise.dtype(self.spec)),
                "size": ((batch_size, len(canvas)), "float32"),
            }
            if self._outputs.label is None:
                arrays["is_read"] = (batch_size,), "bool"
            else:
                arrays["label"] = (batch_size, *canvas, *self._outputs.label), "uint8"
                arrays["weight"] = (batch_size, *canvas), "uint8"
            shapes = batch_shapes(arrays, self.shardings)
            self._programs[key] = self.run.lower(variables, shapes, canvas).compile()
        return self._programs[key]


def make_predictor(network: Network, outputs: Outputs) -> Predictor:
    """Makes the predictor of a network; nothing is compiled."""
    return Predictor(network.model, network.spec, network.loading, network.shardings, outputs)


def cut(values: jax.Array, batch: Batch) -> dict[int, np.ndarray]:
    """Fetches a value for every pixel and cuts each image's to its own size.

    Args:
        values: [B, *n].
        batch: Whose images they are of.

    Returns:
        [*m] by index.
    """
    fetched, images = jax.device_get(values), zip(batch["index"], batch["sizes"], strict=True)
    return {
        index: fetched[row][tuple(map(slice, size))] for row, (index, size) in enumerate(images)
    }
