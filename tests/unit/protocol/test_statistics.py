"""Figures of requests: histograms of durations, and what is counted by command."""

import random

import pytest

from kvs.adapters.inbound.protocol.statistics import Statistics
from kvs.ports.histogram import BUCKETS, MAX_NS, Histogram, bucket_of, end_of
from tests.support.seeds import SEED


class TestHistogram:
    """Durations in buckets."""

    def test_buckets_follow_each_other(self) -> None:
        assert [bucket_of(end_of(bucket) - 1) for bucket in range(BUCKETS)] == list(range(BUCKETS))
        assert [bucket_of(end_of(bucket)) for bucket in range(BUCKETS - 1)] == list(range(1, BUCKETS))
        assert end_of(BUCKETS - 1) == MAX_NS + 1

    def test_quantile_is_at_most_an_eighth_too_high(self) -> None:
        generator = random.Random(SEED)
        durations = sorted(int(2 ** generator.uniform(0, 39)) for _ in range(1000))
        histogram = Histogram()
        for duration_ns in durations:
            histogram.add(bucket_of(duration_ns), 1)
        for share, found in zip((0.5, 0.99, 0.999), histogram.quantiles_ns([0.5, 0.99, 0.999]), strict=True):
            true = durations[int(share * 1000) - 1]
            assert true <= found <= true * 9 / 8

    def test_quantile_counts_what_is_added_together(self) -> None:
        histogram = Histogram()
        histogram.add(bucket_of(1000), 98)
        histogram.add(bucket_of(1_000_000), 2)
        half, most, all_of_them = histogram.quantiles_ns([0.5, 0.98, 0.99])
        assert 1000 <= half == most < 1125
        assert all_of_them >= 1_000_000

    def test_empty_one_has_quantiles_of_0(self) -> None:
        histogram = Histogram()
        assert histogram.quantiles_ns([0.5, 0.99]) == [0, 0]
        histogram.add(bucket_of(5), 1)
        histogram.clear()
        assert histogram.quantiles_ns([0.5]) == [0]

    @pytest.mark.parametrize("duration_ns", [-1, 0, MAX_NS, MAX_NS + 1, 1 << 60])
    def test_any_duration_is_counted(self, duration_ns: int) -> None:
        histogram = Histogram()
        histogram.add(bucket_of(duration_ns), 1)
        assert histogram.quantiles_ns([1.0]) == [max(0, min(duration_ns, MAX_NS))]

    def test_powers_of_two_bound_what_is_below(self) -> None:
        histogram = Histogram()
        for duration_ns in (1023, 1024, 2047, 2048):
            histogram.add(bucket_of(duration_ns), 1)
        assert [histogram.below_ns(1 << power) for power in range(9, 13)] == [0, 1, 3, 4]


class TestStatistics:
    """Calls and errors."""

    def test_name_is_the_same_in_any_case(self) -> None:
        statistics = Statistics(lambda: 0.0)
        statistics.ran(b"GET", 1000, b"")
        statistics.ran(b"get", 3000, b"ERR")
        statistics.refused(b"Get", b"ERR")
        statistics.refused(b"", b"UNKNOWN")
        ((name, figures),) = statistics.by_name().items()
        assert (name, figures.calls, figures.total_ns) == (b"get", 2, 4000)
        assert (figures.failed, figures.refused) == (1, 1)
        assert statistics.errors == {b"ERR": 2, b"UNKNOWN": 1}
        assert statistics.calls() == 2

    def test_rate_is_that_between_two_samples(self) -> None:
        statistics = Statistics(lambda: 0.0)
        for now_s, calls, rate in ((10.0, 5, 0.0), (12.0, 8, 4.0), (12.25, 1, 4.0), (12.5, 0, 2.0)):
            for _ in range(calls):
                statistics.ran(b"get", 1, b"")
            statistics.sample(now_s)
            assert statistics.commands_per_s == rate

    def test_reset_counts_from_0(self) -> None:
        statistics = Statistics(lambda: 0.0)
        figures = statistics.of(b"get")
        statistics.ran(b"get", 1, b"ERR")
        statistics.sample(1.0)
        statistics.reset()
        assert (statistics.by_name(), statistics.errors) == ({}, {})
        figures.add(3, 1, bucket_of(1))  # by the fast path, which has held them since before
        assert statistics.calls() == 3
        statistics.sample(2.0)
        assert statistics.commands_per_s == 0

    def test_workers_count_every_call(self) -> None:
        from threading import Thread  # noqa: PLC0415

        statistics = Statistics(lambda: 0.0)
        statistics.use_workers()

        def work() -> None:
            for _ in range(2000):
                statistics.ran(b"get", 1, b"ERR")

        threads = [Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statistics.calls() == statistics.errors[b"ERR"] == 8000
