"""Asks questions over the Postgres wire with psycopg: psycopg_queries.py PORT"""

import datetime
import sys

import psycopg

with psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=thalweg dbname=thalweg", autocommit=True) as connection:
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            cursor.execute("SELECT count(*) FROM logs WHERE service = %s", ("psycopg",))
            assert cursor.fetchone() == (3,), "count by parameter"
            cursor.execute(
                "SELECT timestamp, level, http_status, duration_ms, attributes->>'user.id' FROM logs "
                "WHERE service = %s AND http_status >= %s ORDER BY timestamp",
                ("psycopg", 500),
            )
            [(timestamp, level, status, duration, user)] = cursor.fetchall()
            assert timestamp == datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC), timestamp
            assert (level, status, duration, user) == ("ERROR", 503, 12.5, "42"), (level, status, duration, user)
    try:
        connection.execute("DELETE FROM logs")
    except psycopg.Error as error:
        assert "read" in str(error).lower(), error
    else:
        raise AssertionError("DELETE was accepted")
    assert connection.execute("SELECT count(*) FROM logs").fetchone() == (3,), "usable after an error"
print("ok")
