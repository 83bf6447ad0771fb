#!/usr/bin/python3
"""Work on a run of backfill from outside of the server, with python3-psycopg2.

    python3 backfill_client.py --run 7 --workers 4 \\
        --sql "UPDATE contact AS batch SET n = n + 1 WHERE {condition}"
    python3 backfill_client.py --name mail --apart mails:send

or, in a program:

    status = backfill_client.Client("dbname=app", handle, name="mail", workers=4).run()

handle(conn, batch) does the rows of a batch, and returns how many it did, or None.  It is
called in a transaction that completes the batch, too, which makes "exactly once"; with
apart=True in none, which makes "at least once".  See doc/clients/python.md.
"""

import argparse
import contextlib
import importlib
import logging
import os
import random
import signal
import socket
import sys
import threading
import time

import psycopg2

CLAIM = """SELECT number, part, start_key, end_key, condition, rows, token,
                  extract(epoch FROM retry_after)::float8, reason, done
             FROM backfill_claim(%s, %s, %s::text)"""
EXTEND = "SELECT backfill_extend(%s, %s, %s, %s)"
COMPLETE = "SELECT backfill_complete(%s, %s, %s, %s, %s::bigint)"
FAIL = "SELECT backfill_fail(%s, %s, %s, %s, %s, %s, %s, %s::text[])"
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

    def execute(self, cursor, sql, arguments=None):
        """Execute SQL with the condition of the batch for {condition}; returns the number of rows."""
        # With arguments, a per cent sign is the driver's.
        condition = self.condition if arguments is None else self.condition.replace("%", "%%")
        cursor.execute(sql.replace("{condition}", condition), arguments)
        return cursor.rowcount


def one_row(conn, sql, arguments):
    with conn.cursor() as cursor:
        cursor.execute(sql, arguments)
        return cursor.fetchone()


def may_pass(error):
    """Whether an error is none of our call: the connection, a shutdown, a deadlock."""
    return (isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
            or error.pgcode == READ_ONLY)


class Link:
    """A connection that is made when it is needed, and again when it was lost."""

    def __init__(self, connect, ended, give_up):
        self.connect, self.ended, self.give_up = connect, ended, give_up
        self.conn = None

    def use(self, work, transaction=False):
        """What work(conn) returns: in a transaction when it is committed, otherwise each statement is."""
        if self.conn is None:
            self.conn = self.reach()
            self.conn.autocommit = True
        try:
            with self.conn if transaction else contextlib.nullcontext():
                return work(self.conn)
        except BaseException as error:
            if self.conn.closed or getattr(error, "pgcode", None) == READ_ONLY:
                self.close()
            raise

    def query(self, sql, arguments):
        return self.use(lambda conn: one_row(conn, sql, arguments))

    def reach(self):
        until, pause = time.monotonic() + self.give_up, 0.1
        while True:
            try:
                return self.connect()
            except psycopg2.OperationalError as error:
                if time.monotonic() > until:
                    raise
                log.warning("cannot connect, trying again: %s", str(error).strip())
            if self.ended.wait(pause * random.uniform(0.5, 1)):
                raise Stopped
            pause = min(pause * 2, 5)

    def close(self):
        if self.conn is not None:
            self.conn.close()
        self.conn = None


class Client:
    """Works on one run until it is over, or stop() is called.

    connect is a DSN, or a function that returns a new connection; handler(conn, batch) is
    called for each batch; lease is in seconds, or "session"; give_up is for how many seconds
    the server may be away.
    """

    def __init__(self, connect, handler, run=None, name=None, workers=1, lease=60, apart=False,
                 worker=None, give_up=300):
        self.connect = connect if callable(connect) else lambda: psycopg2.connect(
            connect, fallback_application_name="backfill client")
        self.handler, self.run_id, self.name, self.workers = handler, run, name, workers
        self.lease, self.apart, self.give_up = lease, apart, give_up
        self.worker = worker or "%s:%d" % (socket.gethostname()[:40], os.getpid())
        self.stopping, self.finished = threading.Event(), threading.Event()
        self.in_hand, self.status, self.error = [], None, None

    def stop(self):
        """Claim no more.  What is in hand is finished."""
        self.stopping.set()

    def on_signal(self, number, _):
        log.info("stopping after the batches in hand")
        signal.signal(number, signal.SIG_DFL)       # the same signal again ends the process
        self.stop()

    def run(self):
        """Returns the status in which the run has ended, or None if stop() ended this."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.on_signal)
        conn = self.connect()       # what is wrong with this one, is wrong for good
        if self.run_id is None:
            self.run_id = one_row(conn, NEWEST, (self.name,))[0]
        conn.close()
        if self.run_id is None:
            raise LookupError('no run of "%s" is to be seen' % self.name)
        hands = [threading.Thread(target=self.thread, args=(self.work, self.stopping, "%s/%d" % (self.worker, n + 1)))
                 for n in range(self.workers)]
        heart = threading.Thread(target=self.thread, args=(self.beat, self.finished))
        for thread in hands + [heart]:
            thread.start()
        for thread in hands:
            thread.join()
        self.finished.set()
        heart.join()
        if self.error is not None:
            raise self.error
        return self.status

    def thread(self, body, ended, *arguments):
        """A thread with a connection of its own: an error in it ends all of them."""
        link = Link(self.connect, ended, self.give_up)
        try:
            body(link, *arguments)
        except Stopped:
            pass
        except BaseException as error:
            self.error = self.error or error
            self.stopping.set()
        finally:
            link.close()

    def work(self, link, worker):
        """The loop of a worker."""
        lease = "session" if self.lease == "session" else "%s s" % self.lease
        while not self.stopping.is_set():
            try:
                row = link.query(CLAIM, (self.run_id, worker, lease))
            except psycopg2.Error as error:
                if not may_pass(error):
                    raise
                log.warning("cannot claim, trying again: %s", str(error).strip())
                self.stopping.wait(0.1)
                continue
            wait, reason, done = row[7:]
            if done:
                self.status = reason
                return
            if wait is None:
                self.do(link, Batch(self.run_id, *row[:7]))
            else:
                log.debug("nothing to do for %s s: %s", wait, reason)
                self.stopping.wait(min(wait, MOST_WAIT))

    def do(self, link, batch):
        """Do a batch, and say what became of it."""
        self.in_hand.append(batch)
        try:
            rows = link.use(lambda conn: self.handle(conn, batch), transaction=not self.apart)
        except Exception as error:
            self.in_hand.remove(batch)
            self.failed(link, batch, error)
        else:
            self.in_hand.remove(batch)
            if self.apart:
                self.report(link, COMPLETE, (*batch.who, rows))

    def handle(self, conn, batch):
        rows = self.handler(conn, batch)
        if not self.apart:
            one_row(conn, COMPLETE, (*batch.who, rows))
        return rows

    def failed(self, link, batch, error):
        """What the server has to know: by the SQLSTATE it judges what may go away by itself."""
        lost = link.conn is None
        sqlstate = LOST if lost else getattr(error, "pgcode", None) or getattr(error.__cause__, "pgcode", None)
        message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error).strip()
        if sqlstate == NOT_OURS:
            log.warning("batch %d is not ours any more: rolled back", batch.number)
            return
        log.warning("batch %d has failed: %s", batch.number, message)
        self.report(link, FAIL, (*batch.who, message or type(error).__name__, sqlstate,
                                 True if lost else getattr(error, "retryable", None), getattr(error, "key", None)))

    def report(self, link, sql, arguments):
        """Say what became of a batch, again if need be: at most until its lease has run out."""
        while True:
            try:
                link.query(sql, arguments)
                return
            except psycopg2.Error as error:
                if error.pgcode == NOT_OURS:
                    return
                if not may_pass(error):
                    raise
                time.sleep(0.1)

    def beat(self, link):
        """Extend the leases of what is in hand, in a session of its own: the others are busy."""
        while self.lease != "session" and not self.finished.wait(self.lease / 3):
            for batch in [batch for batch in self.in_hand if not batch.lost]:
                try:
                    link.query(EXTEND, batch.who)
                except psycopg2.Error as error:
                    batch.lost = error.pgcode == NOT_OURS
                    if not batch.lost and not may_pass(error):
                        raise


def sql_handler(sql):
    """A handler that executes a statement with {condition} in it."""
    def handle(conn, batch):
        with conn.cursor() as cursor:
            return max(batch.execute(cursor, sql), 0)
    return handle


def named_handler(name):
    """The handler that is called module:function."""
    sys.path.insert(0, os.getcwd())
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def main():
    parser = argparse.ArgumentParser(description="Work on a run of backfill.")
    parser.add_argument("handler", nargs="?", help="module:function, which is called with (conn, batch)")
    parser.add_argument("--sql", help="instead: a statement with {condition} in it")
    parser.add_argument("--dsn", default="", help="where the database is; PGHOST and the like count")
    parser.add_argument("--run", type=int, help="the id of the run")
    parser.add_argument("--name", help="instead: a definition, whose newest run is meant")
    parser.add_argument("--workers", type=int, default=1, help="batches at the same time (1)")
    parser.add_argument("--lease", default=60, help='in seconds (60), or "session"',
                        type=lambda text: text if text == "session" else float(text))
    parser.add_argument("--apart", action="store_true", help="no transaction around it all: at least once")
    parser.add_argument("--worker", help="the name under which batches are claimed (host:pid)")
    parser.add_argument("--give-up", type=float, default=300, help="seconds for which the server may be away (300)")
    options = parser.parse_args()
    if (options.handler is None) == (options.sql is None) or (options.run is None) == (options.name is None):
        parser.error("give --run or --name, and module:function or --sql")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        handler = sql_handler(options.sql) if options.sql else named_handler(options.handler)
        status = Client(options.dsn, handler, options.run, options.name, options.workers, options.lease,
                        options.apart, options.worker, options.give_up).run()
    except (psycopg2.Error, LookupError, ImportError, AttributeError) as error:
        log.error("%s", str(error).strip())
        return 2
    log.info("the run is %s" % status if status else "stopped")
    return 0 if status in (None, "completed") else 1


if __name__ == "__main__":
    sys.exit(main())
