"""TensorBoard: event files in the run's directory."""

from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from unet_jax.runs import layout
from unet_jax.runs.trackers.base import Context

_PROTO: Any = event_pb2  # its classes are made when it is imported


class TensorBoard:
    """Writes event files into the folder `tensorboard`; see `base.Tracker`."""

    id = ""

    def __init__(self, context: Context) -> None:
        """Begins a file; what earlier ones have of steps after the start is not shown any more."""
        events = context.workdir / layout.TENSORBOARD
        events.mkdir(parents=True, exist_ok=True)
        # tensorboardX's writer with a thread waits for ever at its end where the disk is full.
        self._events = EventsWriter(str(events / "events"))
        begin = _PROTO.SessionLog(status=_PROTO.SessionLog.START)
        self._events.write_event(_PROTO.Event(step=context.start + 1, session_log=begin))

    def scalars(self, step: int, at: float, values: Mapping[str, float]) -> None:
        """Writes an event for each scalar."""
        for name, value in values.items():
            event = _PROTO.Event(step=step, summary=scalar(name, value))
            event.wall_time = at
            self._events.write_event(event)
        self._events.flush()

    def close(self) -> None:
        """Closes the file."""
        self._events.close()
