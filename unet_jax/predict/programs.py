"""What is compiled of a network for whole images, and for parts of large ones."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jax.lax import with_sharding_constraint

from unet_jax.augment.scale import standardise, to_unit
from unet_jax.data.images import Fit
from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Spec
from unet_jax.data.sources import Loading
from unet_jax.metrics.make import Metrics
from unet_jax.models.unet import UNet
from unet_jax.sharding import Shardings, batch_shapes


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


class Programs:
    """The programs of a network, each compiled once for a batch of one size and canvas.

    Attributes:
        run: run(variables, batch, canvas, of_part) -> what `Outputs.compute` returns, or `of_part`.
        decide: (logits with what goes with them, by name) -> what is computed of a part.
    """

    def __init__(
        self,
        model: UNet,
        spec: Spec,
        loading: Loading,
        fit: Fit,
        shardings: Shardings,
        outputs: Outputs,
    ) -> None:
        """Plans the programs; nothing is compiled."""
        self._model, self._spec, self._loading = model, spec, loading
        self._fit, self._shardings, self._outputs = fit, shardings, outputs
        self._compiled: dict[tuple[str, int, Size], Any] = {}
        own = {"out_shardings": shardings.replicated}
        self.run: Any = jax.jit(self._compute, static_argnums=(2, 3), **own)
        self._logits: Any = jax.jit(self._only_logits, static_argnums=2, **own)
        self.decide: Any = jax.jit(self._of_logits, **own)

    def __len__(self) -> int:
        """Returns how many programs there are that read images."""
        return len(self._compiled)

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
        variables = with_sharding_constraint(variables, self._shardings.replicated)
        how = self._loading.normalise
        unit = to_unit(image, how.value_range(self._spec), cuts=how.cuts)
        logits: Any = self._model.apply(variables, standardise(unit), train=False)
        # Whole images, so that resizing sums over their rows in one order on every mesh.
        logits = with_sharding_constraint(logits, self._shardings.rows)
        return self._fit.back(logits, size, canvas)

    def _compute(
        self, variables: Any, batch: dict[str, jax.Array], canvas: Size, of_part: bool = False
    ) -> dict[str, Any]:
        logits = self.apply(variables, batch["image"], batch["size"], canvas)
        own = self._outputs.of_part if of_part else None
        return (own or self._outputs.compute)(logits, batch)

    def _only_logits(self, variables: Any, batch: dict[str, jax.Array], canvas: Size) -> jax.Array:
        return self.apply(variables, batch["image"], batch["size"], canvas)

    def _of_logits(self, batch: dict[str, jax.Array]) -> dict[str, Any]:
        compute = self._outputs.of_part or self._outputs.compute
        return compute(batch["logits"], batch)

    def whole(self, variables: Any, batch_size: int, canvas: Size) -> Any:
        """Returns the program of (variables, arrays) for whole images, compiled."""
        return self._compile("whole", variables, batch_size, canvas)

    def part(self, variables: Any, batch_size: int, canvas: Size) -> Any:
        """Returns the program for parts of images; of few outputs it is another one."""
        kind = "whole" if self._outputs.of_part is None else "part"
        return self._compile(kind, variables, batch_size, canvas)

    def logits(self, variables: Any, batch_size: int, canvas: Size) -> Any:
        """Returns the program for the logits alone, of images without labels."""
        return self._compile("logits", variables, batch_size, canvas)

    def _compile(self, kind: str, variables: Any, batch_size: int, canvas: Size) -> Any:
        key = kind, batch_size, canvas
        if key not in self._compiled:
            shapes = self._shapes(batch_size, canvas, with_labels=kind != "logits")
            if kind == "logits":
                lowered = self._logits.lower(variables, shapes, canvas)
            else:
                lowered = self.run.lower(variables, shapes, canvas, kind == "part")
            self._compiled[key] = lowered.compile()
        return self._compiled[key]

    def _shapes(
        self, batch_size: int, canvas: Size, *, with_labels: bool
    ) -> dict[str, jax.ShapeDtypeStruct]:
        image = (batch_size, *self._fit.read(canvas), self._spec.channels)
        arrays: dict[str, tuple[tuple[int, ...], str]] = {
            "image": (image, self._loading.normalise.dtype(self._spec)),
            "size": ((batch_size, len(canvas)), "float32"),
        }
        if self._outputs.label is None or not with_labels:
            arrays["is_read"] = (batch_size,), "bool"
        else:
            arrays["label"] = (batch_size, *canvas, *self._outputs.label), "uint8"
            arrays["weight"] = (batch_size, *canvas), "uint8"
        return batch_shapes(arrays, self._shardings)
