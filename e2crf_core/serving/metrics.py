"""Define the Prometheus metrics of one queue."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.01, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
"""The upper limits of the buckets for every duration."""


class Metrics:
    """The counters, gauges, and histograms of a queue, in a separate registry.

    `longest_wait` returns the seconds for which the oldest waiting request has waited.
    """

    def __init__(self, longest_wait: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("e2crf_requests", "Requests by outcome", ["outcome"], registry=self.registry)
        self.samples = Counter("e2crf_samples", "Samples delivered", registry=self.registry)
        self.steps = Counter(
            "e2crf_sample_steps", "Solver steps taken, counted for every sample", registry=self.registry
        )
        self.tokens = Counter("e2crf_tokens_recomputed", "Tokens recomputed", registry=self.registry)
        self.held = Gauge("e2crf_queue_jobs", "Requests that wait or run", registry=self.registry)
        self.batches = Gauge("e2crf_batches", "Batches that take turns", registry=self.registry)
        Gauge(
            "e2crf_queue_longest_seconds",
            "Time for which the oldest request has waited for its first step",
            registry=self.registry,
        ).set_function(longest_wait)
        self.queue_seconds = Histogram(
            "e2crf_queue_seconds",
            "Time until a request's first step",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.run_seconds = Histogram(
            "e2crf_run_seconds", "Compute time of a batch", buckets=SECONDS, registry=self.registry
        )
        self.batch = Histogram(
            "e2crf_batch_samples",
            "Samples in a batch",
            buckets=tuple(float(2**k) for k in range(11)),
            registry=self.registry,
        )
