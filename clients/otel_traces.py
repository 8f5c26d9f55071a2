"""Exports a trace of two services with the OpenTelemetry SDK: otel_traces.py http|grpc ENDPOINT

Prints the id of the trace.
"""

import sys

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context

protocol, endpoint = sys.argv[1:]
if protocol == "http":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = lambda: OTLPSpanExporter(endpoint=endpoint + "/v1/traces")
else:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    exporter = lambda: OTLPSpanExporter(endpoint=endpoint, insecure=True)


def provider(service):
    resource = Resource.create(
        {"service.name": service, "host.name": "box", "deployment.environment": "test", "team": "sre"}
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter()))
    return provider


checkout, payment = provider("checkout-" + protocol), provider("payment-" + protocol)
other = SpanContext(0xEE, 0xFF, is_remote=True, trace_flags=TraceFlags(1))
with checkout.get_tracer("shop", "1.2").start_as_current_span(
    "POST /checkout",
    kind=SpanKind.SERVER,
    attributes={"http.request.method": "POST", "url.path": "/checkout", "http.response.status_code": 502, "user.id": 42},
    links=[Link(other, {"why": "retry"})],
) as root:
    with payment.get_tracer("bank").start_as_current_span(
        "charge 7 € for café\nand tea", context=set_span_in_context(root), kind=SpanKind.CLIENT
    ) as span:
        span.add_event("card refused", {"tags": ["a", "b"]})
        span.set_status(Status(StatusCode.ERROR, "refused"))
    print(f"{root.get_span_context().trace_id:032x}")
checkout.shutdown()
payment.shutdown()
