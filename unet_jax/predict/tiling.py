"""Which images go through a network in tiles, of what size, and by which programs."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from unet_jax.data.images import Fit
from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Spec, written
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.models.unet import UNet
from unet_jax.network import TileSettings
from unet_jax.predict.blend import Blocks, block_side, run_blocks, tile_weights
from unet_jax.predict.fits import Crop
from unet_jax.predict.geometry import Geometry, find_geometry
from unet_jax.predict.programs import Programs
from unet_jax.predict.tiled import Done, Large, Reading, run_tiles
from unet_jax.predict.tiles import Plan, plan_tiles
from unet_jax.process.capacity import device_memory, program_bytes, write_bytes
from unet_jax.sharding import ROWS, Shardings

SIDES = {2: (1024, 768, 512, 384, 256, 192, 128, 96, 64), 3: (128, 96, 64, 48, 32)}
"""Pixels of a tile along each axis, by the number of axes: the first that fits into memory."""


class Chosen(NamedTuple):
    """The reads that fit into memory.

    Attributes:
        lengths: Of a read, in pixels with logits.
        rows: How many go at once.
        needed: Bytes on each device; 0 where the compiler does not tell.
    """

    lengths: Size
    rows: int
    needed: int


class Tiling:
    """How a network takes large images.

    Attributes:
        geometry: Of the network.
        settings: Of the config.
        block_side: Pixels of a block along each axis; 0 for what fits into memory.
    """

    def __init__(
        self,
        model: UNet,
        spec: Spec,
        loading: Loading,
        fit: Fit,
        shardings: Shardings,
        settings: TileSettings,
        programs: Programs,
    ) -> None:
        """Works out the geometry; nothing is compiled."""
        self.geometry: Geometry = find_geometry(model)
        self.settings, self.block_side = settings, 0
        self._model, self._spec, self._loading = model, spec, loading
        self._fit, self._shardings, self._programs = fit, shardings, programs
        self._chosen: dict[tuple[int, int | None], Chosen] = {}

    @property
    def is_exact(self) -> bool:
        """Returns whether tiles make up the whole result."""
        return self.settings.mode == "exact" and self.geometry.halo is not None

    @property
    def halo(self) -> int:
        """Returns the pixels of a read that are not kept, on each side; 0 of blended ones."""
        return (self.geometry.halo or 0) if self.is_exact else 0

    def is_large(self, size: Size) -> bool:
        """Tells whether an image goes in tiles.

        That depends on its own size alone, so that its result does not depend on other images.
        """
        return isinstance(self._fit, Crop) and math.prod(size) > self.settings.whole

    def plan(self, size: Size, lengths: Size) -> Plan:
        """Plans the tiles of an image of a size, whose reads have some lengths."""
        overlap = None if self.is_exact else self.settings.overlap
        return plan_tiles(size, lengths, self.geometry.multiple, self.halo, overlap)

    def lengths(self, sides: Sequence[int]) -> Size:
        """Returns the pixels with logits of a read whose tile has at least some sides."""
        canvas = tuple(self._model.input_size(side)[1] for side in sides)
        return tuple(n + 2 * self.halo for n in canvas)

    def reading(self, variables: Any, batch_size: int, there: int | None = None) -> Reading:
        """Chooses how reads are computed, and compiles the program.

        Args:
            variables: {"params", "batch_stats"}.
            batch_size: Images of an evaluation's batch, whose pixels a batch of reads does not have
                more of, but for one read on each device.
            there: See `choose`.

        Returns:
            How; the same for all images.

        Raises:
            UserError: No tile fits into memory.
        """
        lengths, size, _ = self.choose(variables, batch_size, there)
        program = self._read(variables, size, lengths)
        return Reading(
            program=lambda arrays: program(variables, arrays),
            lengths=lengths,
            reads=self._fit.read(lengths),
            mode=self._mode(),
            channels=self._spec.channels,
            dtype=self._loading.normalise.dtype(self._spec),
            batch_size=size,
            shardings=self._shardings,
            workers=self._loading.workers,
        )

    def choose(self, variables: Any, batch_size: int, there: int | None = None) -> Chosen:
        """Chooses reads that fit into memory, and compiles their program.

        Args:
            variables: {"params", "batch_stats"}, or their shapes with shardings.
            batch_size: See `reading`.
            there: Bytes on each device; None for what the device reports.

        Returns:
            The reads.

        Raises:
            UserError: None fits.
        """
        key = batch_size, there
        if key not in self._chosen:
            limit = device_memory() if there is None else there
            self._chosen[key] = self._choose(variables, batch_size, limit)
        return self._chosen[key]

    def _choose(self, variables: Any, batch_size: int, there: int) -> Chosen:
        needed, last = 0, None
        for sides in self._sides():
            lengths = self.lengths(sides)
            pixels, size = math.prod(self._fit.read(lengths)), self._rows(batch_size, lengths)
            # Bytes grow nearly in line with pixels, so that what cannot fit is not compiled.
            if last and needed * pixels * size > 1.2 * there * last:
                continue
            needed = program_bytes(self._read(variables, size, lengths)) or 0
            if needed <= there:
                return Chosen(lengths, size, needed)
            last = pixels * size
        raise UserError(
            f"a tile of {written(sides)} pixels needs {write_bytes(needed)} on each device, and "
            f"there are {write_bytes(there)}: give a smaller config.eval.tiles.size, or use a "
            "smaller network."
        )

    def _read(self, variables: Any, size: int, lengths: Size) -> Any:
        make = self._programs.part if self.is_exact else self._programs.logits
        return make(variables, size, lengths)

    def _sides(self) -> list[tuple[int, ...]]:
        axes, given = len(self._loading.image_size), self.settings.size
        if given:
            return [given * axes if len(given) == 1 else given]
        if not self.is_exact:
            return [self._loading.image_size]
        return [(side,) * axes for side in SIDES[axes]]

    def _rows(self, batch_size: int, lengths: Size) -> int:
        share = self._shardings.size(*ROWS)
        pixels = batch_size * math.prod(self._loading.image_size)
        return max(1, pixels // math.prod(self._fit.read(lengths)) // share) * share

    def _mode(self) -> str:
        assert isinstance(self._fit, Crop)
        return self._fit.reach.mode

    def run(
        self,
        variables: Any,
        image: Large,
        batch_size: int,
        sums: Sequence[str] = (),
        todo: Sequence[int] | None = None,
    ) -> Iterator[Done]:
        """Computes a large image part by part: tiles, or blocks of blended ones.

        Args:
            variables: {"params", "batch_stats"}.
            image: The image.
            batch_size: See `reading`.
            sums: See `tiled.run_tiles`.
            todo: Numbers of the parts to compute, in order; None for all.

        Returns:
            The parts, in order.
        """
        reading = self.reading(variables, batch_size)
        plan = self.plan(image.size, reading.lengths)
        if self.is_exact:
            return run_tiles(image, plan, reading, sums, todo)
        weights = tile_weights(reading.lengths, self.settings.window)
        blocks, decide = self.blocks(image.size), self._programs.decide
        return run_blocks(image, plan, reading, blocks, weights, decide, sums, todo)

    def blocks(self, size: Size) -> Blocks:
        """Returns the blocks of an image whose tiles are blended."""
        side = self.block_side or block_side(len(size), self._model.num_classes)
        return Blocks(size, (side,) * len(size))

    def describe(self, sizes: Sequence[Size], lengths: Size) -> str:
        """Says in one line how some large images go.

        Args:
            sizes: [*n] of the images.
            lengths: Of a read.

        Returns:
            Tile, halo and work; or that tiles are blended, and why.
        """
        plans = [self.plan(size, lengths) for size in sizes]
        work = sum(plan.work * math.prod(size) for plan, size in zip(plans, sizes, strict=True))
        work /= sum(map(math.prod, sizes))
        images = f"{len(sizes)} {'image' if len(sizes) == 1 else 'images'}"
        start = f"{images} of more than {self.settings.whole:,} pixels"
        if self.is_exact:
            tile = written([n - 2 * self.halo for n in lengths])
            return (
                f"{start}: {sum(map(len, plans))} tiles of {tile} with a halo of {self.halo}, "
                f"which make up the whole result; {work:.2f} times the work of one piece"
            )
        how = f"window {self.settings.window}, overlap {self.settings.overlap:g}"
        why = f", as {self.geometry.obstacle}" if self.geometry.obstacle else ""
        return (
            f"{start}: {sum(map(len, plans))} tiles of {written(lengths)}, blended ({how}){why}; "
            f"{work:.2f} times the work of one piece"
        )

    def count(self, size: Size, lengths: Size) -> int:
        """Returns how many parts `run` computes of an image."""
        return len(self.plan(size, lengths)) if self.is_exact else len(self.blocks(size))
