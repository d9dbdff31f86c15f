"""Whole images through a network: what evaluates, predicts and plans calls this alone."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from unet_jax.data.images import Batch, image_batches, read_sizes
from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Some, Source, Spec, check_spec, written
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.models.unet import UNet
from unet_jax.network import Network, TileSettings
from unet_jax.predict.assembled import Assembled, open_large
from unet_jax.predict.fits import make_fit
from unet_jax.predict.programs import Outputs, Programs
from unet_jax.predict.tiling import Tiling
from unet_jax.process.capacity import bytes_per_device, device_memory, program_bytes, write_bytes
from unet_jax.process.console import console
from unet_jax.sharding import ROWS, Shardings, process_rows, put_batch

_WITH_LABEL, _WITHOUT_LABEL = ("image", "size", "label", "weight"), ("image", "size", "is_read")


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
        apply: (variables, image, size, canvas) -> logits; see `Programs.apply`.
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
        self._programs = Programs(model, spec, loading, self.fit, shardings, outputs)
        self.apply = self._programs.apply
        given = model, spec, loading, self.fit, shardings, tiles, self._programs
        self.tiling = Tiling(*given)

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
            program = self._programs.whole(variables, batch["batch_size"], canvas)
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
        with_labels = self._outputs.label is not None
        how = self.loading.normalise
        image, batch = open_large(source, index, how, with_labels=with_labels)
        found = Assembled(image.size, self._outputs.sums)
        for part in self.tiling.run(variables, image, batch_size, self._outputs.sums):
            found.add(part)
        result = self._outputs.finish(found.batch())
        if not with_labels:
            result["is_read"] = np.array([not batch["errors"]])
        return batch, result

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

    def say_tiles(self, variables: Any, source: Source, batch_size: int) -> None:
        """Says in one line how the large images of a source go, where it has any; see `check`."""
        sizes = read_sizes(source, self.loading.workers)
        if large := [size for size in sizes if self.tiling.is_large(size)]:
            lengths = self.tiling.choose(variables, batch_size).lengths
            console.print(self.tiling.describe(large, lengths))

    def _check_tiles(self, variables: Any, source: Source, batch_size: int) -> None:
        """Checks that a tile is large enough for the network and fits into memory."""
        lengths = self.tiling.choose(variables, batch_size).lengths
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
        needed = program_bytes(self._programs.whole(variables, batch_size, canvas))
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
