# SPDX-License-Identifier: Apache-2.0
"""kube_faults.py - what the fake API server does wrong when it is told to

A fault has a kind, arguments of it, a number of times (None: until it is taken back) and a
description of the requests that it is for: {"verb", "method", "path", "name", "user", "watch"},
each but watch (true, false) a regular expression for the whole.

Of a request, as it comes in; the first that is for it is used up once:

    status(code, retry_after, body, content_type)  answered so; 429 is a line of text, the rest
                                         a Status
    close()                              the connection ends without an answer
    reset()                              the same by RST
    silent()                             read, and never answered
    slow(seconds)                        answered later
    split(sizes, pause)                  written in pieces of these sizes in turn; a pause of
                                         so many seconds keeps TCP from joining them
    cut(after, reset)                    the connection ends after so many bytes of the body
    content_type(value)                  another type is claimed
    full()                               whole objects where partial ones were asked for
    body(text)                           200 with another body
    raw(text)                            these bytes and no more, then the end of the connection

Of a watch, used up once an event, also by watches that run already:

    cut_event(reset)                     the connection ends in the middle of the event
    duplicate()                          the event comes twice
    reorder()                            the event comes after the one that follows it
    error(code, reason)                  an ERROR event instead, and the end of the watch
    garbage(text)                        a chunk of these bytes before the event
    mute()                               nothing comes: no event, no bookmark, no end. Held
                                         back, not lost; never used up, ends when taken back
"""

import re
import threading

OF_REQUEST = frozenset((
    "status", "close", "reset", "silent", "slow", "split", "cut", "content_type", "full", "body",
    "raw"))
OF_EVENT = frozenset(("cut_event", "duplicate", "reorder", "error", "garbage", "mute"))


class Fault:
    def __init__(self, number, kind, times, match, args):
        self.number, self.kind, self.left, self.args = number, kind, times, args
        self.watch = match.pop("watch", None)
        self.match = {key: re.compile(pattern) for key, pattern in match.items()}
        self.used = 0

    def is_for(self, record):
        if self.left == 0 or self.watch not in (None, record["verb"] == "watch"):
            return False
        return all(p.fullmatch(str(record.get(key) or "")) for key, p in self.match.items())

    def use(self):
        self.used += 1
        if self.left is not None:
            self.left -= 1
        return self


class Faults:
    def __init__(self):
        self._lock = threading.Lock()
        self._faults = {}
        self._count = 0

    def add(self, kind, times=1, match=None, **args):
        if kind not in OF_REQUEST | OF_EVENT:
            raise ValueError(f"no fault is called {kind}")
        with self._lock:
            self._count += 1
            self._faults[self._count] = Fault(self._count, kind, times, dict(match or {}), args)
            return self._count

    def used(self, number):
        """How many times it was used."""
        with self._lock:
            return self._faults[number].used

    def end(self, number=None):
        """Takes back one, or all."""
        with self._lock:
            for fault in self._faults.values():
                if number in (None, fault.number):
                    fault.left = 0

    def _first(self, kinds, record):
        return next((f for f in self._faults.values() if f.kind in kinds and f.is_for(record)),
                    None)

    def take(self, record, kinds):
        """The first fault of these kinds, used up once; None."""
        with self._lock:
            fault = self._first(kinds, record)
            return fault.use() if fault else None

    def muted(self, record):
        with self._lock:
            return self._first(("mute",), record) is not None
