"""What a server counts, in the text format of Prometheus."""

from collections import Counter

_PREFIX = "unet_jax_"


class Metrics:
    """Counts of a server since its start.

    Attributes:
        answers: Requests for masks by the status of their answer.
        images: Predicted.
        pixels: Of those.
        seconds: That the worker took for them, decoding and encoding among it.
    """

    def __init__(self) -> None:
        """Begins at nothing."""
        self.answers: Counter[int] = Counter()
        self.images, self.pixels, self.seconds = 0, 0, 0.0

    def text(self, taken: int, queue: int) -> str:
        """Writes all counts.

        Args:
            taken: Places of the queue that are taken; see `Line`.
            queue: Its length.

        Returns:
            Lines that end with a line break.
        """
        codes = sorted(self.answers.items())
        told = [
            ("requests_total", "counter", [(f'{{code="{code}"}}', n) for code, n in codes]),
            ("images_total", "counter", [("", self.images)]),
            ("pixels_total", "counter", [("", self.pixels)]),
            ("predict_seconds_total", "counter", [("", round(self.seconds, 6))]),
            ("requests_in_progress", "gauge", [("", taken)]),
            ("queue_length", "gauge", [("", queue)]),
        ]
        lines = []
        for name, kind, values in told:
            lines.append(f"# TYPE {_PREFIX}{name} {kind}")
            lines += [f"{_PREFIX}{name}{labels} {value}" for labels, value in values]
        return "\n".join(lines) + "\n"
