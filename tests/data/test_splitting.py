"""Splits against plain loops: what scikit-learn's splitters promise, and more."""

import collections
import itertools
import string

import numpy as np
import pytest

from unet_jax.data.splitting import deal, deal_groups, rank_sets, split_off, split_off_groups

NAMES = [f"näme_{i}" for i in range(1000)]


def random_groups(seed, count, most, traits=0):
    """Returns groups of 1 to `most` images, shuffled, and what each image holds."""
    rng = np.random.default_rng(seed)
    groups = [f"g{i}" for i, n in enumerate(rng.integers(1, most + 1, count)) for _ in range(n)]
    groups = [groups[i] for i in rng.permutation(len(groups))]
    likely = dict(zip(dict.fromkeys(groups), rng.random((count, traits)), strict=True))
    held = [[k for k in range(traits) if rng.random() < likely[group][k]] for group in groups]
    return groups, held


def sizes_of(bins, folds):
    return [sum(own == fold for own in bins) for fold in range(folds)]


def is_whole(groups, bins):
    return all(len({b for g, b in zip(groups, bins, strict=True) if g == x}) == 1 for x in groups)


def test_a_share_of_older_versions_is_the_same():
    # From the version before there were folds; a change here would draw other splits for everyone.
    assert split_off(NAMES[:30], [""] * 30, 0.2, 0)[1] == [6, 10, 12, 18, 19, 28]
    strata = ["ab"[i % 2] for i in range(30)]
    assert split_off(NAMES[:30], strata, 0.1, 7)[1] == [5, 14, 26]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("fraction", [0.05, 0.1, 1 / 3, 0.5, 0.9])
def test_whole_groups_are_as_near_to_the_share_as_any_choice(count, fraction):
    for seed in range(4):
        groups, _ = random_groups(seed, count, 9)
        if count == 1:
            continue
        kept, off = split_off_groups(groups, fraction, seed)
        assert sorted(kept + off) == list(range(len(groups)))
        assert not {groups[i] for i in kept} & {groups[i] for i in off}
        sizes = list(collections.Counter(groups).values())
        sums = {0}
        for size in sizes:
            sums |= {s + size for s in sums}
        sums -= {0, len(groups)}
        wanted = fraction * len(groups)
        assert abs(len(off) - wanted) == min(abs(s - wanted) for s in sums)


def test_all_choices_of_few_groups_by_hand():
    groups = [*"aaaaa", *"bbb", *"cc", *"d"]
    for seed in range(20):
        off = split_off_groups(groups, 0.3, seed)[1]  # 3.3 of 11: b, or c with d
        assert {groups[i] for i in off} in ({"b"}, {"c", "d"})
    assert len({tuple(split_off_groups(groups, 0.3, seed)[1]) for seed in range(20)}) == 2


def test_groups_larger_than_the_share_and_only_two():
    groups = ["a"] * 10 + ["b"] * 12
    for fraction in (0.01, 0.1, 0.4):
        assert split_off_groups(groups, fraction, 0) == (list(range(10, 22)), list(range(10)))
    assert split_off_groups(groups, 0.9, 0)[1] == list(range(10, 22))
    traits = [[0], *[[1]] * 21]
    assert len({groups[i] for i in split_off_groups(groups, 0.01, 0, traits)[1]}) == 1


def test_no_split_depends_on_the_order_of_the_files():
    groups, held = random_groups(0, 23, 6, traits=3)
    names = NAMES[: len(groups)]
    ways = {
        "share of groups": lambda n, g, t: split_off_groups(g, 0.3, 5)[1],
        "share of groups by traits": lambda n, g, t: split_off_groups(g, 0.3, 5, t)[1],
        "folds": lambda n, g, t: [i for i, f in enumerate(deal(n, g, 4, 5)) if f == 2],
        "folds of groups": lambda n, g, t: [
            i for i, f in enumerate(deal_groups(g, 4, 5)) if f == 2
        ],
        "by traits": lambda n, g, t: [i for i, f in enumerate(deal_groups(g, 4, 5, t)) if f == 2],
        "sets": lambda n, g, t: split_off(n, rank_sets(t), 0.3, 5)[1],
    }
    for what, way in ways.items():
        found = {names[i] for i in way(names, groups, held)}
        assert found, what
        order = np.random.default_rng(1).permutation(len(names))
        moved = [[values[i] for i in order] for values in (names, groups, held)]
        assert {moved[0][i] for i in way(*moved)} == found, what


def test_another_seed_draws_other_groups_and_folds():
    groups = [f"g{i // 3}" for i in range(300)]
    off = [set(split_off_groups(groups, 0.2, seed)[1]) for seed in range(10)]
    assert all(len(part) == 60 for part in off)
    for one, other in itertools.combinations(off, 2):
        assert len(one & other) < 40  # 12 by chance
    counts = collections.Counter(itertools.chain(*off))
    assert max(counts.values()) <= 8  # none is in all
    folds = [deal(NAMES, [""] * 1000, 5, seed) for seed in (0, 1)]
    assert 120 < sum(a == b for a, b in zip(*folds, strict=True)) < 280


@pytest.mark.parametrize(
    ("count", "folds"), [(2, 2), (3, 2), (7, 7), (11, 5), (100, 3), (1000, 10)]
)
def test_folds_of_images_are_even_in_all_and_in_each_stratum(count, folds):
    rng = np.random.default_rng(count)
    strata = [string.ascii_letters[i] for i in rng.integers(0, 4, count) ** 2]
    found = deal(NAMES[:count], strata, folds, 3)
    sizes = sizes_of(found, folds)
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    for stratum in set(strata):
        part = [f for f, s in zip(found, strata, strict=True) if s == stratum]
        assert all(abs(n - len(part) / folds) < 1 for n in sizes_of(part, folds))


def test_an_image_that_is_added_moves_few_others():
    ids = NAMES[:200]
    before = dict(zip(ids, deal(ids, [""] * 200, 5, 0), strict=True))
    for new in ("a", "m", "zz"):
        after = dict(zip([*ids, new], deal([*ids, new], [""] * 201, 5, 0), strict=True))
        assert sum(before[name] != after[name] for name in ids) <= 4  # one an inner boundary


@pytest.mark.parametrize(("count", "folds"), [(2, 2), (5, 5), (9, 4), (60, 10)])
def test_folds_of_groups_are_those_of_scikit_learn_in_size(count, folds):
    for seed in range(5):
        groups, _ = random_groups(seed, count, 30)
        found = deal_groups(groups, folds, seed)
        assert is_whole(groups, found)
        assert set(found) == set(range(folds))
        loads = [0] * folds  # GroupKFold: the largest group first, to the lightest fold
        for size in sorted(collections.Counter(groups).values(), reverse=True):
            loads[int(np.argmin(loads))] += size
        assert sizes_of(found, folds) == loads
        assert max(loads) - min(loads) <= max(collections.Counter(groups).values())


def test_equal_groups_make_equal_folds():
    groups = [f"g{i % 20}" for i in range(100)]
    assert sizes_of(deal_groups(groups, 5, 0), 5) == [20] * 5
    one, other = deal_groups(groups, 5, 0), deal_groups(groups, 5, 1)
    assert one != other


def like_scikit_learn(groups, labels, folds):
    """Deals groups as StratifiedGroupKFold does: by the spread of each label over the folds."""
    names = sorted(set(groups))
    table = np.zeros((len(names), len(set(labels))))
    for group, label in zip(groups, labels, strict=True):
        table[names.index(group), label] += 1
    order = np.argsort(-np.std(table, axis=1), kind="stable")
    filled, found = np.zeros((folds, table.shape[1])), {}
    for row in order:
        spreads = []
        for fold in range(folds):
            tried = filled.copy()
            tried[fold] += table[row]
            spread = np.mean(np.std(tried / table.sum(axis=0), axis=0))
            spreads.append((spread, tried[fold].sum(), fold))
        best = min(spreads)[-1]
        filled[best] += table[row]
        found[names[row]] = best
    return [found[group] for group in groups]


def spread_of(bins, labels, folds):
    """Returns the largest distance of a fold's share of a label from the wanted share."""
    worst = 0.0
    for label in set(labels):
        part = [b for b, own in zip(bins, labels, strict=True) if own == label]
        worst = max(worst, *(abs(n / len(part) - 1 / folds) for n in sizes_of(part, folds)))
    return worst


def test_strata_of_groups_are_as_balanced_as_those_of_scikit_learn():
    ours, theirs, sizes = [], [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        groups, _ = random_groups(seed, 40, 12)
        kind = dict(zip(dict.fromkeys(groups), rng.dirichlet([0.5] * 3, 40), strict=True))
        labels = [int(rng.choice(3, p=kind[group])) for group in groups]
        found = deal_groups(groups, 4, seed, [[label] for label in labels])
        assert is_whole(groups, found)
        ours.append(spread_of(found, labels, 4))
        theirs.append(spread_of(like_scikit_learn(groups, labels, 4), labels, 4))
        sizes.append(np.ptp(sizes_of(found, 4)) / len(groups))
    assert np.mean(ours) <= np.mean(theirs)
    assert np.mean(ours) < 0.06
    assert np.mean(sizes) < 0.06


def test_a_share_of_groups_has_its_share_of_the_traits():
    far, near = [], []
    for seed in range(30):
        groups, held = random_groups(seed, 60, 8, traits=3)
        kept, off = split_off_groups(groups, 0.25, seed, held)
        assert sorted(kept + off) == list(range(len(groups)))
        assert not {groups[i] for i in kept} & {groups[i] for i in off}
        alone = split_off_groups(groups, 0.25, seed)[1]
        for part, found in ((off, near), (alone, far)):
            shares = [
                sum(k in held[i] for i in part) / sum(k in one for one in held) for k in range(3)
            ]
            found.append(max(abs(share - 0.25) for share in shares))
        assert abs(len(off) / len(groups) - 0.25) < 0.05
    assert np.mean(near) < np.mean(far) / 2


def test_sets_of_classes_are_ordered_so_that_rare_classes_keep_their_share():
    rng = np.random.default_rng(0)
    for count, likely in ((31, [0.95, 0.1, 0.3, 0.6, 0.05]), (400, [1.0, 0.5, 0.03, 0.2, 0.02])):
        sets = [[k for k, p in enumerate(likely) if rng.random() < p] for _ in range(count)]
        ranks = rank_sets(sets)
        for one, other in itertools.combinations(range(count), 2):
            assert (ranks[one] == ranks[other]) == (set(sets[one]) == set(sets[other]))
        order = sorted(range(5), key=lambda k: (sum(k in held for held in sets), k))
        for fraction in (0.1, 0.25, 0.5):
            off = set(split_off(NAMES[:count], ranks, fraction, 0)[1])
            folds = deal(NAMES[:count], ranks, 4, 0)
            for place, k in enumerate(order):
                runs = max(1, 2 ** (place - 1))
                holding = [i for i in range(count) if k in sets[i]]
                assert abs(len(off & {*holding}) - fraction * len(holding)) <= runs
                parts = sizes_of([folds[i] for i in holding], 4)
                assert all(abs(n - len(holding) / 4) < runs for n in parts)


def test_the_rarest_values_come_first_and_the_two_rarest_in_one_run():
    held = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    # Of "z" there is the least, then of "y": by their letters they would come last.
    sets = [[v for v, has in zip("zyx", bits, strict=True) if has] for bits in held]
    more = [*sets, ["x"], ["x"], ["y"]]
    order = sorted(range(len(sets)), key=rank_sets(more)[: len(sets)].__getitem__)
    for value in "zy":
        places = [place for place, i in enumerate(order) if value in sets[i]]
        assert places == list(range(places[0], places[0] + 4))


def test_two_kinds_of_traits_and_an_image_with_none():
    assert rank_sets([[], ["b"], ["a", "b"], []]) == [0, 1, 2, 0]
    assert rank_sets([]) == []
    assert deal([], [], 3, 0) == []
