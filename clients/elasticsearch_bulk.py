"""Indexes documents with Elasticsearch's own client: elasticsearch_bulk.py URL"""

import sys

from elasticsearch import Elasticsearch, helpers

EVENTS = 1000


def action(number):
    return {
        "_op_type": "create",
        "_index": "orders-2026.11.25",
        "_id": f"order-{number}",
        "@timestamp": f"2026-11-25T10:00:00.{number:06}Z",
        "message": f"order {number} für 7 €\nthanks",
        "log": {"level": "error" if number % 100 == 0 else "info", "logger": "shop.orders"},
        "trace": {"id": f"{number:032x}"},
        "http": {"request": {"method": "POST"}, "response": {"status_code": 201}},
        "order": {"id": number, "paid": True, "tags": ["a", "b"]},
    }


client = Elasticsearch(sys.argv[1], http_compress=True)
assert client.ping(), "HEAD /"
assert client.info()["version"]["number"].startswith("8."), client.info()
assert client.cluster.health()["status"] == "green"

# The second time is a retry, as of a client that missed the answer.
for _ in range(2):
    stored, errors = helpers.bulk(client, map(action, range(EVENTS)), chunk_size=300)
    assert (stored, errors) == (EVENTS, []), errors

refused = [
    {"_op_type": "delete", "_index": "orders-2026.11.25", "_id": "order-1"},
    {"_op_type": "index", "_index": "orders-2026.11.25", "@timestamp": "soon", "message": "no time"},
    {"_op_type": "index", "_index": "orders-2026.11.25", "service.name": "billing", "message": "fine"},
]
stored, errors = helpers.bulk(client, refused, raise_on_error=False)
assert stored == 1, stored
kinds = [(next(iter(error)), next(iter(error.values()))["status"]) for error in errors]
assert kinds == [("delete", 400), ("index", 400)], errors
print("ok")
