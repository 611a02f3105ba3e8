"""Names of span attributes, in one table: OpenTelemetry semantic conventions for messaging (development).

Version 1.44 by default; `OTEL_SEMCONV_STABILITY_OPT_IN=messaging` asks for the names of 1.45. `app.*` are our own.
Nothing outside this module spells an attribute; `observability/conventions.yaml` says what each means.
"""

import os

NEWER = "messaging" in os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").replace(" ", "").split(",")

SYSTEM = "messaging.system.name" if NEWER else "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
GROUP = "messaging.consumer.group.name"
MESSAGE_ID = "messaging.message.id"
CONVERSATION_ID = "messaging.message.conversation_id"
BATCH_COUNT = "messaging.batch.message_count"
OFFSET = "kafka.offset" if NEWER else "messaging.kafka.offset"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

EVENT_ID = "cloudevents.event_id"
EVENT_SOURCE = "cloudevents.event_source"
EVENT_TYPE = "cloudevents.event_type"

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"

ATTEMPT = "app.delivery.attempt"
OUTBOX_DELAY = "app.outbox.delay_ms"
BROKER_DELAY = "app.broker.delay_ms"
DUPLICATE = "app.inbox.duplicate"
LINK_TYPE = "app.link.type"
REDRIVE_ID = "app.redrive.id"
REDRIVE_COUNT = "app.redrive.count"
EFFECT = "app.effect"
MAIL_TEMPLATE = "app.mail.template"
