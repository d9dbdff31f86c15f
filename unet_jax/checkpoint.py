"""The only file that knows Orbax: saving and restoring the training state."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from unet_jax.errors import UserError
from unet_jax.multihost import is_first, wait_for_all

BROKEN = "broken_checkpoints"  # beside the folder of checkpoints
_NO_SCORE = -1.0  # below every score, so that a step without one is never the best
_CHECKSUMS = "sha256.json"
# Orbax writes these after the checksums; the second is JSON.
_LATER = ("commit_success.txt", "_CHECKPOINT_METADATA")
_NO_NEWS = ("Waiting for previous save", "Metadata file does not exist")


class Checkpoints:
    """The checkpoints of one run: the two latest, and the best by score.

    A step counts once its folder has been renamed to its final name, so a run that dies while
    saving leaves the steps before it as they were. The folder holds the checksums of its files,
    since Orbax restores flipped bits without a word.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """Opens the directory.

        Args:
            directory: The run's `checkpoints` folder.
            read_only: Whether to leave it as it is; otherwise it is made when it is missing, and
                what runs left that died while saving is deleted.
        """
        self._directory, self._saving = directory.absolute(), 0
        logging.getLogger("absl").addFilter(_is_news)
        # A plain best_fn would delete the newest step when it is not among the best.
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(2),
                checkpoint_managers.BestN(get_metric_fn=_score, n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
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

    def save(self, step: int, state: Any, meta: dict[str, Any], score: float | None) -> None:
        """Starts to save; waits only for the save before it and the copy to the host.

        Args:
            step: Number of steps taken.
            state: Pytree of arrays.
            meta: What goes with it, as JSON values.
            score: By which the best is chosen; higher is better; None if it was not evaluated.
        """
        if step in self._manager.all_steps():
            return
        self._manager.wait_until_finished()  # whose checksums are of the step before
        self._saving = step
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
            ),
            metrics={"score": _NO_SCORE if score is None else score},
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
        folder = self._directory / str(step)
        problem = find_damage(folder) if is_first() else None
        if _agree(problem is not None):
            raise UserError(
                f"{folder} is broken ({problem}); choose another with --checkpoint, or train on "
                "from the last good one by starting the training again."
            )
        if other := _find_other(_read_tree(folder), like):
            raise UserError(
                f"{folder} holds other arrays than this version of the program makes of the config "
                f"({other}); use the version that wrote it, or train again in another --workdir."
            )
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
        )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._manager.restore(step, args=args)["state"]

    def meta(self, step: int) -> dict[str, Any]:
        """Returns what was saved with the state of a step."""
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))[
            "meta"
        ]

    def wait(self) -> None:
        """Returns when what was saved is on the disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and frees the threads."""
        self._manager.close()

    def _write_checksums(self) -> None:
        """Writes the checksums of the folder being saved, just before it gets its final name."""
        if not is_first():
            return
        for folder in self._directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
            (folder / _CHECKSUMS).write_text(json.dumps(_checksums(folder), indent=1))


def set_broken_aside(directory: Path) -> list[str]:
    """Moves checkpoints whose files are not what was saved to the folder `BROKEN` beside theirs.

    Args:
        directory: The run's `checkpoints` folder, which need not exist.

    Returns:
        A line for each, that names it and what is wrong.
    """
    lines = []
    steps = [folder for folder in directory.glob("*") if folder.name.isdecimal()]
    for folder in sorted(steps) if is_first() else []:
        if problem := find_damage(folder):
            aside = _unused(directory.parent / BROKEN / folder.name)
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)
            lines.append(f"{folder} is broken ({problem}); it was moved to {aside}.")
    wait_for_all("broken checkpoints are set aside")
    return lines


def find_damage(folder: Path) -> str | None:
    """Compares a checkpoint with its checksums.

    Args:
        folder: Of one step.

    Returns:
        What is wrong, with the file's name; None if nothing is.
    """
    for name in (_LATER[-1], _CHECKSUMS):
        try:
            expected = json.loads((folder / name).read_text())
        except (OSError, ValueError):
            return f"{name} is missing or unreadable"
    found = _checksums(folder)
    for name, checksum in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != checksum:
            return f"{name} is not what was saved"
    return None


def _read_tree(folder: Path) -> Any:
    """Reads what arrays the checkpoint of a step holds, as a tree of their shapes and types."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.metadata((folder / "state").absolute()).item_metadata.tree


def _find_other(tree: Any, like: Any) -> str | None:
    """Names an array that one of two trees has and the other lacks, or has in another shape."""
    there = {path: tuple(x.shape) for path, x in ocp.tree.to_flat_dict(tree, sep="/").items()}
    paths = jax.tree_util.tree_leaves_with_path(like)
    wanted = {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in paths}
    for path in sorted({*there, *wanted}):
        if there.get(path) != wanted.get(path):
            found, right = (shapes.get(path, "absent") for shapes in (there, wanted))
            return f"{path} is {found}, not {right}"
    return None


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


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {}
    for file in files:
        if file.name not in (_CHECKSUMS, *_LATER):
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256")
            sums[file.relative_to(folder).as_posix()] = digest.hexdigest()
    return sums


def _unused(path: Path) -> Path:
    names = [path, *(path.with_name(f"{path.name}_{n}") for n in range(2, 100))]
    return next(name for name in names if not name.exists())


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


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
