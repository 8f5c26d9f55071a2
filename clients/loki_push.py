"""Logs to Loki with python-logging-loki and with plain pushes: loki_push.py URL"""

import logging
import sys

import logging_loki
import requests

push = sys.argv[1] + "/loki/api/v1/push"


class Handler(logging_loki.LokiHandler):
    def handleError(self, record):
        raise


logger = logging.getLogger("shop.cart")
logger.setLevel(logging.DEBUG)
logger.addHandler(Handler(url=push, tags={"app": "cart", "zone": "eu"}, version="1"))
logger.info("added %s\nto the cart", "café")
logger.error("cart is full", extra={"tags": {"user": "7"}})

trace_id = "2af7651916cd43dd8448eb211c80319e"
stream = {
    "stream": {"service_name": "agent", "level": "warn"},
    "values": [
        ["1764064800000000001", "first", {"trace_id": trace_id, "pod": "p-1"}],
        ["1764064800000000002", ""],
    ],
}
answer = requests.post(push, json={"streams": [stream]}, headers={"X-Scope-OrgID": "team-a"}, timeout=10)
assert (answer.status_code, answer.text) == (204, ""), answer.text

stream["values"] = [["soon", "bad"], ["1764064800000000003", "third"]]
answer = requests.post(push, json={"streams": [stream]}, timeout=10)
assert answer.status_code == 400 and "timestamp: expected" in answer.text, answer.text
assert requests.get(sys.argv[1] + "/ready", timeout=10).text == "ready\n"
print("ok")
