"""Every Prometheus metric of the library, declared once. No label is ever a key, an event id or a partition."""

import os

os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "true")

from prometheus_client import Counter, Gauge, Histogram  # reads the variable above when imported

from eventing.plain_metrics import Counts, Distributions

_DELAYS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

HTTP_DURATION = Histogram(
    "http_server_request_duration_seconds", "Duration of HTTP requests.", ["method", "route", "status"]
)

_OPERATIONS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

SENT = Counts("messaging_client_sent_messages_total", "Records sent, by what became of them.", ["topic", "error_type"])
OPERATION_DURATION = Distributions(
    "messaging_client_operation_duration_seconds",
    "Duration of a request to the broker.",
    ["op", "topic", "error_type"],
    _OPERATIONS,
)

OUTBOX_INSERTED = Counter("outbox_inserted_total", "Events written to the outbox.", ["topic", "type"])
OUTBOX_PUBLISHED = Counter("outbox_published_total", "Events the broker acknowledged.", ["topic"])
OUTBOX_PUBLISH_ERRORS = Counter("outbox_publish_errors_total", "Sends that failed.", ["topic", "error_type"])
OUTBOX_PUBLISH_DELAY = Histogram(
    "outbox_publish_delay_seconds",
    "From the insert to the broker's acknowledgement.",
    ["topic"],
    buckets=_DELAYS,
)
OUTBOX_BATCH = Histogram("outbox_batch_events", "Events of one read.", buckets=(1, 4, 16, 64, 256, 1024, 4096))
OUTBOX_UNMARKED = Counter("outbox_acked_unmarked_total", "Acknowledged but not deleted: duplicates to expect.")
OUTBOX_PENDING = Gauge("outbox_pending_events", "Events not yet acknowledged.")
OUTBOX_OLDEST = Gauge("outbox_oldest_pending_age_seconds", "Age of the oldest of them.")
OUTBOX_BLOCKED = Gauge("outbox_blocked_keys", "Keys whose events wait for a person.")
OUTBOX_LEASED = Gauge("outbox_leased_buckets", "Buckets this relay owns.")
OUTBOX_UNOWNED = Gauge("outbox_unowned_buckets", "Buckets no relay owns.")
OUTBOX_LEASE_CHANGES = Counter("outbox_lease_changes_total", "Buckets claimed, released or lost.", ["reason"])
OUTBOX_TRANSACTION = Gauge("outbox_oldest_transaction_seconds", "Age of the oldest writing transaction.")
OUTBOX_DEAD = Gauge("outbox_table_dead_ratio", "Part of the outbox's rows that wait for a vacuum, from 0 to 1.")

CONSUMED = Counter("messaging_client_consumed_messages_total", "Records delivered by the broker.", ["topic", "group"])
EVENTS = Counts("consumer_events_total", "Events by how they ended.", ["group", "topic", "type", "outcome"])
PROCESS_DURATION = Distributions(
    "messaging_process_duration_seconds",
    "Duration of one attempt.",
    ["topic", "group", "error_type"],
    _OPERATIONS,
)
END_TO_END = Distributions(
    "event_end_to_end_delay_seconds", "From when it happened to its effect.", ["group", "type"], _DELAYS
)
LAG = Gauge("consumer_group_lag_records", "Records between the watermark and the end.", ["group", "topic"])
LAG_SECONDS = Gauge("consumer_lag_seconds", "Age of the oldest record not yet finished.", ["group", "topic"])
PROGRESS = Gauge("consumer_last_progress_timestamp_seconds", "When an event last ended.", ["group"])
INFLIGHT = Gauge("consumer_inflight_events", "Handlers under way.", ["group"])
PAUSED = Gauge("consumer_paused_partitions", "Partitions above their high water.", ["group"])
REBALANCES = Counter("consumer_rebalances_total", "Assignments received.", ["group"])
COMMIT_FAILURES = Counter("consumer_commit_failures_total", "Commits refused or lost.", ["group", "error_type"])
FENCED = Counter("consumer_fenced_commits_total", "Commits refused because the group has moved on.", ["group"])
DEAD_LETTERS = Counter("consumer_dead_letters_total", "Dead letters by why.", ["group", "topic", "disposition"])
RESTING = Gauge("consumer_blocked_lanes", "Keys that wait for the next attempt at one of their events.", ["group"])
TRIED = Gauge("consumer_highest_attempt", "Most attempts at one event that is not finished.", ["group"])
OLDEST = Gauge("consumer_oldest_inflight_seconds", "How long the oldest handler under way has run.", ["group"])
LOOP_LAG = Gauge("consumer_event_loop_lag_seconds", "How late the event loop came round for a timer.", ["group"])
SCHEMA_FAILURES = Counter("event_schema_failures_total", "Events that break their contract.", ["type"])
DRAIN = Histogram("consumer_revoke_drain_seconds", "How long a rebalance waited for handlers.", ["group"])
LOST_RANGE = Counter("consumer_lost_records_total", "Offsets that expired before they were read.", ["group", "topic"])

CACHE_INVALIDATIONS = Counter("cache_invalidations_total", "Invalidations by outcome.", ["outcome"])
EMAILS = Counter("email_sends_total", "Mails by what became of them.", ["template", "outcome"])
EMAILS_AMBIGUOUS = Gauge("email_ambiguous_open", "Mails that may or may not have been sent.")

SPANS_DROPPED = Counter("otel_spans_dropped_total", "Spans that did not reach the collector.")
