"""How images are dealt to splits: pure functions of names, groups, strata and a seed.

None depends on the order of the images. Those of folds and groups order by a hash of each name, so
that an image that is added moves few others; `split_off` shuffles, as runs have always been drawn.
"""

import collections
import hashlib
import itertools
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def split_off(
    ids: Sequence[str], strata: Sequence[Any], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Splits off a seeded share, the same share of every stratum.

    The number split off is the rounded share of all. That of a stratum, and of strata that follow
    each other, differs from its share by one image at most.

    Args:
        ids: N names; the split depends on them and not on their order.
        strata: N sortable values, such as breeds; the same for all where there are none.
        fraction: Share to split off, in [0, 1).
        seed: Of the shuffle.

    Returns:
        Indices kept and indices split off, each in the order of `ids`.
    """
    members = _members(ids, strata)
    rng = np.random.default_rng(seed)
    off: set[int] = set()
    total = 0
    for stratum in sorted(members):
        # Rounding the running total, and not each stratum's share, keeps the whole share exact.
        before, total = round(total * fraction), total + len(members[stratum])
        take = round(total * fraction) - before
        off.update(members[stratum][i] for i in rng.permutation(len(members[stratum]))[:take])
    return _both(off, len(ids))


def split_off_groups(
    groups: Sequence[str], fraction: float, seed: int, traits: Sequence[Collection[Any]] = ()
) -> tuple[list[int], list[int]]:
    """Splits off a seeded share in whole groups: one at least, and never all.

    Args:
        groups: N names of two groups or more, such as patients; a group is never divided.
        fraction: Share to split off, in (0, 1).
        seed: Of the choice.
        traits: N sets, such as classes that an image holds, of which both parts shall have their
            share; () for none. Then the share of all is only as near as that of the traits.

    Returns:
        Indices kept and indices split off, sorted. Without traits, no other choice of groups has a
        number of images nearer to the share.
    """
    if traits:
        bins = _balance(groups, traits, (1 - fraction, fraction), seed)
        chosen = {group for group, place in bins.items() if place == 1}
    else:
        chosen = _choose(collections.Counter(groups), fraction, seed)
    return _both({i for i, group in enumerate(groups) if group in chosen}, len(groups))


def deal(ids: Sequence[str], strata: Sequence[Any], folds: int, seed: int) -> list[int]:
    """Deals images to folds, evenly and in each stratum.

    The sizes of two folds, and their parts of a stratum or of strata that follow each other, differ
    by one image at most, so that each is less than one image from its share.

    Args:
        ids: N names; the folds depend on them and not on their order.
        strata: N sortable values; the same for all where there are none.
        folds: How many, N at most.
        seed: Of the order.

    Returns:
        N folds, from 0.
    """
    members = _members(ids, strata)
    fold_of = [0] * len(ids)
    total = 0
    for stratum in sorted(members):
        order = sorted(members[stratum], key=lambda i: _hash(ids[i], seed))
        places = np.arange(total, total + len(order)) % folds
        # Sorted, a fold has a run of the order: one image more moves each of its ends by one.
        for index, fold in zip(order, np.sort(places), strict=True):
            fold_of[index] = int(fold)
        total += len(order)
    return fold_of


def deal_groups(
    groups: Sequence[str], folds: int, seed: int, traits: Sequence[Collection[Any]] = ()
) -> list[int]:
    """Deals whole groups to folds, the largest first, each to where it does least harm.

    Without traits that is the smallest fold, as in scikit-learn's GroupKFold; two folds then differ
    by the size of the largest group at most.

    Args:
        groups: N names of `folds` groups or more; a group is never divided.
        folds: How many.
        seed: Of the order of groups of one size.
        traits: See `split_off_groups`.

    Returns:
        N folds, from 0; none is empty.
    """
    bins = _balance(groups, traits, [1 / folds] * folds, seed)
    return [bins[group] for group in groups]


def rank_sets(sets: Sequence[Collection[Any]]) -> list[int]:
    """Ranks sets, such as the classes that each image holds, so that they can be strata.

    The order is a reflected Gray code whose highest bit is the rarest value. So the images that
    hold one of the two rarest values follow each other, and those of the j-th rarest value are in
    at most 2^(j-2) runs: `split_off` is at most that many images from the share of the value.

    Args:
        sets: N sets of sortable values.

    Returns:
        N ranks, the same for the same set.
    """
    counts = collections.Counter(itertools.chain.from_iterable(map(set, sets)))
    order = sorted(counts, key=lambda value: (counts[value], value))

    def rank(held: Collection[Any]) -> int:
        bits = itertools.accumulate((value in held for value in order), operator.xor)
        return sum(bit << place for place, bit in enumerate(reversed(list(bits))))

    return [rank(set(held)) for held in sets]


def _members(ids: Sequence[str], strata: Sequence[Any]) -> Mapping[Any, list[int]]:
    members = collections.defaultdict(list)
    for index in sorted(range(len(ids)), key=lambda i: ids[i]):
        members[strata[index]].append(index)
    return members


def _both(off: Collection[int], count: int) -> tuple[list[int], list[int]]:
    return [i for i in range(count) if i not in off], sorted(off)


def _hash(name: str, seed: int) -> tuple[bytes, str]:
    text = f"{seed}:{name}".encode(errors="surrogateescape")
    return hashlib.sha256(text).digest(), name


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: _hash(name, seed))


def _choose(sizes: Mapping[str, int], fraction: float, seed: int) -> set[str]:
    """Chooses groups whose sizes sum to what is nearest to the share: an exact subset sum.

    Groups of one size count as one kind, of which there are few; the number taken of each kind is
    near its share where the sum allows it.
    """
    by_size = collections.defaultdict(list)
    for group in _shuffled(sizes, seed):
        by_size[sizes[group]].append(group)
    kinds = [int(size) for size in _shuffled(map(str, by_size), seed)]
    reachable = [1]  # bit s: whether the kinds from here on can sum to s
    for size in reversed(kinds):
        reachable.append(_with_kind(reachable[-1], size, len(by_size[size])))
    reachable.reverse()
    total = sum(sizes.values())
    sums = [s for s, bit in enumerate(reversed(f"{reachable[0]:b}")) if bit == "1"]
    left = min(sums[1:-1], key=lambda s: (abs(s - fraction * total), s))
    share = left / total
    chosen, seen = set(), 0
    for size, rest in zip(kinds, reachable[1:], strict=True):
        seen += len(by_size[size])
        wanted = share * seen - len(chosen)
        most = min(len(by_size[size]), left // size)
        counts = [n for n in range(most + 1) if rest >> (left - n * size) & 1]
        count = min(counts, key=lambda n: abs(n - wanted))
        chosen.update(by_size[size][:count])
        left -= count * size
    return chosen


def _with_kind(bits: int, size: int, count: int) -> int:
    """Returns the sums that can be reached with up to `count` more groups of a size."""
    power = 1
    while count:
        take = min(power, count)
        bits |= bits << size * take
        count, power = count - take, 2 * power
    return bits


def _balance(
    groups: Sequence[str],
    traits: Sequence[Collection[Any]],
    shares: Sequence[float],
    seed: int,
) -> dict[str, int]:
    """Puts whole groups into bins, so that each has its share of all images and of every trait.

    The largest group first, each goes where it adds least to the sum of (count in the bin)^2 /
    (wanted count), over the bins and over images and traits, which is least where all have their
    share. As soon as no more groups are left than bins are empty, they go into those.
    """
    columns = {trait: i for i, trait in enumerate(sorted(set(itertools.chain(*traits))), 1)}
    sizes = collections.Counter(groups)
    order = sorted(_shuffled(sizes, seed), key=lambda group: -sizes[group])
    rows = {group: row for row, group in enumerate(order)}
    counts = np.zeros((len(order), 1 + len(columns)))
    counts[:, 0] = [sizes[group] for group in order]
    for group, held in zip(groups, traits, strict=True) if traits else ():
        for trait in set(held):
            counts[rows[group], columns[trait]] += 1
    wanted = np.outer(shares, counts.sum(axis=0))
    filled, bins = np.zeros_like(wanted), {}
    for row, group in enumerate(order):
        cost = ((2 * filled + counts[row]) * counts[row] / wanted).sum(axis=1)
        is_empty = filled[:, 0] == 0
        if is_empty.sum() >= len(order) - row:
            cost[~is_empty] = np.inf
        bins[group] = int(cost.argmin())
        filled[bins[group]] += counts[row]
    return bins
