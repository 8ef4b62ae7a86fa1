"""Every metric of the operator, by the names users build dashboards on. `app/http.py` serves REGISTRY.

Controllers and adapters import what they count; nothing here reads or decides anything.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry(auto_describe=True)

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

RECONCILE_TOTAL = Counter(
    "perennial_reconcile_total", "Passes by kind and how they ended.", ("kind", "result"), registry=REGISTRY
)
RECONCILE_SECONDS = Histogram(
    "perennial_reconcile_duration_seconds", "Duration of a pass.", ("kind",), buckets=_FAST, registry=REGISTRY
)
QUEUE_DEPTH = Gauge("perennial_queue_depth", "Keys that wait for a worker.", ("kind",), registry=REGISTRY)
QUEUE_WAIT_SECONDS = Histogram(
    "perennial_queue_wait_seconds", "Time a key waited for a worker.", ("kind",), buckets=_FAST, registry=REGISTRY
)
API_REQUESTS_TOTAL = Counter(
    "perennial_api_requests_total",
    "Requests to the Kubernetes API by verb and HTTP code (0: no answer).",
    ("verb", "code"),
    registry=REGISTRY,
)
WATCH_LAST_EVENT_SECONDS = Gauge(
    "perennial_watch_last_event_seconds", "Seconds since a watch last showed life.", ("watch",), registry=REGISTRY
)
CACHE_OBJECTS = Gauge("perennial_cache_objects", "Objects in the cache.", ("kind",), registry=REGISTRY)
EVENTS_DROPPED_TOTAL = Counter(
    "perennial_events_dropped_total", "Events not written because the API server was slow.", registry=REGISTRY
)
LEADER = Gauge("perennial_leader", "1 while this process holds the Lease.", registry=REGISTRY)

GIT_OPERATIONS_TOTAL = Counter(
    "perennial_git_operations_total", "Git operations by verb and result.", ("verb", "result"), registry=REGISTRY
)
GIT_LAST_CHECK_TIMESTAMP = Gauge(
    "perennial_git_last_check_timestamp",
    "Unix time of the last answered look at the remote.",
    ("namespace", "name"),
    registry=REGISTRY,
)
WRITE_BACK_PENDING = Gauge(
    "perennial_write_back_pending", "Write-backs not yet in Git.", ("namespace", "name"), registry=REGISTRY
)
ROLLOUT_INFO = Gauge(
    "perennial_rollout_info",
    "Canary weight in percent of each deployment (0: no canary, or one without weight yet).",
    ("namespace", "name"),
    registry=REGISTRY,
)
ROLLOUTS_TOTAL = Counter(
    "perennial_rollouts_total",
    "Rollouts by how they ended: Promoted, or the reason of the withdrawal.",
    ("namespace", "name", "outcome"),
    registry=REGISTRY,
)
TRAINING_RUNS_TOTAL = Counter(
    "perennial_training_runs_total", "Finished training runs by result.", ("namespace", "result"), registry=REGISTRY
)
DRIFT_EFFECT = Gauge(
    "perennial_drift_effect", "Largest effect in the last window.", ("namespace", "name"), registry=REGISTRY
)
RETRAINS_TOTAL = Counter(
    "perennial_retrains_total", "Retrainings started by drift or schedule.", ("namespace", "name"), registry=REGISTRY
)
