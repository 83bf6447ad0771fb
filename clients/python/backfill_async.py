#!/usr/bin/python3
"""Work on a run of backfill from one thread, with asyncio and python3-psycopg (psycopg 3).

    status = await backfill_async.Client("dbname=app", handle, name="mail", workers=50).run()

handle(conn, batch) is a coroutine that does the rows of a batch, and returns how many it
did, or None: calls of a service, many at a time, are what this is for.  As in
backfill_client.py it is called in a transaction that completes the batch, too ("exactly
once"), and with apart=True in none ("at least once").  See doc/clients/asyncio.md.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import time

import psycopg

CLAIM = """SELECT number, part, start_key, end_key, condition, rows, token,
                  extract(epoch FROM retry_after)::float8, reason, done
             FROM backfill_claim(%s::bigint, %s::text, %s::text)"""
EXTEND = "SELECT backfill_extend(%s::bigint, %s::bigint, %s::int, %s::text)"
COMPLETE = "SELECT backfill_complete(%s::bigint, %s::bigint, %s::int, %s::text, %s::bigint)"
FAIL = "SELECT backfill_fail(%s::bigint, %s::bigint, %s::int, %s::text, %s::text, %s::text, %s::bool, %s::text[])"
NEWEST = "SELECT max(id) FROM backfill_runs WHERE name = %s"

NOT_OURS = "UB006"      # the batch is somebody else's by now
READ_ONLY = "25006"     # the server is a standby
LOST = "08006"          # what is reported when the connection was lost
MOST_WAIT = 30          # seconds after which to ask again, whatever the server said

log = logging.getLogger("backfill")


class Retry(Exception):
    """For handlers: try the batch again later, such as when a service is down."""
    retryable = True


class BadRow(Exception):
    """For handlers: the row with this key has failed, the others of the batch have not."""
    retryable = False

    def __init__(self, key, message):
        super().__init__(message)
        self.key = [str(k) for k in (key if isinstance(key, (list, tuple)) else [key])]


class Stopped(Exception):
    """Told to stop while waiting for the server."""


class Batch:
    """A batch in hand.  "lost" says that it is known to be somebody else's by now."""

    def __init__(self, run, number, part, start_key, end_key, condition, rows, token):
        self.start_key, self.end_key, self.condition, self.rows = start_key, end_key, condition, rows
        self.number, self.who, self.lost = number, (run, number, part, token), False

    async def execute(self, conn, sql, arguments=None):
        """Execute SQL with the condition of the batch for {condition}; returns the cursor."""
        # With arguments, a per cent sign is the driver's.
        condition = self.condition if arguments is None else self.condition.replace("%", "%%")
        return await conn.execute(sql.replace("{condition}", condition), arguments)


def may_pass(error):
    """Whether an error is none of our call: the connection, a shutdown, a deadlock."""
    return (isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
            or error.sqlstate == READ_ONLY)


async def wait(event, seconds):
    """Wait so long at most; returns whether it has happened."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        pass
    return event.is_set()


class Link:
    """A connection that is made when it is needed, and again when it was lost."""

    def __init__(self, dsn, ended, give_up):
        self.dsn, self.ended, self.give_up = dsn, ended, give_up
        self.conn = None

    async def use(self, work, transaction=False):
        """What work(conn) returns: in a transaction when it is committed, otherwise each statement is."""
        if self.conn is None:
            self.conn = await self.reach()
        conn = self.conn
        try:
            async with conn.transaction() if transaction else contextlib.nullcontext():
                return await work(conn)
        except BaseException as error:
            if conn.closed or getattr(error, "sqlstate", None) == READ_ONLY:
                await self.close()
            raise

    async def query(self, sql, arguments):
        async def work(conn):
            return await (await conn.execute(sql, arguments)).fetchone()
        return await self.use(work)

    async def reach(self):
        until, pause = time.monotonic() + self.give_up, 0.1
        while True:
            try:
                return await connect(self.dsn)
            except psycopg.OperationalError as error:
                if time.monotonic() > until:
                    raise
                log.warning("cannot connect, trying again: %s", str(error).strip())
            if await wait(self.ended, pause * random.uniform(0.5, 1)):
                raise Stopped
            pause = min(pause * 2, 5)

    async def close(self):
        conn, self.conn = self.conn, None
        if conn is not None:
            await conn.close()


async def connect(dsn):
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, fallback_application_name="backfill client")


class Client:
    """Works on one run until it is over, or stop() is called.

    lease is in seconds, or "session"; give_up is for how many seconds the server may be away.
    """

    def __init__(self, dsn, handler, run=None, name=None, workers=1, lease=60, apart=False,
                 worker=None, give_up=300):
        self.dsn, self.handler, self.run_id, self.name, self.workers = dsn, handler, run, name, workers
        self.lease, self.apart, self.give_up = lease, apart, give_up
        self.worker = worker or "%s:%d" % (socket.gethostname()[:40], os.getpid())
        self.in_hand, self.status = [], None

    def stop(self):
        """Claim no more.  What is in hand is finished."""
        self.stopping.set()

    def on_signal(self, number):
        log.info("stopping after the batches in hand")
        asyncio.get_running_loop().remove_signal_handler(number)    # the same signal again ends the process
        self.stop()

    async def run(self):
        """Returns the status in which the run has ended, or None if stop() or a signal ended this."""
        self.stopping, self.finished = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.on_signal, number)
        async with await connect(self.dsn) as conn:     # what is wrong with this one, is wrong for good
            if self.run_id is None:
                self.run_id = (await (await conn.execute(NEWEST, (self.name,))).fetchone())[0]
        if self.run_id is None:
            raise LookupError('no run of "%s" is to be seen' % self.name)
        heart = asyncio.create_task(self.task(self.beat, self.finished))
        hands = [asyncio.create_task(self.task(self.work, self.stopping, "%s/%d" % (self.worker, n + 1)))
                 for n in range(self.workers)]
        results = await asyncio.gather(*hands, return_exceptions=True)
        self.finished.set()
        for error in [*results, *await asyncio.gather(heart, return_exceptions=True)]:
            if error is not None:
                raise error
        return self.status

    async def task(self, body, ended, *arguments):
        """A task with a connection of its own: an error in it ends all of them."""
        link = Link(self.dsn, ended, self.give_up)
        try:
            await body(link, *arguments)
        except Stopped:
            pass
        except BaseException:
            self.stopping.set()
            raise
        finally:
            await link.close()

    async def work(self, link, worker):
        """The loop of a worker."""
        lease = "session" if self.lease == "session" else "%s s" % self.lease
        while not self.stopping.is_set():
            try:
                row = await link.query(CLAIM, (self.run_id, worker, lease))
            except psycopg.Error as error:
                if not may_pass(error):
                    raise
                log.warning("cannot claim, trying again: %s", str(error).strip())
                await wait(self.stopping, 0.1)
                continue
            pause, reason, done = row[7:]
            if done:
                self.status = reason
                return
            if pause is None:
                await self.do(link, Batch(self.run_id, *row[:7]))
            else:
                await wait(self.stopping, min(pause, MOST_WAIT))

    async def do(self, link, batch):
        """Do a batch, and say what became of it."""
        self.in_hand.append(batch)
        try:
            rows = await link.use(lambda conn: self.handle(conn, batch), transaction=not self.apart)
        except Exception as error:
            self.in_hand.remove(batch)
            await self.failed(link, batch, error)
        else:
            self.in_hand.remove(batch)
            if self.apart:
                await self.report(link, COMPLETE, (*batch.who, rows))

    async def handle(self, conn, batch):
        rows = await self.handler(conn, batch)
        if not self.apart:
            await conn.execute(COMPLETE, (*batch.who, rows))
        return rows

    async def failed(self, link, batch, error):
        """What the server has to know: by the SQLSTATE it judges what may go away by itself."""
        lost = link.conn is None
        sqlstate = LOST if lost else getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None)
        message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error).strip()
        if sqlstate == NOT_OURS:
            log.warning("batch %d is not ours any more: rolled back", batch.number)
            return
        log.warning("batch %d has failed: %s", batch.number, message)
        await self.report(link, FAIL, (*batch.who, message or type(error).__name__, sqlstate,
                                       True if lost else getattr(error, "retryable", None), getattr(error, "key", None)))

    async def report(self, link, sql, arguments):
        """Say what became of a batch, again if need be: at most until its lease has run out."""
        while True:
            try:
                await link.query(sql, arguments)
                return
            except psycopg.Error as error:
                if error.sqlstate == NOT_OURS:
                    return
                if not may_pass(error):
                    raise
                await asyncio.sleep(0.1)

    async def beat(self, link):
        """Extend the leases of what is in hand, in a session of its own: the others are busy."""
        while self.lease != "session" and not await wait(self.finished, self.lease / 3):
            for batch in [batch for batch in self.in_hand if not batch.lost]:
                try:
                    await link.query(EXTEND, batch.who)
                except psycopg.Error as error:
                    batch.lost = error.sqlstate == NOT_OURS
                    if not batch.lost and not may_pass(error):
                        raise
