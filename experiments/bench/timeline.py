"""Reads a trace of `jax.profiler` on CPU: which operations ran when, and what each took."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

NOT_ATTRIBUTED = "not attributed"


class Span(NamedTuple):
    """An operation's run.

    Attributes:
        name: Of the operation.
        start: Nanoseconds.
        end: Nanoseconds.
        thread: That ran it; what starts within it on the same thread is a part of it. "" for what
            its thread handed out to the cores.
        run: Number of the program's run that it belongs to.
    """

    name: str
    start: float
    end: float
    thread: str = ""
    run: int = 0


def attribute(spans: Iterable[Span], seconds: float, cores: int) -> dict[str, float]:
    """Gives every moment of a step to the operations that run then.

    An operation on a thread has a core. Those that were handed out share the cores that are left in
    equal parts: with none left they wait, as the copies of parameters do that are handed out when a
    step begins and done at any time before the optimiser.

    Args:
        spans: Runs of operations, of all threads; the step begins with the first of them.
        seconds: What the step took; the trace may note an end later than the result is there.
        cores: That run operations.

    Returns:
        Seconds by operation; `NOT_ATTRIBUTED` has those in which none runs. Their sum is
        `seconds`.
    """
    spans = list(spans)
    last = spans[0].start + 1e9 * seconds if spans else 0.0
    edges = []
    for number, span in enumerate(spans):
        if span.start < (end := min(span.end, last)):
            edges += [(span.start, True, number, span), (end, False, number, span)]
    edges.sort(key=lambda edge: edge[:3])
    found: dict[str, float] = defaultdict(float)
    running: dict[int, Span] = {}
    before = edges[0][0] if edges else 0.0
    for at, begins, number, span in edges:
        shares = _shares(running.values(), cores)
        for name, share in shares.items():
            found[name] += (at - before) / 1e9 * share / sum(shares.values())
        before = at
        if begins:
            running[number] = span
        else:
            del running[number]
    return {**found, NOT_ATTRIBUTED: seconds - sum(found.values())}


def _shares(running: Iterable[Span], cores: int) -> dict[str, float]:
    """Returns how many cores each operation has, of spans in the order of their start."""
    innermost, waiting = {}, []  # on each thread the latest to begin
    for span in running:
        if span.thread:
            innermost[span.thread] = span.name
        else:
            waiting.append(span.name)
    shares: dict[str, float] = defaultdict(float)
    for name in innermost.values():
        shares[name] += 1
    left = max(0, cores - len(innermost))
    for name in waiting:
        shares[name] += left / len(waiting)
    return shares


def read_trace(file: str) -> list[list[Span]]:
    """Reads the operations of a trace.

    Args:
        file: xplane.pb of `jax.profiler.trace`.

    Returns:
        Their runs, for every run of a program. An operation that goes on when its thread has handed
        it out, as convolutions do, lasts to the event of its end, on no thread.
    """
    import jax

    begun, ends = [], {}
    for plane in jax.profiler.ProfileData.from_file(file).planes:
        for line in plane.lines:
            for event in line.events:
                stats: dict[str, Any] = dict(event.stats)
                if event.name.startswith("end: "):
                    ends[stats.get("_c")] = event.start_ns
                elif "hlo_op" in stats:
                    begun.append((event.start_ns, event.duration_ns, line.name, stats))
    runs = defaultdict(list)
    for start, duration, thread, stats in sorted(begun, key=lambda one: one[0]):
        end = start + duration
        if (later := ends.get(stats.get("_p"), 0)) > end:
            end, thread = later, ""
        run = stats["run_id"]
        runs[run].append(Span(stats["hlo_op"], start, end, thread, run))
    return list(runs.values())
