"""Handlers for backfill_client.py that call http_service.py for each row of a batch.

Each row counts how often it was changed ("hits"), and "changes" has a row for each change of
a batch.  In the environment: SERVICE_PORT; TARGET, the table; DIE, whether this process kills
itself when it has made the change of a batch, which is not completed then.
"""

import http.client
import os
import signal
import threading

import backfill_client

local = threading.local()
target, port, die = os.environ["TARGET"], int(os.environ["SERVICE_PORT"]), os.environ["DIE"] == "1"


def call(key):
    """The status that the service answers."""
    if not hasattr(local, "http"):
        local.http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    local.http.request("POST", "/%s" % key)
    response = local.http.getresponse()
    response.read()
    return response.status


def work(conn, batch):
    with conn.cursor() as cursor:
        batch.execute(cursor, "SELECT id FROM %s AS batch WHERE {condition}" % target)
        # all of them, as a program does that has sent them at the same time
        failed = [status for status in [call(key) for key, in cursor.fetchall()] if status != 200]
        if failed:
            raise backfill_client.Retry("the service answers %d" % failed[0])
        # one statement, so that it is one transaction in either mode
        rows = batch.execute(cursor, """
            WITH change AS (UPDATE %s AS batch SET hits = hits + 1 WHERE {condition} RETURNING 1),
                 note AS (INSERT INTO changes SELECT '%s', %d, clock_timestamp() RETURNING 1)
            SELECT FROM change""" % (target, target, batch.number))
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    return rows
