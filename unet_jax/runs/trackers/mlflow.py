"""MLflow: the server that MLFLOW_TRACKING_URI names, or a store in the run's directory."""

import os
import re
from collections.abc import Mapping

from unet_jax.runs.trackers.base import Context

_ALLOWED = re.compile(r"[^\w\-. /:]")  # other characters are not allowed in names
_AT_ONCE = 100  # parameters in a request
_LONGEST = 6000  # characters of a parameter


class MLflow:
    """Logs a run of the experiment MLFLOW_EXPERIMENT_NAME, or "unet_jax"; see `base.Tracker`.

    Metrics of steps that come again after a death come twice, with equal values.
    """

    def __init__(self, context: Context) -> None:
        """Opens the run that it was, or begins one and logs the config's values."""
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        self._entities = entities
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:  # a store of files, which needs no database
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            uri = (context.store / "mlflow").absolute().as_uri()
        self._client = MlflowClient(uri)
        if context.id:
            self.id = context.id
            self._client.update_run(self.id, "RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "unet_jax"
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        run = self._client.create_run(experiment, run_name=context.workdir.name)
        self.id = run.info.run_id
        params = [
            entities.Param(key, str(value)[:_LONGEST]) for key, value in context.config.items()
        ]
        for begin in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self.id, params=params[begin : begin + _AT_ONCE])

    def scalars(self, step: int, at: float, values: Mapping[str, float]) -> None:
        """Logs them as metrics."""
        now = round(1000 * at)
        metrics = [
            self._entities.Metric(_ALLOWED.sub("_", name), value, now, step)
            for name, value in values.items()
        ]
        self._client.log_batch(self.id, metrics=metrics)

    def close(self) -> None:
        """Marks the run as finished, which may go on later."""
        self._client.set_terminated(self.id)
