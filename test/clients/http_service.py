#!/usr/bin/python3
"""A service that clients call for each row: slow, sometimes failing, with a limit.

    python3 http_service.py --port-file PATH --calls 600 --window 2

POST /KEY answers 200 after 11 ms, or 503 in 2 % of the cases.  What is more than so many
calls in any window of that many seconds is answered with 429.  Every call counts, also those
that fail.  POST /begin forgets all calls, GET /calls tells how many there were, and GET /report?N what is
to be known of them, as JSON.
"""

import argparse
import json
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, options):
        super().__init__(("127.0.0.1", 0), Handler)
        self.options, self.random, self.lock = options, random.Random(options.seed), threading.Lock()
        self.begin()

    def begin(self):
        with self.lock:
            self.times, self.answered, self.failed, self.refused = [], {}, 0, 0

    def call(self, key):
        """The status for a call with that key."""
        with self.lock:
            now = time.monotonic()
            calls = self.options.calls
            refuse = len(self.times) >= calls and now - self.times[-calls] < self.options.window
            fail = self.random.random() < self.options.failing
            self.times.append(now)
            self.refused += refuse
            self.failed += fail and not refuse
        time.sleep(self.options.answer)
        if refuse or fail:
            return 429 if refuse else 503
        with self.lock:
            self.answered[key] = self.answered.get(key, 0) + 1
        return 200

    def report(self, windows):
        """What was called; "seconds" is how long so many times the allowed calls took, at the best."""
        with self.lock:
            times, calls = list(self.times), self.options.calls
            result = {"calls": len(times), "failed": self.failed, "refused": self.refused,
                      "keys": len(self.answered), "again": sum(n > 1 for n in self.answered.values())}
        # The time of a call that comes so many calls after another one tells whether there is a
        # window with too many, and how much of the limit is used, wherever the windows begin.
        gaps = [b - a for a, b in zip(times, times[calls:])]
        spans = [b - a for a, b in zip(times, times[calls * windows:])]
        result["shortest"] = min(gaps, default=None)
        result["seconds"] = min(spans, default=None)
        result["share"] = self.options.window * windows / min(spans) if spans else 0
        result["over_all"] = self.options.window * len(times) / calls / (times[-1] - times[0]) if times[1:] else 0
        return result


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status, text=""):
        body = text.encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        if self.path == "/begin":
            self.server.begin()
            self.answer(200)
        else:
            self.answer(self.server.call(self.path[1:]))

    def do_GET(self):
        path, _, windows = self.path.partition("?")
        self.answer(200, json.dumps(self.server.report(int(windows)) if path == "/report" else len(self.server.times)))

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass        # the client was killed

    def log_message(self, *arguments):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-file", required=True, help="where to write the port")
    parser.add_argument("--calls", type=int, required=True, help="that are allowed")
    parser.add_argument("--window", type=float, required=True, help="in so many seconds")
    parser.add_argument("--answer", type=float, default=0.011, help="after so many seconds")
    parser.add_argument("--failing", type=float, default=0.02, help="such a part of the calls")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    service = Service(options)
    with open(options.port_file + ".new", "w") as file:
        file.write(str(service.server_address[1]))
    os.rename(options.port_file + ".new", options.port_file)
    service.serve_forever()


if __name__ == "__main__":
    main()
