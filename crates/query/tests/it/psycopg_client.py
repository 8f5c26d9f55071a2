"""Checks that psycopg 3 works against the Postgres wire; run with the port as argument."""

import datetime
import sys
import threading
import time

import psycopg

dsn = f"host=127.0.0.1 port={sys.argv[1]} dbname=thalweg user=anyone"
utc = datetime.timezone.utc
first = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=utc)


def check(found, expected):
    assert found == expected, f"{found!r} != {expected!r}"


with psycopg.connect(dsn, autocommit=True) as connection:
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            # Every kind of column comes back as its Python type.
            cursor.execute(
                "SELECT event_id, timestamp, time_unix_nano, severity_number, http_status,"
                " duration_ms, level, attributes->>'user.id', 1 = 1, 1.5::float8"
                " FROM logs WHERE event_id = 'e2'"
            )
            check(
                cursor.fetchall(),
                [("e2", first + datetime.timedelta(seconds=2), 1700000002000000000, 17, 500,
                  None, "ERROR", "u7", True, 1.5)],
            )
            # Parameters: text (also against a dictionary column), integer, time, float, null.
            for sql, parameters, expected in [
                ("service = %s", ("search",), ["e3"]),
                ("event_id = %s", ("e0",), ["e0"]),
                ("http_status >= %s", (402,), ["e1", "e2"]),
                ("severity_number > %s", (13,), ["e2"]),
                ("time_unix_nano = %s", (1700000001000000000,), ["e1"]),
                ("timestamp > %s", (first + datetime.timedelta(seconds=1),), ["e2", "e3"]),
                ("attributes->>'user.id' = %s", ("u7",), ["e2"]),
                ("attributes->>%s = %s", ("user.id", "u7"), ["e2"]),
                ("message LIKE %s AND level = %s", ("card%", "WARN"), ["e1"]),
                ("duration_ms > %s", (1.5,), []),
                ("service = %s", (None,), []),
                ("service = %s", ("' OR '1' = '1",), []),
            ]:
                cursor.execute(f"SELECT event_id FROM logs WHERE {sql} ORDER BY 1", parameters)
                check([row[0] for row in cursor.fetchall()], expected)
            cursor.execute("SELECT original FROM rejected")
            check(cursor.fetchall(), [(b'{"x":1}',)])

    # A statement that is prepared on the server is run again and again.
    for number in range(20):
        row = connection.execute("SELECT %s::bigint + 1", (number,), prepare=True).fetchone()
        check(row, (number + 1,))

    # Many rows, as a stream.
    total = 0
    with connection.cursor() as cursor:
        for (value,) in cursor.stream("SELECT value FROM generate_series(1, 50000)"):
            total += value
    check(total, 50000 * 50001 // 2)

    # Errors have their SQLSTATE, and the connection goes on.
    for sql, state in [
        ("SELEC 1", "42601"),
        ("SELECT nothing FROM logs", "42000"),
        ("DELETE FROM logs", "25006"),
        ("SELECT 1 / (http_status - 500) FROM logs", "22000"),
    ]:
        try:
            connection.execute(sql).fetchall()
            raise AssertionError(sql)
        except psycopg.Error as error:
            check(error.sqlstate, state)
    check(connection.execute("SELECT 1").fetchall(), [(1,)])

    # Cancelling reaches a query before its first row.
    threading.Timer(0.5, connection.cancel).start()
    started = time.monotonic()
    try:
        connection.execute("SELECT sum(value) FROM generate_series(1, 9000000000000)")
        raise AssertionError("not cancelled")
    except psycopg.errors.QueryCanceled:
        assert time.monotonic() - started < 5

    # ... and amid its rows.
    with connection.cursor() as cursor:
        try:
            for (value,) in cursor.stream("SELECT value FROM generate_series(1, 9000000000000)"):
                if value == 1000:
                    connection.cancel()
            raise AssertionError("not cancelled")
        except psycopg.errors.QueryCanceled:
            pass
    check(connection.execute("SELECT 3").fetchone(), (3,))

# Transactions, as drivers begin them on their own.
with psycopg.connect(dsn) as connection:
    with connection.transaction():
        check(connection.execute("SELECT count(*) FROM logs").fetchone(), (4,))
    try:
        with connection.transaction():
            connection.execute("SELECT nothing FROM logs")
    except psycopg.Error:
        pass
    check(connection.execute("SELECT 2").fetchone(), (2,))

try:
    import sqlalchemy
except ImportError:
    print("SKIPPED: SQLAlchemy is not installed")
else:
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://anyone@127.0.0.1:{sys.argv[1]}/thalweg")
    with engine.connect() as connection:
        query = sqlalchemy.text("SELECT service, count(*) FROM logs WHERE level <> :level GROUP BY 1")
        check(sorted(map(tuple, connection.execute(query, {"level": "INFO"}))), [("checkout", 2), ("search", 1)])

print("all good")
