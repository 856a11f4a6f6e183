"""Our Prometheus metrics, beside the framework's; right with several workers.

BentoML sets PROMETHEUS_MULTIPROC_DIR before this is imported, so counters and histograms of all
workers are summed at `/metrics`.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SEGMENTS = Counter("ecg_segments", "Segments by outcome", ["endpoint", "outcome"])
RECORDS = Counter("ecg_records", "Records by quality", ["quality"])
QUALITY_REASONS = Counter("ecg_quality_reasons", "Records by what the quality gate found", ["code"])
PROBLEMS = Counter("ecg_problems", "Error answers", ["endpoint", "kind"])
BATCH_SIZE = Histogram(
    "ecg_batch_segments", "Segments a model run", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
REQUESTS = Counter("ecg_requests", "Answers", ["endpoint", "status"])
REQUEST_SECONDS = Histogram(
    "ecg_request_seconds", "From a request's arrival to its answer", ["endpoint"], buckets=_SECONDS
)
QUEUE_SECONDS = Histogram(
    "ecg_queue_seconds", "From a segment's arrival to its model run", ["model"], buckets=_SECONDS
)
INFERENCE_SECONDS = Histogram(
    "ecg_inference_seconds", "A model run, conditioning included", ["model"], buckets=_SECONDS
)
QUEUED = Gauge(
    "ecg_queued_segments", "Segments waiting now", ["model"], multiprocess_mode="livesum"
)
MODEL = Gauge(
    "ecg_model_workers",
    "Workers that serve this model",
    ["model", "version", "sha256", "device"],
    multiprocess_mode="livesum",
)
AUDIT_ROWS = Counter(
    "ecg_audit_rows",
    "Rows of the audit: committed, spooled, refused for want of both; and refusals that are summed",
    ["way"],
)
AUDIT_SECONDS = Histogram("ecg_audit_seconds", "A commit of what waited", buckets=_SECONDS)
AUDIT_SPOOLED_WAITING = Gauge(
    "ecg_audit_spooled_waiting", "Rows not yet drained", multiprocess_mode="livesum"
)
AUDIT_HEAD = Gauge("ecg_audit_head", "The chain's last row", multiprocess_mode="livemax")
AUDIT_AWAY = Gauge("ecg_audit_away", "1 while the database is away", multiprocess_mode="livemax")
