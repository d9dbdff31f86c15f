"""Whole images through a network: what evaluates, predicts and plans calls this alone."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.lax import with_sharding_constraint

from unet_jax.augment.scale import standardise, to_unit
from unet_jax.data.images import Batch, image_batches, read_sizes
from unet_jax.data.pipeline import Size, label_and_weight
from unet_jax.data.sample import Some, Source, Spec, Window, check_spec, written
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.metrics.make import Metrics
from unet_jax.models.unet import UNet
from unet_jax.network import Network, TileSettings
from unet_jax.predict.fits import make_fit
from unet_jax.predict.tiled import Assembled, Large
from unet_jax.predict.tiling import Programs, Tiling
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
        sums: Names of what is of a whole image and adds up over its parts; all else is of pixels.
        of_part: As `compute`, of parts of images; None for the same.
        finish: Makes of the result of an image that was put together from parts what one piece
            would have given.
    """

    label: tuple[int, ...] | None
    compute: Callable[[jax.Array, dict[str, jax.Array]], dict[str, Any]]
    metrics: Metrics = MappingProxyType({})
    sums: tuple[str, ...] = ()
    of_part: Callable[[jax.Array, dict[str, jax.Array]], dict[str, Any]] | None = None
    finish: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values


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

    Most images go through the network in one piece, the whole of their canvas (see `images.Fit`);
    large ones in tiles, see `tiling.Tiling`.

    Attributes:
        spec: Of the images.
        loading: How they are loaded.
        fit: How they come to the network.
        shardings: The mesh.
        metrics: What counts; see `Outputs`.
        tiling: How large images go.
        run: run(variables, batch, canvas) -> what `Outputs.compute` returns; compiled for each
            shape of a batch and its canvas.
    """

    def __init__(
        self,
        model: UNet,
        spec: Spec,
        loading: Loading,
        shardings: Shardings,
        outputs: Outputs,
        tiles: TileSettings = TileSettings(),  # noqa: B008
    ) -> None:
        """Plans the programs; nothing is compiled.

        Args:
            model: The model.
            spec: Of the images that it was trained on.
            loading: How images are loaded.
            shardings: The mesh.
            outputs: What is computed.
            tiles: How large images go.
        """
        self.spec, self.loading, self.shardings = spec, loading, shardings
        self.fit = make_fit(loading, model)
        self._model, self._outputs, self.metrics = model, outputs, outputs.metrics
        self._programs: dict[tuple[int, Size, bool], Any] = {}
        where = {"static_argnums": (2, 3), "out_shardings": shardings.replicated}
        self.run: Any = jax.jit(self._compute, **where)
        self._logits: dict[tuple[int, Size], Any] = {}
        self._decide: Any = jax.jit(self._of_logits, out_shardings=shardings.replicated)
        programs = Programs(
            partial(self._program, of_part=True),
            self._logits_program,
            self._decide,
            lambda: device_memory(),
        )
        given = model, spec, loading, self.fit, shardings, tiles, programs
        self.tiling = Tiling(*given)

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

    def _compute(
        self, variables: Any, batch: dict[str, jax.Array], canvas: Size, of_part: bool = False
    ) -> dict[str, Any]:
        logits = self.apply(variables, batch["image"], batch["size"], canvas)
        own = self._outputs.of_part if of_part else None
        return (own or self._outputs.compute)(logits, batch)

    def _of_logits(self, batch: dict[str, jax.Array]) -> dict[str, Any]:
        compute = self._outputs.of_part or self._outputs.compute
        return compute(batch["logits"], batch)

    def batches(
        self, variables: Any, source: Source, batch_size: int
    ) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """Runs over a source; a result comes when the next batch is under way.

        Each large image is a batch of its own, whose results, NumPy arrays, are put together in
        memory; they come after all others. `tiles` puts nothing together.

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
        sizes = read_sizes(source, self.loading.workers)
        large = [index for index, size in enumerate(sizes) if self.tiling.is_large(size)]
        if not large:
            yield from self._batches(variables, source, batch_size)
            return
        small = Some(source, [index for index in range(len(source)) if index not in set(large)])
        if len(small):
            for batch, result in self._batches(variables, small, batch_size):
                yield _renumbered(batch, small.indices), result
        for index in large:
            yield self._assemble(variables, source, index, batch_size)

    def _batches(
        self, variables: Any, source: Source, batch_size: int
    ) -> Iterator[tuple[Batch, dict[str, Any]]]:
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

    def _assemble(
        self, variables: Any, source: Source, index: int, batch_size: int
    ) -> tuple[Batch, dict[str, Any]]:
        """Computes a large image in tiles, and puts its results together as a batch of one."""
        size, with_labels = source.shape(index), self._outputs.label is not None
        places = {"index": [index], "sizes": [size], "batch_size": 1, "canvas": size}
        sample, errors, label = None, {}, None
        try:
            sample = source.read(index)
            image = sample.image
        except UserError as error:
            if with_labels:
                raise
            errors, image = (
                {index: str(error)},
                np.zeros((*size, self.spec.channels), self.spec.dtype),
            )
        if with_labels and sample is not None:
            parts = label_and_weight(sample.truth(), len(size))
            label = parts["label"], parts["weight"]
            sample = sample._replace(image=sample.image[..., :0].copy())
        given = Large(source.ids[index], size, image.__getitem__, label)
        found = Assembled(size, self._outputs.sums)
        for part in self.tiling.run(variables, given, batch_size, self._outputs.sums):
            found.add(part)  # what cannot be read was found out above
        result = self._outputs.finish(found.batch())
        if not with_labels:
            result["is_read"] = np.array([not errors])
        places |= {"samples": {index: sample} if sample else {}, "errors": errors}
        return places, result

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
        sizes = read_sizes(source, self.loading.workers)
        small = [index for index, size in enumerate(sizes) if not self.tiling.is_large(size)]
        if len(small) < len(sizes):
            self._check_tiles(variables, source, batch_size)
            source = Some(source, small)
        canvases = [self.fit.canvas(sizes[index]) for index in small]
        if not canvases:
            return
        for canvas in set(canvases):
            self._check_size(canvas, source, canvases.index(canvas))
        index = max(range(len(canvases)), key=lambda i: math.prod(canvases[i]))
        count, share = canvases.count(canvases[index]), self._share()
        size = min(batch_size, -(-count // share) * share)
        if size * math.prod(self.fit.read(canvases[index])) > known:
            self._check_memory(variables, size, canvases[index], source, index)

    def _check_tiles(self, variables: Any, source: Source, batch_size: int) -> None:
        """Checks that a tile is large enough for the network and fits into memory."""
        lengths, _ = self.tiling.choose(variables, batch_size)
        what = f"a tile of {written(lengths)} pixels (config.eval.tiles.size)"
        self._model.check_not_dead(what, self.fit.read(lengths))

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

    def _program(
        self, variables: Any, batch_size: int, canvas: Size, *, of_part: bool = False
    ) -> Any:
        """Returns `run` compiled for such a batch, of images or of parts of them."""
        key = batch_size, canvas, of_part
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
            self._programs[key] = self.run.lower(variables, shapes, canvas, of_part).compile()
        return self._programs[key]

    def _logits_program(self, variables: Any, batch_size: int, canvas: Size) -> Any:
        """Returns what computes logits alone, compiled for such a batch without labels."""
        key = batch_size, canvas
        if key not in self._logits:
            image = (batch_size, *self.fit.read(canvas), self.spec.channels)
            arrays: dict[str, tuple[tuple[int, ...], str]] = {
                "image": (image, self.loading.normalise.dtype(self.spec)),
                "size": ((batch_size, len(canvas)), "float32"),
                "is_read": ((batch_size,), "bool"),
            }

            def logits(variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
                return self.apply(variables, batch["image"], batch["size"], canvas)

            shapes = batch_shapes(arrays, self.shardings)
            program = jax.jit(logits, out_shardings=self.shardings.replicated)
            self._logits[key] = program.lower(variables, shapes).compile()
        return self._logits[key]


def make_predictor(network: Network, outputs: Outputs) -> Predictor:
    """Makes the predictor of a network; nothing is compiled."""
    tiles = network.settings.tiles
    given = network.model, network.spec, network.loading, network.shardings, outputs, tiles
    return Predictor(*given)


def _renumbered(batch: Batch, indices: Sequence[int]) -> Batch:
    """Returns a batch of some images of a source by their numbers in it."""
    own = {name: {indices[i]: x for i, x in batch[name].items()} for name in ("samples", "errors")}
    return batch | own | {"index": [indices[index] for index in batch["index"]]}


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
