# SPDX-License-Identifier: Apache-2.0
"""kube_control.py - what the test orders of the fake API server's process

Each do_NAME is what a line {"do": "NAME", ...} on the control socket calls; kubeapi.py has a
method for each. Changes of objects by this way ask nobody's permission: they are the
cluster's other components.
"""

import json
import os
import socket
import threading
import time

from . import kube_objects as objects
from .kube_objects import Refusal
from .kube_store import Heartbeats


class Control:
    def __init__(self, api, path):
        self.api, self.store = api, api.store
        self._heartbeats = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(16)

    def start(self):
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        first = True
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._converse, args=(sock, first), daemon=True).start()
            first = False

    def _converse(self, sock, first):
        with sock, sock.makefile("rwb") as f:
            for line in f:
                f.write(json.dumps(self._obey(json.loads(line))).encode() + b"\n")
                f.flush()
        if first:
            os._exit(0)

    def _obey(self, order):
        name = order.pop("do")
        try:
            return {"ok": getattr(self, f"do_{name}")(**order)}
        except Refusal as refusal:
            return {"refused": refusal.status}
        except Exception as e:  # noqa: BLE001 - the test shall see it, whatever it is
            return {"error": f"{type(e).__name__}: {e}"}

    def _done(self):
        """What a change is answered by: its resourceVersion, and when it was."""
        return {"rv": str(self.store.rv), "at": time.monotonic()}

    # -- objects -----------------------------------------------------------------------

    def do_add_nodes(self, specs, render=False):
        for spec in specs:
            snapshot = self.store.add(objects.node(**spec))
            if render:
                snapshot.tail(False)
                snapshot.tail(True)
        return self._done()

    def do_delete_node(self, name):
        self.store.delete(name)
        return self._done()

    def do_reregister(self, name, spec):
        with self.store.lock:
            self.store.delete(name)
            self.store.add(objects.node(**{**spec, "name": name}))
        return self._done()

    def do_node(self, name):
        return self.store.get(name).obj

    def do_nodes(self):
        return [s.name for s in self.store.list()[0]]

    def do_patch(self, name, patch, content_type, subresource=None):
        self.store.patch(name, content_type, json.dumps(patch), subresource)
        return self._done()

    def do_set_conditions(self, name, conditions):
        self.store.set_status(name, conditions)
        return self._done()

    def do_add_pod(self, name, namespace, node_name):
        with self.store.lock:
            pod = objects.pod(name, namespace, node_name)
            self.store.pods[namespace, name] = (pod, self.store.bump())
        return self._done()

    def do_heartbeat(self, names=None):
        self.store.heartbeat(names)
        return self._done()

    def do_heartbeats(self, period):
        """Steady ones from now on; period 0: none. How many there were so far."""
        count = 0
        if self._heartbeats:
            self._heartbeats.ended.set()
            self._heartbeats.join()
            count, self._heartbeats = self._heartbeats.count, None
        if period:
            self._heartbeats = Heartbeats(self.store, period)
            self._heartbeats.start()
        return count

    # -- the resourceVersion -----------------------------------------------------------

    def do_rv(self):
        return str(self.store.rv)

    def do_bump(self, count):
        return str(self.store.bump(count))

    def do_compact(self):
        return str(self.store.compact())

    def do_save(self, path, halt):
        """halt: nothing changes any more, the process is about to be killed."""
        if halt:
            self.store.lock.acquire()
        self.store.save(path)
        return str(self.store.rv)

    # -- users -------------------------------------------------------------------------

    def do_set_users(self, users, rules):
        """users {token: [name, groups]}, rules {name: [PolicyRule]}"""
        with self.api._lock:
            self.api.users = {token: tuple(who) for token, who in users.items()}
        self.api.rules = rules

    # -- faults and watches ------------------------------------------------------------

    def do_fault(self, kind, times, match, args):
        number = self.api.faults.add(kind, times, match, **args)
        self.store.wake()
        return number

    def do_fault_used(self, number):
        return self.api.faults.used(number)

    def do_end_fault(self, number):
        self.api.faults.end(number)
        self.store.wake()

    def do_watches(self):
        return [{**w.record, "cursor": str(w.cursor)} for w in self.api.watches()]

    def do_end_watches(self, how):
        watches = self.api.watches()
        for watch in watches:
            watch.end = how
        self.store.wake()
        return len(watches)

    def do_bookmark(self):
        self.api.bookmark_asked += 1
        self.store.wake()

    def do_set(self, name, value):
        """bookmark_period, last_bookmark, watch_seconds, partial"""
        self.api.config[name] = value
        self.store.wake()

    # -- what was asked ----------------------------------------------------------------

    def do_requests(self, since):
        with self.api._lock:
            return list(self.api.records)[since:]

    def do_request_count(self):
        with self.api._lock:
            return len(self.api.records)
