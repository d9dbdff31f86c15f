"""The only file that knows Orbax: saving and restoring the training state."""

import contextlib
import json
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from unet_jax.errors import UserError
from unet_jax.process import records
from unet_jax.process.multihost import is_first
from unet_jax.runs.damage import (
    CHECKSUMS,
    SMALL,
    check_small_files,
    checksums,
    find_damage,
    say_broken,
)

_DELETED = "deleted"  # in that folder: steps that are to go, and be it by halves
_NO_NEWS = ("Waiting for previous save", "Metadata file does not exist")


class Checkpoints:
    """The checkpoints of one run: the two latest, and the best by score.

    A step counts once its folder has been renamed to its final name, so a run that dies while
    saving leaves the steps before it as they were; deleting one begins with a rename as well, so a
    step's folder is either whole or broken. It holds the checksums of its files, since Orbax
    restores flipped bits without a word.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """Opens the directory.

        Args:
            directory: The run's `checkpoints` folder.
            read_only: Whether to leave it as it is; otherwise it is made when it is missing, and
                what runs left that died while saving or deleting is deleted.
        """
        self._directory, self._saving = directory.absolute(), 0
        self._read_only = read_only
        logging.getLogger("absl").addFilter(_is_news)
        if read_only:
            check_small_files(directory)
        else:
            _finish_deleting(self._directory)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_Preservation(),
            todelete_subdir=_DELETED,
            best_fn=_score,
            create=not read_only,
            save_root_metadata=not read_only,
            cleanup_tmp_directories=not read_only,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def steps(self) -> dict[str, int]:
        """Returns the "latest" and the "best" step, or {} when nothing was saved."""
        latest, best = self._manager.latest_step(), self._manager.best_step()
        return (
            {} if latest is None else {"latest": latest, "best": latest if best is None else best}
        )

    def all_steps(self) -> list[int]:
        """Returns every step that was saved and kept."""
        return list(self._manager.all_steps())

    def save(
        self,
        step: int,
        state: Any,
        meta: dict[str, Any],
        score: float | None,
        *,
        is_planned: bool = True,
        is_lasting: bool = True,
    ) -> None:
        """Starts to save; waits only for the save before it and the copy to the host.

        Args:
            step: Number of steps taken.
            state: Pytree of arrays.
            meta: What goes with it, as JSON values.
            score: By which the best is chosen; higher is better, see `Kind.rank`; None if it was
                not evaluated.
            is_planned: Whether it is one of the steps of which the two latest are kept.
            is_lasting: Whether a longer run would leave the same; of these too the best is kept.
        """
        if step in self._manager.all_steps():
            return
        self.wait()  # the checksums are of the step before
        self._saving = step
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
            ),
            metrics={
                "score": score,
                "is_planned": is_planned,
                "is_lasting": is_lasting,
            },
            force=True,
        )

    def restore(self, step: int, like: Any) -> Any:
        """Restores a state.

        Args:
            step: One of `steps()`.
            like: Pytree of arrays, or of `jax.ShapeDtypeStruct` with shardings, of the same shapes;
                the mesh may differ from the one that saved.

        Returns:
            The state, with the shardings of `like`.

        Raises:
            UserError: The checkpoint is broken, or of another tree.
        """
        folder = self.check(step)
        _check_like(folder, _flat(_read_tree(folder)), _flat(like))
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
        )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        with _described(folder):
            return self._manager.restore(step, args=args)["state"]

    def restore_variables(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """Restores what a network is evaluated with; nothing of the optimiser is read.

        Args:
            step: One of `steps()`.
            like: {"params", "batch_stats"}, as that of `restore`.

        Returns:
            The same: the averaged parameters where they were kept, else the parameters.

        Raises:
            UserError: The checkpoint is broken, or of another network.
        """
        folder = self.check(step)
        tree = _read_tree(folder)
        there = _flat(tree)
        places = {"params": place_of_params(there), "batch_stats": "batch_stats"}
        wanted = {
            f"{places[name]}/{path}": x
            for name in sorted(like)
            for path, x in _flat(like[name]).items()
        }
        roots = tuple(f"{place}/" for place in places.values())
        _check_like(folder, {k: x for k, x in there.items() if k.startswith(roots)}, wanted)
        item = jax.tree_util.tree_map_with_path(
            lambda path, _: wanted.get(_name(path), ocp.PLACEHOLDER), tree
        )
        asked = ocp.args.PyTreeRestore(
            item=item, restore_args=ocp.checkpoint_utils.construct_restore_args(item)
        )
        with _described(folder), ocp.PyTreeCheckpointer() as checkpointer:
            found = _flat(checkpointer.restore((folder / "state").absolute(), args=asked))
        leaves = [found[path] for path in wanted]  # in the order of the leaves of `like`
        return jax.tree.unflatten(jax.tree.structure(dict(like)), leaves)

    def check(self, step: int) -> Path:
        """Returns the folder of a step, whose files are what was saved.

        Raises:
            UserError: They are not.
        """
        folder = self._directory / str(step)
        problem = find_damage(folder) if is_first() else None
        if _agree(problem is not None):
            raise UserError(say_broken(folder, problem or "see the first process"))
        return folder

    def meta(self, step: int) -> dict[str, Any]:
        """Returns what was saved with the state of a step.

        Raises:
            UserError: The checkpoint is broken.
        """
        folder = self._directory / str(step)
        problem = find_damage(folder, of=SMALL)
        found = None if problem else records.recall(folder / "meta" / "metadata", {str: object})
        if found is None:
            raise UserError(say_broken(folder, problem or "meta/metadata is no JSON object"))
        return found

    def delete_others(self) -> None:
        """Deletes the steps that are not kept, which a run that died had yet to delete."""
        steps = sorted(self._manager.all_steps())
        saved = [_Saved(step, self._manager.metrics(step)) for step in steps]
        kept = _Preservation().should_preserve(saved, context=None)
        for step, is_kept in zip(steps, kept, strict=True):
            if not is_kept:
                self._manager.delete(step)
        _finish_deleting(self._directory)

    def wait(self) -> None:
        """Returns when what was saved is on the disk, and what was to go is not."""
        self._manager.wait_until_finished()
        _finish_deleting(self._directory)

    def close(self) -> None:
        """Waits and frees the threads; a step that was to go is gone."""
        self._manager.close()
        if not self._read_only:
            _finish_deleting(self._directory)

    def _write_checksums(self) -> None:
        """Writes the checksums of the folder being saved, just before it gets its final name."""
        if not is_first():
            return
        for folder in self._directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
            (folder / CHECKSUMS).write_text(json.dumps(checksums(folder), indent=1))


class _Saved(NamedTuple):
    """What `_Preservation` asks of a step."""

    step: int
    metrics: dict[str, Any] | None


class _Preservation(checkpoint_managers.PreservationPolicy):
    """Keeps the newest step, the two latest that were planned, the best, and the best that lasts.

    A step at which a signal stopped the run is none of the two, so that the run keeps in the end
    what it would have kept without. A plain best_fn would delete the newest step when it is not
    among the best.
    """

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Tells for each checkpoint, sorted by step, whether it is kept."""
        del context
        planned = [info for info in checkpoints if _is_marked(info, "is_planned")]
        lasting = [info for info in checkpoints if _is_marked(info, "is_lasting")]
        best = [
            max(some, key=lambda info: (_score(info.metrics), info.step))
            for some in (checkpoints, lasting)
            if some
        ]
        kept = {info.step for info in (*checkpoints[-1:], *planned[-2:], *best)}
        return [info.step in kept for info in checkpoints]


def _is_marked(info: Any, mark: str) -> bool:
    return (info.metrics or {}).get(mark, True)  # older versions marked none


def delete(directory: Path, step: int) -> None:
    """Deletes the checkpoint of a step, where there is one, which nobody has open.

    Args:
        directory: The run's `checkpoints` folder.
        step: Its step.
    """
    folder, doomed = directory / str(step), directory / _DELETED
    if folder.is_dir():
        _finish_deleting(directory)
        doomed.mkdir()
        folder.rename(doomed / folder.name)
    _finish_deleting(directory)


def _finish_deleting(directory: Path) -> None:
    """Deletes the steps that were only renamed so far."""
    if is_first():
        # As Orbax does, it goes on where a file cannot be deleted: what is there is of no matter.
        shutil.rmtree(directory / _DELETED, ignore_errors=True)


def _read_tree(folder: Path) -> Any:
    """Reads what arrays the checkpoint of a step holds, as a tree of their shapes and types."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.metadata((folder / "state").absolute()).item_metadata.tree


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _flat(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by path, such as "params/head/kernel"."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def place_of_params(there: Iterable[str]) -> str:
    """Returns where a checkpoint keeps the parameters to evaluate with, given its arrays' paths."""
    for path in there:
        if path.startswith("average/"):
            return "average"
        if "/ema/" in path:  # earlier versions kept the average in the optimiser's state
            return path.partition("/ema/")[0] + "/ema"
    return "params"


def _check_like(folder: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Checks that a checkpoint has the arrays that are wanted, of the same shapes, and no others.

    Args:
        folder: Of one step, for the error.
        there: Its arrays by path.
        wanted: Those wanted.

    Raises:
        UserError: It has not.
    """
    shapes = [{path: tuple(x.shape) for path, x in arrays.items()} for arrays in (there, wanted)]
    for path in sorted({*there, *wanted}):
        found, right = (known.get(path, "absent") for known in shapes)
        if found != right:
            raise UserError(
                f"{folder} holds other arrays than this version of the program makes of the config "
                f"({path} is {found}, not {right}); use the version that wrote it, or train again "
                "in another --workdir."
            )


@contextlib.contextmanager
def _described(folder: Path) -> Iterator[None]:
    """Turns what Orbax raises while it reads a checkpoint into one line."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(say_broken(folder, f"Orbax cannot read it: {first_line}")) from error


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a checkpoint, whatever mesh they were saved from.

    Args:
        folder: Of one step.

    Returns:
        By path, such as "params/head/kernel".
    """
    args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), _read_tree(folder))
    with ocp.PyTreeCheckpointer() as checkpointer:
        arrays = checkpointer.restore((folder / "state").absolute(), restore_args=args)
    return {path: np.asarray(x) for path, x in ocp.tree.to_flat_dict(arrays, sep="/").items()}


def _agree(value: bool) -> bool:
    """Returns what the first process says."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def _is_news(record: logging.LogRecord) -> bool:
    """Tells whether a line that Orbax logs says what nobody else does.

    What it logs with a traceback, it raises as well; a save waits for the one before by design; and
    the metadata of a part of a checkpoint lie with those of the whole.
    """
    text = record.getMessage()
    return not record.exc_info and not any(line in text for line in _NO_NEWS)


def _score(metrics: dict[str, Any] | None) -> float:
    """Returns what the best step has most of; a step without a score is never the best."""
    score = None if metrics is None else metrics["score"]
    return -math.inf if score is None else score  # older versions, with none below 0, had -1
