"""Sends to Splunk's HTTP Event Collector, with acknowledgements: splunk_hec.py URL"""

import json
import logging
import sys
import urllib.parse

import requests
from splunk_handler import SplunkHandler

collector = sys.argv[1] + "/services/collector"
session = requests.Session()
session.headers = {"Authorization": "Splunk 00000000-0000-0000-0000-000000000000"}
channel = {"X-Splunk-Request-Channel": "11111111-2222-3333-4444-555555555555"}


def post(path, expected, **request):
    answer = session.post(collector + path, timeout=10, **request)
    assert answer.status_code == expected, answer.text
    return answer.json()


health = session.get(collector + "/health", timeout=10).json()
assert health == {"text": "HEC is healthy", "code": 17}, health

events = [
    {"time": 1764064800.123, "host": "h1", "sourcetype": "shop:order", "event": "ordered für 7 €\nthanks"},
    {"time": "1764064801.123456789", "source": "app", "sourcetype": "shop:order",
     "event": {"message": "refused", "level": "error", "user": {"id": 42}}, "fields": {"region": "eu"}},
]
answer = post("/event", 200, data="".join(map(json.dumps, events)), headers=channel)
assert answer == {"text": "Success", "code": 0, "ackId": 0}, answer
answer = post("/raw?sourcetype=shop:raw&host=h2", 200, data="WARN line one\nline two\n", headers=channel)
assert answer["ackId"] == 1, answer
acks = post("/ack", 200, json={"acks": [0, 1, 2]}, headers=channel)
assert acks == {"acks": {"0": True, "1": True, "2": False}}, acks

answer = post("/event", 400, data='{"event": "kept"}{"time": 1}')
assert (answer["code"], answer["invalid-event-number"]) == (12, 1), answer
assert post("/event", 400, data="")["code"] == 5

url = urllib.parse.urlsplit(sys.argv[1])
handler = SplunkHandler(
    host=url.hostname, port=url.port, protocol="http", token="t", index="main", sourcetype="shop:handler",
    retry_count=0, flush_interval=0.1, verify=False,
)
logger = logging.getLogger("shop")
logger.addHandler(handler)
logger.error("from the handler")
handler.shutdown()
print("ok")
