"""Exports log records with the OpenTelemetry SDK: otel_logs.py http|grpc ENDPOINT TRACE_ID"""

import logging
import sys

from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

protocol, endpoint, trace_id = sys.argv[1:]
if protocol == "http":
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(endpoint=endpoint + "/v1/logs")
else:
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(endpoint=endpoint, insecure=True)

resource = Resource.create(
    {"service.name": "otel-" + protocol, "host.name": "box", "deployment.environment": "test", "team": "sre"}
)
provider = LoggerProvider(resource=resource)
set_logger_provider(provider)
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
logger = logging.getLogger("shop.payment")
logger.setLevel(logging.DEBUG)
logger.addHandler(LoggingHandler(level=logging.DEBUG, logger_provider=provider))

context = SpanContext(int(trace_id, 16), 0x0102030405060708, is_remote=False, trace_flags=TraceFlags(1))
with use_span(NonRecordingSpan(context)):
    logger.info(
        "charged %s", "7 € for café\nand tea", extra={"http.request.method": "POST", "http.response.status_code": 201}
    )
    logger.error("card refused", extra={"user.id": 42, "amount": 7.5, "tags": ["a", "b"]})
logger.warning("outside of any trace")
provider.shutdown()
