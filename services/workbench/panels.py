"""What the dashboards show, in the order of the flow: rows of panels, each a few queries under their legends."""

from dataclasses import dataclass

WINDOW = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """One picture: `queries` by legend; `examples` when its buckets lead to traces."""

    title: str
    unit: str
    queries: dict[str, str]
    examples: bool = False


def _quantiles(metric: str, by: str, legend: str) -> dict[str, str]:
    return {
        f"{legend} p{quantile * 100:g}": f"histogram_quantile({quantile}, sum by (le, {by}) (rate({metric}_bucket[{WINDOW}])))"
        for quantile in (0.5, 0.95, 0.99)
    }


def _rate(metric: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (rate({metric}[{WINDOW}]))"


BOARDS: dict[str, dict[str, list[Panel]]] = {
    "Event flow": {
        "In and out": [
            Panel("Events a second", "ops", {
                "written to {{topic}}": _rate("outbox_inserted_total", "topic"),
                "published to {{topic}}": _rate("outbox_published_total", "topic"),
                "handled by {{group}}": _rate('consumer_events_total{outcome!="retried"}', "group"),
            }),
            Panel("HTTP requests a second", "reqps", {
                "{{method}} {{route}} {{status}}": _rate("http_server_request_duration_seconds_count", "method", "route", "status"),
            }),
        ],
        "Where the time goes": [
            Panel("Outbox: from the insert to the acknowledgement", "s", _quantiles("outbox_publish_delay_seconds", "topic", "{{topic}}")),
            Panel("Handler", "s", _quantiles("messaging_process_duration_seconds", "group", "{{group}}"), examples=True),
            Panel("All of it: from when it happened to its effect", "s", _quantiles("event_end_to_end_delay_seconds", "group", "{{group}}"), examples=True),
        ],
        "Objectives": [
            Panel("Later than 30 s (objective: below 0.5 %)", "percentunit", {
                "{{group}}": f'1 - sum by (group) (rate(event_end_to_end_delay_seconds_bucket{{le="30.0"}}[{WINDOW}])) / sum by (group) (rate(event_end_to_end_delay_seconds_count[{WINDOW}]))',
            }),
            Panel("Given up (objective: below 0.1 %)", "percentunit", {
                "{{group}}": f'sum by (group) (rate(consumer_events_total{{outcome="dead_lettered"}}[{WINDOW}])) / sum by (group) (rate(consumer_events_total{{outcome!="retried"}}[{WINDOW}]))',
            }),
        ],
    },
    "Outbox": {
        "What waits": [
            Panel("Events that wait", "short", {"{{job}}": "max by (job) (outbox_pending_events)"}),
            Panel("Age of the oldest", "s", {"{{job}}": "max by (job) (outbox_oldest_pending_age_seconds)"}),
            Panel("Keys that wait for a person", "short", {"{{job}}": "max by (job) (outbox_blocked_keys)"}),
        ],
        "What leaves": [
            Panel("Published a second", "ops", {"{{topic}}": _rate("outbox_published_total", "topic")}),
            Panel("Events of one read", "short", {"mean": f"rate(outbox_batch_events_sum[{WINDOW}]) / rate(outbox_batch_events_count[{WINDOW}])"}),
            Panel("Requests to the broker", "s", _quantiles("messaging_client_operation_duration_seconds", "op", "{{op}}")),
        ],
        "Leases and the table": [
            Panel("Buckets", "short", {
                "owned by {{instance}}": "sum by (instance) (outbox_leased_buckets)",
                "without a relay": "min(outbox_unowned_buckets)",
            }),
            Panel("Oldest writing transaction", "s", {"{{job}}": "max by (job) (outbox_oldest_transaction_seconds)"}),
            Panel("Dead rows", "percentunit", {"{{job}}": "max by (job) (outbox_table_dead_ratio)"}),
        ],
    },
    "Consumers": {
        "What became of events": [
            Panel("Outcomes a second", "ops", {"{{group}} {{outcome}}": _rate("consumer_events_total", "group", "outcome")}),
            Panel("Handler", "s", _quantiles("messaging_process_duration_seconds", "group", "{{group}}"), examples=True),
            Panel("Attempts that failed", "ops", {"{{group}} {{error_type}}": _rate('messaging_process_duration_seconds_count{error_type!=""}', "group", "error_type")}),
        ],
        "How far behind": [
            Panel("Age of the oldest event not finished", "s", {"{{group}} {{topic}}": "max by (group, topic) (consumer_lag_seconds)"}),
            Panel("Records before the end", "short", {"{{group}} {{topic}}": "sum by (group, topic) (consumer_group_lag_records)"}),
            Panel("Since something was finished", "s", {"{{group}}": "time() - max by (group) (consumer_last_progress_timestamp_seconds)"}),
        ],
        "Inside": [
            Panel("Handlers under way", "short", {"{{group}}": "sum by (group) (consumer_inflight_events)"}),
            Panel("Keys between two attempts", "short", {"{{group}}": "sum by (group) (consumer_blocked_lanes)"}),
            Panel("Assignments", "short", {"{{group}}": "sum by (group) (increase(consumer_rebalances_total[10m]))"}),
            Panel("How late the event loop is", "s", {"{{instance}}": "max by (instance) (consumer_event_loop_lag_seconds)"}),
        ],
    },
    "Dead letters and mail": {
        "Given up": [
            Panel("Dead letters a second", "ops", {"{{group}} {{topic}} {{disposition}}": _rate("consumer_dead_letters_total", "group", "topic", "disposition")}),
            Panel("Most attempts at one event", "short", {"{{group}}": "max by (group) (consumer_highest_attempt)"}),
        ],
        "Effects": [
            Panel("Mails a second", "ops", {"{{template}} {{outcome}}": _rate("email_sends_total", "template", "outcome")}),
            Panel("Mails in doubt", "short", {"{{job}}": "max by (job) (email_ambiguous_open)"}),
            Panel("Cache invalidations a second", "ops", {"{{outcome}}": _rate("cache_invalidations_total", "outcome")}),
            Panel("Spans that reached nobody", "ops", {"{{job}}": _rate("otel_spans_dropped_total", "job")}),
        ],
    },
}  # fmt: skip
