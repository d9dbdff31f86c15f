"""What chips can do, as their makers publish it."""

from typing import NamedTuple

from unet_jax.errors import UserError

GB, TERA = 10**9, 10**12


class Chip(NamedTuple):
    """A chip's published figures.

    Attributes:
        kind: For people.
        peak: Floating-point operations a second in bfloat16 without sparsity, which matrix units
            also compute float32 convolutions with, as jax has it unless told otherwise.
        memory: Bytes of its memory.
        bandwidth: Bytes a second between it and its memory.
        links: Bytes a second that it sends to its neighbours over all its links, in one direction.
        source: Where the figures stand.
    """

    kind: str
    peak: float
    memory: int
    bandwidth: float
    links: float
    source: str


_TPU = "Cloud TPU documentation, system architecture"
_V4 = f"{_TPU} of v4; links: Jouppi et al., 2023, arXiv:2304.01433 (six of 50 GB/s)"
TPUS = {
    "v4": Chip("TPU v4", 275 * TERA, 32 * 2**30, 1200 * GB, 300 * GB, _V4),
    "v5e": Chip("TPU v5e", 197 * TERA, 16 * GB, 819 * GB, 200 * GB, f"{_TPU} of v5e"),
    "v5p": Chip("TPU v5p", 459 * TERA, 95 * GB, 2765 * GB, 600 * GB, f"{_TPU} of v5p"),
    "v6e": Chip("TPU v6e", 918 * TERA, 32 * GB, 1638 * GB, 400 * GB, f"{_TPU} of v6e"),
}
"""By the name before ":" in --topology; half of what is published as bidirectional links."""
_NVIDIA = "NVIDIA data sheet, without sparsity"
GPUS = {
    "a100": Chip("NVIDIA A100", 312 * TERA, 80 * GB, 2039 * GB, 300 * GB, f"{_NVIDIA}; SXM"),
    "h100": Chip("NVIDIA H100", 989 * TERA, 80 * GB, 3350 * GB, 450 * GB, f"{_NVIDIA}; SXM"),
    "h200": Chip("NVIDIA H200", 989 * TERA, 141 * GB, 4800 * GB, 450 * GB, f"{_NVIDIA}; SXM"),
    "l4": Chip("NVIDIA L4", 121 * TERA, 24 * GB, 300 * GB, 32 * GB, f"{_NVIDIA}; PCIe"),
}
"""By the name before ":" in --topology, for which is only estimated."""
MOST_GPUS = 8  # of one machine, which is as far as those links reach
AXES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
"""Axes of the torus."""
MOST_CHIPS = {"v4": 4096, "v5e": 256, "v5p": 8960, "v6e": 256}
"""Of one pod."""


class Topology(NamedTuple):
    """Chips that are wired up: TPUs as a torus, of one pod, or GPUs of one machine.

    Attributes:
        name: As given, such as "v5e:2x4".
        family: A key of `TPUS` or `GPUS`.
        shape: Chips along each axis.
    """

    name: str
    family: str
    shape: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        """Returns the chip's figures."""
        return (TPUS | GPUS)[self.family]

    @property
    def is_estimated(self) -> bool:
        """Tells whether nothing here compiles for it."""
        return self.family in GPUS


def parse_topology(name: str) -> Topology:
    """Reads the name of a topology.

    Args:
        name: Such as "v5e:2x4": a family of chips, and how many lie along each axis; "h100:8".

    Returns:
        The topology.

    Raises:
        UserError: There is no such topology.
    """
    family, _, text = name.partition(":")
    parts = text.split("x")
    sizes = [int(part) for part in parts if part.isascii() and part.isdecimal() and len(part) < 6]
    axes, chips = AXES.get(family, 0), 1
    for size in sizes:
        chips *= size
    if family in GPUS and len(parts) == len(sizes) == 1 and 1 <= sizes[0] <= MOST_GPUS:
        return Topology(name, family, tuple(sizes))
    is_known = len(parts) == len(sizes) == axes and 1 <= chips <= MOST_CHIPS[family]
    # A host has 2x2 chips, or is a part of one: a single chip, or two side by side.
    is_whole = is_known and (sizes[0] % 2 == sizes[1] % 2 == 0 or chips == 1)
    if not is_whole:
        allowed = "; ".join(
            f"{key}:{'x'.join('ABC'[:n])} of at most {MOST_CHIPS[key]:,} chips"
            for key, n in AXES.items()
        )
        raise UserError(
            f"--topology={name} is none that can be compiled for; there are {allowed}, where A and "
            "B are even, or all are 1 for one chip, such as v5e:2x4, v5e:16x16 and v5p:2x2x2; "
            f"and for an estimate 1 to {MOST_GPUS} of {', '.join(GPUS)}, such as h100:8."
        )
    return Topology(name, family, tuple(sizes))
