# SPDX-License-Identifier: Apache-2.0
"""kube_store.py - nodes and pods, one resourceVersion counter, and what happened of late

The counter is etcd's revision: every change of anything counts it. Of each node there is the
Snapshot that is now; an Event keeps the one that came and the one that went, so that the
list as of an earlier resourceVersion is found by going back.

`window` events can be watched from and listed as of; what is older is 410. Everything is
done under one lock; watchers are woken through an eventfd.
"""

import bisect
import contextlib
import os
import pickle
import threading
import time

from . import kube_objects as objects
from . import kube_patch
from .kube_objects import Snapshot


class Event:
    __slots__ = ("rv", "kind", "now", "before")

    def __init__(self, rv, kind, now, before):
        self.rv, self.kind, self.now, self.before = rv, kind, now, before


class Store:
    def __init__(self, window=10000, rv=1):
        self.lock = threading.RLock()
        self.window, self.rv = window, rv
        self.nodes, self.pods = {}, {}
        self._forget()
        self._wakers = set()

    def _forget(self):
        """No history: nothing before the present can be asked for."""
        self._events, self._rvs, self._sorted = [], [], None
        self.oldest = self.nodes_rv = self.rv

    # -- changes -----------------------------------------------------------------------

    def _record(self, kind, now, before):
        self.nodes_rv = self.rv
        if kind != "MODIFIED":
            self._sorted = None
        self._events.append(Event(self.rv, kind, now, before))
        self._rvs.append(self.rv)
        # In lots: each costs a move of the whole list.
        if len(self._events) > self.window + self.window // 4 + 16:
            self._drop(len(self._events) - self.window)
        self.wake()

    def _drop(self, count):
        if count > 0:
            self.oldest = self._rvs[count - 1]
            del self._events[:count]
            del self._rvs[:count]

    def bump(self, count=1):
        """Something else in the cluster changed."""
        with self.lock:
            self.rv += count
            return self.rv

    def add(self, node):
        name = node["metadata"]["name"]
        with self.lock:
            if name in self.nodes:
                raise objects.Refusal(409, "AlreadyExists", f'nodes "{name}" already exists',
                                      {"name": name, "kind": "nodes"})
            self.rv += 1
            self.nodes[name] = Snapshot(node, self.rv)
            self._record("ADDED", self.nodes[name], None)
            return self.nodes[name]

    def get(self, name):
        with self.lock:
            if name not in self.nodes:
                raise objects.not_found("nodes", name)
            return self.nodes[name]

    def delete(self, name):
        with self.lock:
            gone = self.get(name)
            del self.nodes[name]
            self.rv += 1
            last = Snapshot(gone.obj, self.rv)
            self._record("DELETED", last, gone)
            return last

    def replace(self, name, obj):
        """Another object in place of one; nothing happens when it is the same."""
        with self.lock:
            before = self.get(name)
            if obj == before.obj:
                return before
            self.rv += 1
            self.nodes[name] = Snapshot(obj, self.rv)
            self._record("MODIFIED", self.nodes[name], before)
            return self.nodes[name]

    def patch(self, name, content_type, body, subresource=None):
        with self.lock:
            old = self.get(name).obj
            return self.replace(name, kube_patch.apply(old, content_type, body, subresource))

    def set_status(self, name, conditions):
        """The kubelet's PUT of the status: all conditions anew."""
        with self.lock:
            obj = self.get(name).obj
            return self.replace(name, {**obj, "status": {**obj["status"],
                                                         "conditions": conditions}})

    def heartbeat(self, names=None):
        """The kubelets of these nodes (default: all) write their status."""
        names = list(self.nodes) if names is None else names
        for i in range(0, len(names), 100):
            with self.lock:
                for name in names[i : i + 100]:
                    if name in self.nodes:
                        self.rv += 1
                        before = self.nodes[name]
                        self.nodes[name] = before.heartbeat(self.rv, objects.now())
                        self._record("MODIFIED", self.nodes[name], before)
        return self.rv

    # -- reading -----------------------------------------------------------------------

    def list(self, rv=None):
        """([snapshots by name], the list's rv), as of now or of an earlier rv."""
        with self.lock:
            if rv is not None and rv < self.oldest:
                raise objects.too_old(rv, self.rv)
            if rv is None or rv >= self.nodes_rv:
                if self._sorted is None:
                    self._sorted = sorted(self.nodes)
                return [self.nodes[name] for name in self._sorted], rv or self.rv
            found = dict(self.nodes)
            for event in reversed(self._events[bisect.bisect_right(self._rvs, rv) :]):
                if event.before is None:
                    del found[event.now.name]
                else:
                    found[event.before.name] = event.before
            return [found[name] for name in sorted(found)], rv

    def since(self, rv):
        """Events after rv; None: some of them are forgotten."""
        with self.lock:
            if rv < self.oldest:
                return None
            return self._events[bisect.bisect_right(self._rvs, rv) :]

    def compact(self):
        """Forgets all history but the present."""
        with self.lock:
            self._drop(len(self._events))
            self.oldest = self.rv
            return self.rv

    # -- who waits ---------------------------------------------------------------------

    @contextlib.contextmanager
    def waker(self):
        """An eventfd that becomes readable when something happened."""
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        with self.lock:
            self._wakers.add(fd)
        try:
            yield fd
        finally:
            with self.lock:
                self._wakers.discard(fd)
            os.close(fd)

    def wake(self):
        with self.lock:
            for fd in self._wakers:
                os.eventfd_write(fd, 1)

    # -- a file ------------------------------------------------------------------------

    def save(self, path):
        with self.lock, open(path, "wb") as f:
            pickle.dump((self.rv, self.nodes, self.pods), f)

    def load(self, path):
        """As a new API server finds it in etcd: without a history."""
        with self.lock, open(path, "rb") as f:
            self.rv, self.nodes, self.pods = pickle.load(f)
            self._forget()


class Heartbeats(threading.Thread):
    """Every node's kubelet writes its status once a period, spread over it."""

    STEP = 0.05

    def __init__(self, store, period):
        super().__init__(daemon=True)
        self.store, self.period = store, period
        self.ended = threading.Event()
        self.count = 0

    def run(self):
        begin, done = time.monotonic(), 0.0
        names, at = [], 0
        while not self.ended.wait(self.STEP):
            with self.store.lock:
                total = len(self.store.nodes)
            due = (time.monotonic() - begin) * total / self.period
            count, done = int(due - done), done + int(due - done)
            while count > 0:
                if at >= len(names):
                    names, at = sorted(self.store.nodes), 0
                    if not names:
                        break
                part = names[at : at + count]
                self.store.heartbeat(part)
                at, count, self.count = at + len(part), count - len(part), self.count + len(part)
