"""Reads and writes Kafka messages as any program does, with confluent-kafka.

read BROKERS TOPIC COUNT    prints one JSON object a line: what the first COUNT events of the topic are
write BROKERS TOPIC         writes events as others do: the native envelope, OTLP, and one that is damaged
make BROKERS TOPIC COUNT    makes a topic of so many partitions, or gives it more
topics BROKERS              prints the names of all topics
payments BROKERS TOPIC FIRST COUNT    writes numbered payments as JSON objects, for about a second
oddities BROKERS TOPIC      writes a tombstone, what is no JSON object, and payments -1, in a transaction
                            that is aborted, and -2, in one that is committed
"""

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


def value_of(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def otlp_events(payload):
    request = ExportLogsServiceRequest.FromString(payload)
    for resource_logs in request.resource_logs:
        resource = {a.key: value_of(a.value) for a in resource_logs.resource.attributes}
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                attributes = {a.key: value_of(a.value) for a in record.attributes}
                yield {
                    "service": resource["service.name"],
                    "message": record.body.string_value,
                    "level": record.severity_text,
                    "trace_id": record.trace_id.hex(),
                    "time_unix_nano": record.time_unix_nano,
                    "user": attributes.get("user.id"),
                    "event_id": attributes["thalweg.event_id"],
                }


def json_events(payload):
    event = json.loads(payload)
    names = ["service", "message", "level", "trace_id", "time_unix_nano", "event_id"]
    yield {name: event.get(name) for name in names} | {
        "user": json.loads(event.get("attributes", "{}")).get("user.id")
    }


def read(brokers, topic, count):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "others", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    found = 0
    while found < int(count):
        message = consumer.poll(10)
        assert message is not None, f"expected {count} events, found {found}"
        assert message.error() is None, message.error()
        if message.value() is None:
            continue
        headers = {name: value.decode() for name, value in message.headers()}
        events = otlp_events if headers["thalweg.encoding"] == "otlp_proto" else json_events
        for event in events(message.value()):
            event["key"] = message.key().decode() if message.key() else None
            event["schema"] = headers["thalweg.schema"]
            event["traceparent"] = headers.get("traceparent")
            print(json.dumps(event))
            found += 1
    consumer.close()


def write(brokers, topic):
    producer = Producer({"bootstrap.servers": brokers})
    native = {"service": "others", "level": "WARN", "message": "native", "event_id": "native-1"}
    producer.produce(topic, json.dumps(native), key="others")
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    service = resource_logs.resource.attributes.add()
    service.key, service.value.string_value = "service.name", "others"
    record = resource_logs.scope_logs.add().log_records.add()
    record.time_unix_nano, record.severity_number = 1_764_000_000_000_000_001, 17
    record.body.string_value = "otlp"
    user = record.attributes.add()
    user.key, user.value.int_value = "user.id", 42
    producer.produce(topic, request.SerializeToString())
    producer.produce(topic, b"{damaged")
    assert producer.flush(10) == 0


def make(brokers, topic, count):
    admin = AdminClient({"bootstrap.servers": brokers})
    if topic in admin.list_topics(timeout=10).topics:
        made = admin.create_partitions([NewPartitions(topic, int(count))])
    else:
        made = admin.create_topics([NewTopic(topic, int(count), 1)])
    made[topic].result(10)


def remove(brokers, topic):
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.delete_topics([topic])[topic].result(10)


def topics(brokers):
    print("\n".join(AdminClient({"bootstrap.servers": brokers}).list_topics(timeout=10).topics))


def payment(number):
    paid_at = f"2026-11-25T10:{number // 60 % 60:02}:{number % 60:02}Z"
    return json.dumps({"id": number, "amount": number / 4, "currency": "EUR", "paid_at": paid_at, "tags": [number]})


def payments(brokers, topic, first, count):
    producer = Producer({"bootstrap.servers": brokers})
    for number in range(int(first), int(first) + int(count)):
        producer.produce(topic, payment(number), key=str(number))
        producer.poll(0)
        time.sleep(1 / int(count))
    assert producer.flush(10) == 0


def oddities(brokers, topic):
    producer = Producer({"bootstrap.servers": brokers})
    producer.produce(topic, None, key="deleted")
    producer.produce(topic, b"{damaged")
    assert producer.flush(10) == 0
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": "oddities"})
    producer.init_transactions(30)
    for number, finish in [(-1, producer.abort_transaction), (-2, producer.commit_transaction)]:
        producer.begin_transaction()
        producer.produce(topic, json.dumps({"id": number}))
        producer.flush(10)
        finish(30)


if __name__ == "__main__":
    commands = [read, write, make, remove, topics, payments, oddities]
    {command.__name__: command for command in commands}[sys.argv[1]](*sys.argv[2:])
