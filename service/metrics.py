"""Our Prometheus metrics, beside the framework's; right with several workers.

BentoML sets PROMETHEUS_MULTIPROC_DIR before this is imported, so counters and histograms of all
workers are summed at `/metrics`.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SEGMENTS = Counter("ecg_segments", "Segments by outcome", ["endpoint", "outcome"])
RECORDS = Counter(
    "ecg_records",
    "Records by model, quality and atrial substrate",
    ["model", "quality", "substrate"],
)
PROBABILITY = Histogram(
    "ecg_atrial_probability",
    "Atrial probability of each record that was answered",
    ["model"],
    buckets=[n / 20 for n in range(1, 20)],
)
QUALITY_REASONS = Counter("ecg_quality_reasons", "Records by what the quality gate found", ["code"])
PROBLEMS = Counter("ecg_problems", "Error answers", ["endpoint", "kind"])
READS = Counter("ecg_reads", "Bodies by format, and whether they were read", ["format", "outcome"])
BATCH_SIZE = Histogram(
    "ecg_batch_segments", "Segments a model run", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
REQUESTS = Counter("ecg_requests", "Answers", ["endpoint", "status"])
for _endpoint in ("classify", "print", "strip", "synthesize"):
    for _status in (200, 429, 500, 503):  # a rate does not see the event with which a series begins
        REQUESTS.labels(_endpoint, _status)
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
WANTED_WORKERS = Gauge(
    "ecg_wanted_workers", "Workers that the settings ask for", multiprocess_mode="livemax"
)
CUDA_OFFERED = Gauge(
    "ecg_cuda_offered",
    "1 where the settings allow CUDA and ONNX Runtime was built for it",
    multiprocess_mode="livemax",
)
WORKER_STARTS = Counter("ecg_worker_starts", "Workers started, those in place of dead ones too")
RESIDENT_BYTES = Gauge(
    "ecg_worker_resident_bytes", "Memory of each worker", multiprocess_mode="liveall"
)
OPEN_FILES = Gauge(
    "ecg_worker_open_files", "File descriptors of each worker", multiprocess_mode="liveall"
)
CPU_SECONDS = Counter("ecg_worker_cpu_seconds", "CPU time of all workers, dead ones too")
LOOP_DELAY_SECONDS = Histogram(
    "ecg_loop_delay_seconds", "By how much an event loop came late to a timer", buckets=_SECONDS
)
SPANS = Counter("ecg_trace_spans", "Spans of traces, by what became of them", ["outcome"])
