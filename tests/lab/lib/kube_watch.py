# SPDX-License-Identifier: Apache-2.0
"""kube_watch.py - one watch of the fake API server

It has a cursor, the resourceVersion up to which its client knows everything; an eventfd of
the store wakes it, and a poll sees the client go. Bookmarks are sent once a period and two
seconds before the end, and only if a node changed meanwhile: they are no heartbeat.
"""

import select
import time

from . import kube_objects as objects
from .kube_faults import OF_EVENT
from .kube_http import Gone, chunk

_BATCH = 256 * 1024


class Selector:
    """fieldSelector metadata.name and labelSelector; what the API does not know is a 400."""

    def __init__(self, query):
        self._tests = []
        self.name = None
        for term in filter(None, query.get("fieldSelector", "").split(",")):
            key, negative, value = _term(term)
            if key == "metadata.name" and not negative:
                self.name = value
                self._tests.append(lambda o, v=value: o["metadata"]["name"] == v)
            elif key == "metadata.name":
                self._tests.append(lambda o, v=value: o["metadata"]["name"] != v)
            else:
                raise objects.bad_request(f"field label not supported: {key}")
        for term in filter(None, query.get("labelSelector", "").split(",")):
            self._tests.append(_label_test(term))

    def __bool__(self):
        return bool(self._tests)

    def takes(self, snapshot):
        return snapshot is not None and all(test(snapshot.obj) for test in self._tests)


def _term(term):
    for sign, negative in (("!=", True), ("==", False), ("=", False)):
        key, found, value = term.partition(sign)
        if found:
            return key.strip(), negative, value.strip()
    raise objects.bad_request(f"invalid selector: '{term}'; can't understand '{term}'")


def _label_test(term):
    def labels(obj):
        return obj["metadata"].get("labels", {})

    if "=" not in term:
        absent, key = term.startswith("!"), term.strip("! ")
        return lambda o: (key not in labels(o)) == absent
    key, negative, value = _term(term)
    return lambda o: (labels(o).get(key) == value) != negative


def _event(kind, body):
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)


class Watch:
    def __init__(self, api, connection, record, query, partial):
        self.api, self.connection, self.record, self.partial = api, connection, record, partial
        self.selector = Selector(query)
        self.bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self.end = None  # another thread's order: clean, cut, reset
        start = time.monotonic()
        self.deadline = start + api.watch_seconds(query)
        self._next_bookmark = start + api.config["bookmark_period"]
        self._last_bookmarked = False
        self._bookmarks_seen = api.bookmark_asked
        self._over = False  # an ERROR event was the last thing
        self._held = []  # reordered: waits for the event after it
        raw = query.get("resourceVersion") or "0"
        if not raw.isdigit():
            raise objects.bad_request(f'Invalid value: "{raw}": strconv.ParseUint: parsing '
                                      f'"{raw}": invalid syntax')
        self.cursor = int(raw)
        self._told = 0  # the rv that the client was told last

    # -- what is sent ------------------------------------------------------------------

    def _render(self, event):
        """The event as this watch's selector sees it; None: not at all."""
        if not self.selector:
            return _event(event.kind, event.now.whole(self.partial))
        was = self.selector.takes(event.before)
        now = event.kind != "DELETED" and self.selector.takes(event.now)
        if not was and not now:
            return None
        kind = "DELETED" if not now else "MODIFIED" if was else "ADDED"
        return _event(kind, event.now.whole(self.partial))

    def _send(self, events):
        """Rendered events, several in one write, but where a fault is between them."""
        ready, size = [], 0
        for data in events:
            fault = self.api.faults.take(self.record, OF_EVENT - {"mute"})
            if fault or size > _BATCH:
                self._write(ready)
                ready, size = [], 0
            ready += self._faulty(fault, data) if fault else [chunk(data), *self._release()]
            size += len(data)
            if self._over:
                break
        self._write(ready)

    def _write(self, chunks):
        if chunks:
            self.connection.send_body(b"".join(chunks))

    def _release(self):
        held, self._held = self._held, []
        return held

    def _faulty(self, fault, data):
        """Chunks to be sent instead of the event; cut and error end the watch here."""
        if fault.kind == "duplicate":
            return [chunk(data), chunk(data)]
        if fault.kind == "garbage":
            return [chunk(fault.args["text"].encode()), chunk(data)]
        if fault.kind == "reorder":
            self._held.append(chunk(data))
            return []
        if fault.kind == "cut_event":
            whole = chunk(data)
            self.connection.send_body(whole[: len(whole) // 2])
            self.connection.abandon(fault.args.get("reset", False))
        code = fault.args.get("code", 410)
        reason = fault.args.get("reason", "Expired" if code == 410 else "InternalError")
        status = objects.Refusal(code, reason, f"too old resource version: {self.cursor} "
                                               f"({self.api.store.rv})")
        self._over = True
        return [chunk(_event("ERROR", status.body()[:-1]))]

    def _begin(self):
        """What is there already; False: the watch is at its end."""
        if self.cursor == 0:
            snapshots, self.cursor = self.api.store.list()
            self._told = self.cursor
            self._send(_event("ADDED", s.whole(self.partial)) for s in snapshots
                       if self.selector.takes(s))
            return not self._over
        self._told = self.cursor
        if self.api.store.since(self.cursor) is None:
            refusal = objects.too_old(self.cursor, self.api.store.rv)
            self.connection.send_body(chunk(_event("ERROR", refusal.body()[:-1])))
            return False
        return True

    def _follow(self):
        """Sends what is new; False: some of it is forgotten, and the watch ends."""
        events = self.api.store.since(self.cursor)
        if events is None:
            return False
        if events:
            rendered = [r for r in map(self._render, events) if r]
            if rendered:
                self._told = events[-1].rv
            self._send(rendered)
            self.cursor = events[-1].rv  # when all before it is sent: tests wait for that
        return not self._over

    def _bookmark(self, now):
        if not self.bookmarks:
            return
        last = not self._last_bookmarked and self.deadline - now <= self.api.config["last_bookmark"]
        asked = self.api.bookmark_asked > self._bookmarks_seen
        if not last and not asked and now < self._next_bookmark:
            return
        self._last_bookmarked = self._last_bookmarked or last
        self._bookmarks_seen = self.api.bookmark_asked
        self._next_bookmark = now + self.api.config["bookmark_period"]
        if self.cursor > self._told or asked:
            self._told = self.cursor
            self._send([_event("BOOKMARK", objects.bookmark(self.cursor, self.partial))])

    # -- its life ----------------------------------------------------------------------

    def _wait(self, poll, waker, now):
        """Until something happens, or is due. The client's end is Gone."""
        due = self.deadline
        if self.bookmarks:
            due = min(due, self._next_bookmark)
            if not self._last_bookmarked:
                due = min(due, max(self.deadline - self.api.config["last_bookmark"], now + 0.01))
        for fd, _ in poll.poll(max(0, (due - now) * 1000 + 1)):
            if fd == waker:
                self.api.drain(waker)
            elif self.connection.is_gone():
                raise Gone

    def run(self):
        # Who has read the head can be sure that orders reach this watch.
        with self.api.store.waker() as waker, self.api.watching(self):
            self.connection.send(self.connection.head(200, self.api.headers(self.record)))
            poll = select.poll()
            poll.register(waker, select.POLLIN)
            poll.register(self.connection.sock, select.POLLIN)
            begun = False
            while True:
                now = time.monotonic()
                if self.end in ("cut", "reset"):
                    self.connection.abandon(self.end == "reset")
                if self.api.faults.muted(self.record):
                    # Held back: not even the end comes.
                    for fd, _ in poll.poll():
                        if fd == waker:
                            self.api.drain(waker)
                        elif self.connection.is_gone():
                            raise Gone
                    continue
                if not begun:
                    begun = True
                    if not self._begin():
                        break
                if not self._follow():
                    break
                self._bookmark(now)
                if self.end == "clean" or now >= self.deadline:
                    break
                self._wait(poll, waker, now)
        self.connection.send_body(b"".join(self._release()) + b"0\r\n\r\n")
