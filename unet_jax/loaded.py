"""A trained model in memory, as `unet_jax.load` returns it.

Everything but the standard library is imported where it is needed; see `library`.
"""

import functools
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, overload

from unet_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from ml_collections import ConfigDict

    from unet_jax.given import Gathered
    from unet_jax.predict.predictor import Predictor

    File = str | os.PathLike[str]
    Image = np.ndarray | File


class Prediction(NamedTuple):
    """What a model says of an image.

    Attributes:
        mask: uint8 [*n], or [*n, K] of classes that may overlap; see `Run.predict`.
        probability: float32 [*n, K], of each class by the network, before post-processing.
    """

    mask: "np.ndarray"
    probability: "np.ndarray"


class Writable(Protocol):
    """What takes a mask part by part: an array, np.memmap or zarr.Array."""

    def __setitem__(self, window: tuple[slice, ...], mask: "np.ndarray", /) -> None:
        """Takes the mask of a window of the image."""
        ...


class Run:
    """A trained model, as `load` returns it.

    Attributes:
        workdir: The run's directory.
        class_names: K names, by class id.
        spec: Axes, channels and type of the images that it reads.
        step: Of the checkpoint; the best one's may be before the last.
        scores: Of results.json: by split, values by name, such as scores["val"]["IoU/cat"]; {}
            where the run is not finished.
    """

    def __init__(self, config: "ConfigDict", workdir: Path, checkpoint: str) -> None:
        """Restores the model; see `load`."""
        from unet_jax.config import check_sections
        from unet_jax.predict.cleaner import make_cleaner
        from unet_jax.predict.eval_step import make_mask_step
        from unet_jax.restore import restore
        from unet_jax.runs.cleaned import settle_rules
        from unet_jax.runs.provenance import SHRINKAGE, read_provenance
        from unet_jax.runs.results import read_results

        check_sections(config)
        trained = restore(config, workdir, checkpoint)
        task, spec = trained.network.task, trained.network.spec
        asked = trained.network.settings.metrics, workdir, trained.step, checkpoint
        self._cleaner = make_cleaner(task, settle_rules(*asked, task.names), spec.axes)
        self._network, self._step = trained.network, make_mask_step(trained.network)
        self._batch_size = trained.network.settings.batch_size
        self._variables = trained.variables
        self._shrinkage = read_provenance(workdir).get(SHRINKAGE)
        self.workdir, self.class_names, self.step = workdir, trained.class_names, trained.step
        self.spec = trained.network.spec
        self.scores: dict[str, Any] = read_results(workdir)

    def __repr__(self) -> str:
        """Says which run it is."""
        return f"Run({str(self.workdir)!r}, step={self.step}, class_names={self.class_names})"

    @overload
    def predict(
        self,
        image: "Image",
        value_range: tuple[float, float] | None = None,
        *,
        probabilities: Literal[False] = False,
    ) -> "np.ndarray": ...

    @overload
    def predict(
        self,
        image: "Image",
        value_range: tuple[float, float] | None = None,
        *,
        probabilities: Literal[True],
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        image: "Iterable[Image]",
        value_range: tuple[float, float] | None = None,
        *,
        probabilities: Literal[False] = False,
    ) -> "Iterator[np.ndarray]": ...

    @overload
    def predict(
        self,
        image: "Iterable[Image]",
        value_range: tuple[float, float] | None = None,
        *,
        probabilities: Literal[True],
    ) -> Iterator[Prediction]: ...

    def predict(
        self,
        image: Any,
        value_range: tuple[float, float] | None = None,
        *,
        probabilities: bool = False,
    ) -> Any:
        """Predicts the class of every pixel: the mask that --mode=predict writes for the image.

        Args:
            image: [*n, C] as the images that the run was trained on, of any size; or [*n] for grey
                values, of which a run for three colours takes three. Or the file of an image. Or
                several of either: a list, or whatever yields them, read batch by batch.
            value_range: The values of black and of white of arrays, such as (0, 1), which become
                those of the images that the run was trained on, such as 0 and 255; integers are
                rounded. May be left out for images of their type and range; see
                config.data.value_range.
            probabilities: Whether those of the classes are returned, too.

        Returns:
            uint8 [*n], class ids: indices into `class_names`; of a run whose classes may overlap
            uint8 [*n, K], 1 where a class is. With `probabilities` a `Prediction`. Of several
            images an iterator over such, in their order.

        Raises:
            UserError: The array or file is no such image, or too small or too large for the
                network.
        """
        from unet_jax.given import Gathered, gather, is_several, open_given

        given = value_range, self.spec, self._step.loading.largest_file
        if is_several(image, self.spec.axes):
            groups = gather(
                image, self._batch_size, lambda one: open_given(one, "an image", *given)
            )
            return (one for group in groups for one in self._predict(group, probabilities))
        return self._predict(Gathered([open_given(image, "image", *given)]), probabilities)[0]

    def stream(self, image: "File", mask: "File | Writable") -> None:
        """Predicts an image that need not fit into memory, and neither need its mask.

        Images of more pixels than config.eval.tiles.whole, with config.data.fit="crop", go through
        the network in tiles; see docs/guide/prediction.md. All others go in one piece, as those do
        whose masks are post-processed.

        Args:
            image: The file. TIFF of tiles, OME-Zarr and .npy are read in windows.
            mask: Where the classes go, as `predict` returns them: what takes
                `mask[window] = part`, such as an array, np.memmap or zarr.Array of their shape; or
                the file of a mask, which must not be there: .png, .tif, .npy or .zarr. A file is
                whole or not there, and after a kill the same call goes on.

        Raises:
            UserError: The image cannot be read or is of another kind, or the mask does not fit or
                cannot be written.
        """
        from unet_jax.data.sample import whole
        from unet_jax.given import Gathered, open_file
        from unet_jax.predict.run import run_identity
        from unet_jax.predict.work import Work
        from unet_jax.streaming import check_mask, stream_large, write_mask

        source = open_file(image, self.spec, self._step.loading.largest_file)
        size, by_class = source.shape(0), bool(self._network.task.label_shape)
        kept = 2 if by_class else len(self.class_names)
        check_mask(mask, size, len(self.class_names) if by_class else 0)
        if self._step.tiling.is_large(size) and not self._cleaner:
            of = {"run": run_identity(self.workdir, self.step)}
            work = Work(self._step, self._variables, self._batch_size, of)
            stream_large(work, source, mask, kept)
            return
        found = self._predict(Gathered([source]), probabilities=False)[0]
        if isinstance(mask, str | os.PathLike):
            write_mask(mask, found, kept)
        else:
            mask[whole(size)] = found

    def _predict(self, source: "Gathered", probabilities: bool) -> list[Any]:
        """Predicts a batch or two of images; see `predict`."""
        from unet_jax.predict.fits import other_scale
        from unet_jax.predict.predictor import cut

        step = self._with_probability if probabilities else self._step
        if line := other_scale(source, step.loading, self._shrinkage):
            warnings.warn(line, stacklevel=3)
        step.check(self._variables, source, self._batch_size)
        found: dict[int, Any] = {}
        for batch, result in step.batches(self._variables, source, self._batch_size):
            for error in batch["errors"].values():
                raise UserError(error)
            masks = cut(result["prediction"], batch)
            own = cut(result["probability"], batch) if probabilities else {}
            for index, mask in masks.items():
                cleaned = self._cleaner.clean(mask)
                found[index] = Prediction(cleaned, own[index]) if probabilities else cleaned
        return [found[index] for index in range(len(source))]

    @functools.cached_property
    def _with_probability(self) -> "Predictor":
        """Returns what computes probabilities, too."""
        from unet_jax.predict.eval_step import make_mask_step

        return make_mask_step(self._network, with_probability=True)
