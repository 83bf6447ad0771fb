#!/usr/bin/python3
"""Bring the pages of a source of backfill from an HTTP API, with python3-psycopg2.

    python3 paged.py --name contacts --url https://api.example.com/contacts?limit=200 \\
        --token-parameter after --records data --next paging.next \\
        --header "Authorization: Bearer ..."

or, in a program:

    status = paged.Client("dbname=app", fetch, name="contacts", workers=4).run()

fetch(stream, token) fetches the page with that token, None for the first one, and returns its
records, a list of dictionaries, and the token of the next page, or None.  It runs in no
transaction.  What it raises is tried again, later; paged.Wait says when, and paged.Refused
that it is of no use.  Needs backfill_client.py.  See doc/clients/paged.md.
"""

import argparse
import email.utils
import http.client
import json
import logging
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import psycopg2

import backfill_client
from backfill_client import MOST_WAIT, NOT_OURS, Batch, log, may_pass

CLAIM = """SELECT number, part, stream, source_token, token, extract(epoch FROM retry_after)::float8, reason, done
             FROM backfill_claim(%s, %s, %s::text)"""
PUT = "SELECT backfill_put(%s, %s, %s, %s::jsonb, %s::jsonb)"
FAIL = """SELECT backfill_fail(%s, %s, %s, %s, %s, retryable => %s,
                               retry_after => make_interval(secs => %s))"""

PASSING = {408, 425, 429, 500, 502, 503, 504}       # HTTP: worth another call


class Wait(Exception):
    """For fetch: come back in so many seconds."""

    def __init__(self, message, seconds):
        super().__init__(message)
        self.seconds = seconds


class Refused(Exception):
    """For fetch: another call would be of no use.  The run fails."""


class Client(backfill_client.Client):
    """Brings pages until the run is over, or stop() is called.  Options as in backfill_client."""

    def __init__(self, connect, fetch, run=None, name=None, workers=1, lease=60, worker=None, give_up=300):
        super().__init__(connect, None, run, name, workers, lease, True, worker, give_up)
        self.fetch = fetch

    def work(self, link, worker):
        """The loop of a worker."""
        while not self.stopping.is_set():
            try:
                row = link.query(CLAIM, (self.run_id, worker, "%s s" % self.lease))
            except psycopg2.Error as error:
                if not may_pass(error):
                    raise
                log.warning("cannot claim, trying again: %s", str(error).strip())
                self.stopping.wait(0.1)
                continue
            number, part, stream, source_token, token, wait, reason, done = row
            if done:
                self.status = reason
                return
            if wait is None:
                page = Batch(self.run_id, number, part, None, None, None, None, token)
                page.stream, page.token = stream, source_token
                self.do(link, page)
            else:
                log.debug("nothing to do for %s s: %s", wait, reason)
                self.stopping.wait(min(wait, MOST_WAIT))

    def do(self, link, page):
        """Bring a page, or say why not.  One that is there already is refused, and that is as good."""
        self.in_hand.append(page)
        try:
            records, next_token = self.fetch(page.stream, page.token)
            answer = PUT, (self.run_id, page.stream, page.who[3], json.dumps(records),
                           None if next_token is None else json.dumps(next_token))
        except Exception as error:
            log.warning("page %d of %s: %s", page.number, page.stream or self.name or self.run_id, error)
            answer = FAIL, (*page.who, str(error) or type(error).__name__, not isinstance(error, Refused),
                            getattr(error, "seconds", None))
        finally:
            self.in_hand.remove(page)
        self.report(link, *answer)

    def report(self, link, sql, arguments):
        """Say what became of a page, again if need be: at most until its lease has run out."""
        while True:
            try:
                link.query(sql, arguments)
                return
            except psycopg2.Error as error:
                if error.pgcode == NOT_OURS:
                    log.warning("the page is not ours any more")
                    return
                if not may_pass(error):
                    raise
                time.sleep(0.1)


# --- HTTP ---------------------------------------------------------------------


def seconds_until(value):
    """What Retry-After says, in seconds, or None."""
    try:
        return max(float(value), 0)
    except (TypeError, ValueError):
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0)
    except (TypeError, ValueError, AttributeError):
        return None


def member(answer, path):
    """answer["a"]["b"] for "a.b"; the answer itself for an empty path."""
    for name in path.split(".") if path else []:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer


def origin(url):
    return urllib.parse.urlsplit(url)[:2]


class Pages:
    """fetch for an API whose answers are JSON, with the records and what to ask for next in them.

    What comes next is a token, which goes into the query, or a whole URL of the same server.
    """

    def __init__(self, url, token_parameter="after", stream_parameter="stream", records="records",
                 next_token="next", headers=None, timeout=30):
        self.url, self.token_parameter, self.stream_parameter = url, token_parameter, stream_parameter
        self.records, self.next_token, self.headers, self.timeout = records, next_token, headers or {}, timeout

    def url_of(self, stream, token):
        if isinstance(token, str) and "://" in token:
            # what is in the headers is not for others
            if origin(token) != origin(self.url):
                raise Refused("the next page is on another server: %s" % token)
            return token
        more = {name: value for name, value in ((self.stream_parameter, stream), (self.token_parameter, token))
                if value is not None}
        parts = urllib.parse.urlsplit(self.url)
        query = "&".join(filter(None, [parts.query, urllib.parse.urlencode(more)]))
        return urllib.parse.urlunsplit(parts._replace(query=query))

    def __call__(self, stream, token):
        request = urllib.request.Request(self.url_of(stream, token), headers=self.headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            seconds = seconds_until(error.headers.get("Retry-After"))
            if seconds is not None:
                raise Wait(str(error), seconds) from error
            if error.code not in PASSING:
                raise Refused(str(error)) from error
            raise
        except (http.client.HTTPException, ValueError) as error:
            raise OSError("the answer cannot be read: %s" % error) from error
        records = member(answer, self.records)
        if not isinstance(records, list):
            raise Refused('the answer has no array "%s"' % self.records)
        return records, member(answer, self.next_token)


def main():
    parser = argparse.ArgumentParser(description="Bring the pages of a source of backfill from an HTTP API.")
    parser.add_argument("--url", required=True, help="of the first page")
    parser.add_argument("--token-parameter", default="after", help='of the query, for the token ("after")')
    parser.add_argument("--stream-parameter", default="stream", help='of the query, for the name of the stream ("stream")')
    parser.add_argument("--records", default="records", help='where the records are in the answer ("records"), such as data.items')
    parser.add_argument("--next", default="next", help='where the token of the next page is ("next")')
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE", help="to be sent; may be given again")
    parser.add_argument("--timeout", type=float, default=30, help="of a call, in seconds (30)")
    parser.add_argument("--dsn", default="", help="where the database is; PGHOST and the like count")
    parser.add_argument("--run", type=int, help="the id of the run")
    parser.add_argument("--name", help="instead: a definition, whose newest run is meant")
    parser.add_argument("--workers", type=int, default=1, help="pages at the same time, of different streams (1)")
    parser.add_argument("--lease", type=float, default=60, help="in seconds (60)")
    parser.add_argument("--worker", help="the name under which pages are claimed (host:pid)")
    parser.add_argument("--give-up", type=float, default=300, help="seconds for which the server may be away (300)")
    options = parser.parse_args()
    if (options.run is None) == (options.name is None):
        parser.error("give --run or --name")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    headers = {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in options.header)}
    pages = Pages(options.url, options.token_parameter, options.stream_parameter, options.records, options.next,
                  headers, options.timeout)
    try:
        status = Client(options.dsn, pages, options.run, options.name, options.workers, options.lease,
                        options.worker, options.give_up).run()
    except (psycopg2.Error, LookupError) as error:
        log.error("%s", str(error).strip())
        return 2
    log.info("the run is %s" % status if status else "stopped")
    return 0 if status in (None, "completed") else 1


if __name__ == "__main__":
    sys.exit(main())
