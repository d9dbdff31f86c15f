"""Reads scalars of TensorBoard event files by their format, with no TensorBoard."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def read_scalars(folder: Path) -> list[tuple[int, str, float]]:
    """Returns (step, name, value) in the order they were written."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return found
