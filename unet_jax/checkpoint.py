"""The only file that knows Orbax: saving and restoring the training state."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

_NO_SCORE = -1.0  # below every score, so that a step without one is never the best


class Checkpoints:
    """The checkpoints of one run: the two latest, and the best by score.

    A step counts once its folder has been renamed to its final name, so a run that dies while
    saving leaves the steps before it as they were.
    """

    def __init__(self, directory: Path) -> None:
        """Opens the directory, which is made when it is missing.

        Args:
            directory: The run's `checkpoints` folder.
        """
        self._directory = directory.absolute()
        # A plain best_fn would delete the newest step when it is not among the best.
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(2),
                checkpoint_managers.BestN(get_metric_fn=_score, n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(preservation_policy=keep, best_fn=_score)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def steps(self) -> dict[str, int]:
        """Returns the "latest" and the "best" step, or {} when nothing was saved."""
        latest, best = self._manager.latest_step(), self._manager.best_step()
        return (
            {} if latest is None else {"latest": latest, "best": latest if best is None else best}
        )

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
        """
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


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
