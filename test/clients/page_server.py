#!/usr/bin/python3
"""A service that gives the records of some streams page by page, slow and unreliable.

    python3 page_server.py --port-file PATH --calls 40 --window 2 --streams 4 --pages 15 --size 20

GET /pages?stream=NAME&after=TOKEN&since=SECONDS answers with {"records": [...], "next": TOKEN}:
the records of the stream that have changed since then, and null at the end.  Some calls fail:
with 503, with 429 and Retry-After in seconds or as a date, with an answer that is cut off, or
with none at all.  What is more than so many calls in a window is refused.  POST /change?N
changes N records of each stream, POST /lost says that somebody who calls was killed.  GET /sum is
the number of records and a checksum; the rest is that of http_service.py.
"""

import argparse
import email.utils
import hashlib
import json
import math
import os
import random
import threading
import time
from urllib.parse import parse_qs, urlsplit

from http_service import Handler, Service


# By the number of the call: 503, put off twice, cut off, and no answer at all.
FIRST = {2: 0.5, 5: 1.2, 9: 1.2, 13: 1.7, 17: 2.2}


class Pages(Service):
    def __init__(self, options):
        # a run's time begins a tenth of a second before it, and records are older
        made = time.time() - 60
        self.streams = {
            f"s{s + 1}": [{"id": f"s{s + 1}-{n:07d}", "name": f"name {n}", "changed": made, "extra": True}
                          for n in range(options.pages * options.size)]
            for s in range(options.streams)}
        self.early, self.not_before, self.put_off, self.handled = 0, {}, 0, 0
        super().__init__(options)
        self.RequestHandlerClass = PageHandler

    def trouble(self, stream, now):
        """What goes wrong with this call, if anything does: the status, and when to come back."""
        options = self.options
        # Each kind of trouble comes once among the first calls, the rest by chance.
        chance = options.failing * FIRST[self.handled] if self.handled in FIRST else self.random.random()
        self.handled += 1
        if len(self.times) > options.calls and now - self.times[-options.calls - 1] < options.window:
            self.refused += 1
            return 429, None
        if chance < options.failing:
            return 503, None
        if chance < 1.5 * options.failing:
            wait, as_date = (1, True) if self.put_off % 2 else (0.3, False)
            until = math.ceil(time.time() + wait) if as_date else time.time() + wait
            self.not_before[stream] = until, time.monotonic()
            self.put_off += 1
            return 429, email.utils.formatdate(until, usegmt=True) if as_date else str(wait)
        if chance < 2.5 * options.failing:
            return ("cut" if chance < 2 * options.failing else "none"), None
        return 200, None

    def page(self, query):
        """The answer: its status, Retry-After, and the body."""
        stream, after, since = query["stream"][0], int(query.get("after", ["0"])[0]), float(query.get("since", ["0"])[0])
        with self.lock:
            now = time.monotonic()
            self.times.append(now)
            self.early += time.time() < self.not_before.pop(stream, (0, 0))[0] - 0.02
            status, retry_after = self.trouble(stream, now)
            self.failed += status != 200
            delay = self.random.random() * self.options.answer
            size = self.options.size
            records = [r for r in self.streams[stream] if r["changed"] > since]
        time.sleep(delay)
        body = {"records": records[after:after + size],
                "next": after + size if after + size < len(records) else None}
        return status, retry_after, json.dumps(body)

    def change(self, number):
        with self.lock:
            for records in self.streams.values():
                for record in self.random.sample(records, number):
                    record.update(name=record["name"] + "!", changed=time.time())

    def lost(self):
        """Somebody was killed: an answer of a moment ago may not have reached him."""
        with self.lock:
            since = time.monotonic() - 0.5
            self.not_before = {stream: (until, at) for stream, (until, at) in self.not_before.items() if at < since}

    def sum(self):
        with self.lock:
            pairs = sorted((r["id"], r["name"]) for records in self.streams.values() for r in records)
        text = ",".join(f"{key}={name}" for key, name in pairs)
        return {"records": len(pairs), "md5": hashlib.md5(text.encode()).hexdigest()}

    def report(self, windows):
        return dict(super().report(windows), early=self.early, put_off=self.put_off)


class PageHandler(Handler):
    def do_POST(self):
        path, _, argument = self.path.partition("?")
        if path == "/change":
            self.server.change(int(argument))
            self.answer(200)
        elif path == "/lost":
            self.server.lost()
            self.answer(200)
        else:
            super().do_POST()

    def do_GET(self):
        parts = urlsplit(self.path)
        if parts.path == "/sum":
            self.answer(200, json.dumps(self.server.sum()))
        elif parts.path == "/pages":
            self.answer_page(*self.server.page(parse_qs(parts.query)))
        else:
            super().do_GET()

    def answer_page(self, status, retry_after, body):
        if status == "none":
            self.close_connection = True
            return
        if status == "cut":
            status, body = 200, body[:len(body) // 2]
        self.send_response_only(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        body = body.encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-file", required=True, help="where to write the port")
    parser.add_argument("--calls", type=int, required=True, help="that are allowed")
    parser.add_argument("--window", type=float, required=True, help="in so many seconds")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--pages", type=int, default=15, help="of each stream")
    parser.add_argument("--size", type=int, default=20, help="records of a page")
    parser.add_argument("--answer", type=float, default=0.03, help="after so many seconds at most")
    parser.add_argument("--failing", type=float, default=0.04, help="such a part of the calls, for each way to fail")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    service = Pages(options)
    with open(options.port_file + ".new", "w") as file:
        file.write(str(service.server_address[1]))
    os.rename(options.port_file + ".new", options.port_file)
    service.serve_forever()


if __name__ == "__main__":
    main()
