"""The random streams: Philox4x32-10 bit by bit, generator states, thread counts, distributions, dropout."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import pyengine as pe

MASK = 0xFFFFFFFF


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011) in plain Python: four words from four counter words and two key words."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def words(seed, first, count):
    """The engine's stream of 32-bit words: four per counter."""
    key = (seed & MASK, seed >> 32)
    return [w for n in range(first, first + (count + 3) // 4) for w in philox((n & MASK, n >> 32, 0, 0), key)][:count]


def long_words(seed, first, count):
    w = words(seed, first, 2 * count)
    return [w[i] | w[i + 1] << 32 for i in range(0, 2 * count, 2)]


def generator(seed):
    return pe.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MASK,) * 4, (MASK,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, expected):
    """The reference itself, by the vectors published with Random123 (kat_vectors)."""
    assert tuple(philox(counter, key)) == expected


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 0x299F31D0A4093822, 2**64 - 1])
def test_bits_of_uniform_numbers(seed):
    n = 1003
    x = pe.rand(n, generator=generator(seed))
    assert x.tolist() == [(w >> 8) * 2.0**-24 for w in words(seed, 0, n)]
    y = pe.rand(n, dtype=pe.float64, generator=generator(seed))
    assert y.tolist() == [(w >> 11) * 2.0**-53 for w in long_words(seed, 0, n)]


@pytest.mark.parametrize(("low", "high"), [(0, 2), (0, 10), (-5, 1000), (-(2**63), 2**63 - 1), (0, 2**62 + 1)])
def test_bits_of_integers(low, high):
    x = pe.randint(low, high, (501,), generator=generator(7))
    assert x.tolist() == [low + (w * (high - low) >> 64) for w in long_words(7, 0, 501)]
    assert x.dtype == pe.int64


def test_the_stream_goes_on_where_it_was():
    g = generator(3)
    first, second = pe.rand(5, generator=g), pe.rand(3, generator=g)
    assert first.tolist() == [(w >> 8) * 2.0**-24 for w in words(3, 0, 5)]
    assert second.tolist() == [(w >> 8) * 2.0**-24 for w in words(3, 2, 3)]  # 5 numbers took two counters
    assert pe.randint(0, 9, (1,), generator=g).item() == 9 * long_words(3, 3, 1)[0] >> 64


def test_late_counters():
    g = generator(5)
    state = np.array([5, 2**33 - 1], np.uint64).view(np.uint8)
    g.set_state(pe.from_numpy(state))
    assert pe.rand(9, generator=g).tolist() == [(w >> 8) * 2.0**-24 for w in words(5, 2**33 - 1, 9)]


def test_seeds_and_states():
    pe.manual_seed(11)
    a = pe.randn(100)
    pe.manual_seed(11)
    assert pe.equal(a, pe.randn(100)) and pe.initial_seed() == 11
    pe.manual_seed(12)
    assert not pe.equal(a, pe.randn(100))
    state = pe.get_rng_state()
    assert state.dtype == pe.uint8 and state.shape == (16,)
    b = [pe.rand(7), pe.randn(3, 5), pe.randint(0, 10, (4,)), pe.randperm(9), pe.rand(2, dtype=pe.float64)]
    pe.set_rng_state(state)
    c = [pe.rand(7), pe.randn(3, 5), pe.randint(0, 10, (4,)), pe.randperm(9), pe.rand(2, dtype=pe.float64)]
    assert all(pe.equal(x, y) for x, y in zip(b, c, strict=True))
    assert pe.manual_seed(-1).initial_seed() == 2**64 - 1
    assert pe.manual_seed(2**64 - 1) is not None


def test_generator_objects():
    g = pe.Generator()
    assert g.manual_seed(4) is g and g.initial_seed() == 4 and str(g.device) == "cpu"
    x = pe.rand(3, generator=g)
    other = pe.Generator()
    other.set_state(generator(4).get_state())
    assert pe.equal(pe.rand(3, generator=other), x)
    before = pe.get_rng_state()
    pe.rand(10, generator=g)
    assert pe.equal(before, pe.get_rng_state())  # the default one is left alone
    assert g.seed() == g.initial_seed() != pe.Generator().seed()
    for bad in (pe.zeros(16), pe.zeros(8, dtype=pe.uint8)):
        with pytest.raises(ValueError, match="get_state"):
            g.set_state(bad)
    with pytest.raises((TypeError, RuntimeError)):
        pe.rand(3, generator=5)


@pytest.mark.parametrize("seed", range(2))
def test_numbers_do_not_depend_on_threads(seed):
    """Nor on the memory's layout."""
    before = pe.get_num_threads()

    def draw():
        g = generator(seed)
        wide = pe.zeros(300, 1000)
        return [
            pe.rand(200_003, generator=g),
            pe.randn(100_001, generator=g),
            pe.randn(70_000, dtype=pe.float64, generator=g),
            pe.randint(0, 100, (99_999,), generator=g),
            pe.randperm(30_000, generator=g),
            pe.bernoulli(pe.full((50_000,), 0.3), generator=g),
            pe.nn.functional.dropout(pe.ones(100_000), 0.4, True) if seed else pe.zeros(1),
            wide[:, ::2].uniform_(generator=g).clone(),
            pe.zeros(500, 300).T.normal_(generator=g).contiguous(),
        ]

    try:
        results = []
        for threads in (1, 2, 3):
            pe.set_num_threads(threads)
            pe.manual_seed(0)
            results.append(draw())
    finally:
        pe.set_num_threads(before)
    for other in results[1:]:
        assert all(pe.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_layout_does_not_matter():
    dense = pe.rand(30, 40, generator=generator(1))
    assert pe.equal(pe.zeros(40, 30).T.uniform_(generator=generator(1)), dense)
    assert pe.equal(pe.zeros(30, 80)[:, ::2].uniform_(generator=generator(1)), dense)


# Distributions


def largest_deviation(sample, cdf):
    """Kolmogorov's statistic times sqrt(n): above 2.2 with a probability of 1e-4."""
    x = np.sort(np.asarray(sample, np.float64).ravel())
    n = len(x)
    f = cdf(x)
    return math.sqrt(n) * max(np.max(np.arange(1, n + 1) / n - f), np.max(f - np.arange(n) / n))


normal_cdf = np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))


@pytest.mark.parametrize("dtype", [pe.float32, pe.float64])
def test_distributions(dtype):
    g = generator(42)
    u = pe.rand(100_000, dtype=dtype, generator=g)
    assert u.min().item() >= 0 and u.max().item() < 1
    assert largest_deviation(u.numpy(), lambda v: v) < 2.2
    z = pe.randn(50_000, dtype=dtype, generator=g)
    assert largest_deviation(z.numpy(), normal_cdf) < 2.2
    assert z.isfinite().all() and 4 < z.abs().max().item() < 6.8
    pairs = z.numpy().reshape(-1, 2)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / math.sqrt(len(pairs))
    assert abs(np.corrcoef(np.abs(pairs).T)[0, 1]) < 4 / math.sqrt(len(pairs))
    v = pe.empty(20_000, dtype=dtype).uniform_(-3, 5, generator=g)
    assert v.min().item() >= -3 and v.max().item() < 5 and largest_deviation(v.numpy(), lambda t: (t + 3) / 8) < 2.2
    w = pe.empty(20_000, dtype=dtype).normal_(2, 0.5, generator=g)
    assert largest_deviation((w.numpy() - 2) / 0.5, normal_cdf) < 2.2
    assert (
        largest_deviation(pe.normal(2.0, 0.5, (20_000,), generator=g, dtype=dtype).sub(2).div(0.5).numpy(), normal_cdf)
        < 2.2
    )


def test_uniform_never_reaches_its_end():
    x = pe.empty(200_000).uniform_(1.0, 1.0000002, generator=generator(0))
    assert x.min().item() >= 1 and x.max().item() < np.float32(1.0000002)
    assert pe.empty(3).uniform_(2, 2).tolist() == [2, 2, 2]


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def test_discrete_distributions():
    g = generator(9)
    counts = np.bincount(pe.randint(0, 10, (100_000,), generator=g).numpy(), minlength=10)
    assert len(counts) == 10 and chi_square(counts, 10_000) < 34  # 9 degrees of freedom, 1e-4
    assert set(pe.randint(5, (1000,), generator=g).tolist()) == set(range(5))
    assert pe.randint(3, 7, (2, 3), dtype=pe.float32).dtype == pe.float32
    p = pe.tensor([0.0, 0.1, 0.5, 1.0]).expand(20_000, 4).contiguous()
    rates = pe.bernoulli(p, generator=g).mean(0).numpy()
    assert rates[0] == 0 and rates[3] == 1 and abs(rates[1] - 0.1) < 0.01 and abs(rates[2] - 0.5) < 0.015
    assert abs(pe.empty(50_000).bernoulli_(0.25, generator=g).mean().item() - 0.25) < 0.01
    weights = pe.tensor([1.0, 0.0, 3.0, 6.0])
    drawn = np.bincount(pe.multinomial(weights, 20_000, replacement=True, generator=g).numpy(), minlength=4)
    assert drawn[1] == 0 and chi_square(drawn[[0, 2, 3]], np.array([2000, 6000, 12000])) < 19
    rows = pe.multinomial(pe.ones(50, 6), 6, generator=g)
    assert rows.shape == (50, 6) and all(sorted(r) == list(range(6)) for r in rows.tolist())
    assert set(pe.zeros(1000, dtype=pe.int64).random_(3, 5, generator=g).tolist()) == {3, 4}


def test_permutations():
    g = generator(2)
    for n in (0, 1, 2, 1000):
        assert sorted(pe.randperm(n, generator=g).tolist()) == list(range(n))
    assert pe.randperm(5, dtype=pe.int32).dtype == pe.int32
    seen = np.zeros((4, 4))
    for _ in range(2000):
        seen[np.arange(4), pe.randperm(4, generator=g).numpy()] += 1
    assert chi_square(seen, 500) < 40  # 9 degrees of freedom


def test_dropout():
    x = pe.full((100_000,), 3.0, requires_grad=True)
    pe.manual_seed(1)
    y = pe.nn.functional.dropout(x, 0.25)
    kept = (y != 0).numpy()
    assert abs(kept.mean() - 0.75) < 0.01
    np.testing.assert_allclose(y.detach().numpy()[kept], 4.0)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.where(kept, 1 / 0.75, 0), rtol=1e-6)
    pe.manual_seed(1)
    assert pe.equal(pe.nn.functional.dropout(x, 0.25), y)
    assert pe.nn.functional.dropout(x, 0.25, training=False) is x
    assert pe.equal(pe.nn.functional.dropout(x, 0.0), x)
    assert not pe.nn.functional.dropout(x, 1.0).any()
    runs = np.diff(np.flatnonzero(np.concatenate([[True], kept[1:] != kept[:-1], [True]])))
    assert abs(len(runs) / len(kept) - 2 * 0.75 * 0.25) < 0.01  # neighbours are independent
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError):
            pe.nn.functional.dropout(x, p)


def test_two_threads_share_a_generator():
    """Every draw takes its own part of the stream."""
    g, parts = generator(6), []

    def draw():
        for _ in range(200):
            parts.append(tuple(pe.rand(4, generator=g).tolist()))

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    expected = [(w >> 8) * 2.0**-24 for w in words(6, 0, 1600)]
    assert sorted(parts) == sorted(tuple(expected[i : i + 4]) for i in range(0, 1600, 4))


def test_errors():
    for f, error in [
        (lambda: pe.randint(5, 5, (2,)), ValueError),
        (lambda: pe.randint(5, 2, (2,)), ValueError),
        (lambda: pe.empty(2).uniform_(2, 1), ValueError),
        (lambda: pe.empty(2).normal_(0, -1), ValueError),
        (lambda: pe.rand(2, dtype=pe.int64), TypeError),
        (lambda: pe.randn(2, dtype=pe.int64), TypeError),
        (lambda: pe.zeros(2, dtype=pe.int64).uniform_(), TypeError),
        (lambda: pe.randperm(-1), ValueError),
        (lambda: pe.rand(-1), ValueError),
        (lambda: pe.bernoulli(pe.ones(2, dtype=pe.int64)), TypeError),
        (lambda: pe.multinomial(pe.ones(3), 4), ValueError),
        (lambda: pe.multinomial(pe.tensor([1.0, -1.0]), 1), ValueError),
        (lambda: pe.multinomial(pe.zeros(2), 1), ValueError),
        (lambda: pe.multinomial(pe.ones(1, 1, 1), 1), ValueError),
        (lambda: pe.multinomial(pe.tensor([float("nan"), 1.0]), 1), ValueError),
    ]:
        with pytest.raises(error):
            f()
