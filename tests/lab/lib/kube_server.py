# SPDX-License-Identifier: Apache-2.0
"""kube_server.py - the fake API server's process: what is asked, by whom, and the answer

    python3 -m lib.kube_server CONFIG.json         (kubeapi.py starts it)

One thread a connection, and one that takes orders from the test, on a unix socket: lines of
JSON, {"do": NAME, ...} answered by {"ok": VALUE}, {"refused": STATUS} or {"error": TEXT}.
When the test's end of the first such connection goes away, so does the process.

HTTP/1.1 only, by ALPN too; the real one prefers HTTP/2. JSON only, no protobuf and no Table.
A client certificate of a wrong authority already fails in the handshake; the real one
answers 401.
"""

import base64
import bisect
import collections
import contextlib
import gzip
import json
import os
import random
import re
import socket
import ssl
import sys
import threading
import time

from . import kube_objects as objects
from . import kube_rbac as rbac
from .kube_control import Control
from .kube_faults import OF_REQUEST, Faults
from .kube_http import Connection, Gone, Malformed
from .kube_objects import Refusal, Snapshot, go_json
from .kube_store import Store
from .kube_watch import Selector, Watch

_JSON = "application/json"
_GZIP_MIN = 128 * 1024
_SHOWN_HEADERS = ("accept", "accept-encoding", "authorization", "connection", "content-type",
                  "host", "user-agent")
_FLOW = {"X-Kubernetes-Pf-Flowschema-Uid": "7b4a2b0e-6f5a-4c2b-9d51-0d1f0a7f3c11",
         "X-Kubernetes-Pf-Prioritylevel-Uid": "f3d8a6c4-52c0-4a38-8e0a-2f6f6c8c4f7a"}
_PRETTY = re.compile(r"curl|Wget|Mozilla/5\.0|Mozilla/4\.0")
_INCONSISTENT = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter, or use the continue token in this response "
    "to retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list.")
_MALFORMED = (b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
              b"Connection: close\r\n\r\n400 Bad Request")
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_VERSION = {"major": "1", "minor": "31", "gitVersion": "v1.31.1", "platform": "linux/amd64"}


def _route(path):
    """(resource, namespace, name, subresource) of a path; None: there is no such thing."""
    nodes = re.fullmatch(r"/api/v1/nodes(?:/([^/]+)(?:/(status))?)?/?", path)
    if nodes:
        return "nodes", None, nodes[1], nodes[2]
    pods = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods(?:/([^/]+)(?:/(status))?)?/?", path)
    return ("pods", pods[1], pods[2], pods[3]) if pods else None


def _accepts(accept, partial_works):
    """What the Accept header asks for: "whole", "PartialObjectMetadata" or ...List."""
    for clause in (accept or "*/*").split(","):
        kind, *parameters = [p.strip() for p in clause.split(";")]
        given = dict(p.partition("=")[::2] for p in parameters)
        if kind not in (_JSON, "*/*", "application/*"):
            continue
        if "as" not in given:
            return "whole"
        if (given["as"].startswith("PartialObjectMetadata") and partial_works
                and given.get("g") == "meta.k8s.io" and given.get("v") in ("v1", "v1beta1")):
            return given["as"]
    raise objects.not_acceptable(
        "only the following media types are accepted: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf")


def _token(rv, start):
    text = f'{{"v":"meta.k8s.io/v1","rv":{rv},"start":"{start}\\u0000"}}'
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_token(token):
    """(rv, the name that was the last)"""
    try:
        raw = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(raw["rv"]), raw["start"].rstrip("\0")
    except (ValueError, KeyError, TypeError) as e:
        raise objects.bad_request(f"continue key is not valid: {e}") from None


class Api:
    def __init__(self, config):
        self.config = config
        self.store = Store(config["window"], config.get("rv") or 1)
        self.faults = Faults()
        self.users = {token: tuple(who) for token, who in config["users"].items()}
        self.rules = config["rules"]
        self.records = collections.deque(maxlen=200000)
        self.bookmark_asked = 0
        self._numbers = iter(range(1, 1 << 62))
        self._lock = threading.Lock()
        self._watches = set()
        self._context, self._stamp = None, None
        if config.get("state") and os.path.exists(config["state"]):
            self.store.load(config["state"])

    # -- connections -------------------------------------------------------------------

    def _tls(self):
        """A context of the files that are there now: they may be replaced at any time."""
        tls = self.config["tls"]
        if not tls:
            return None
        stamp = [os.stat(path)[1:9] for path in sorted(tls.values())]
        if stamp != self._stamp:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls["cert"])
            context.set_alpn_protocols(["http/1.1"])
            context.sni_callback = lambda s, name, _: setattr(s, "weft_server_name", name)
            context.load_verify_locations(tls["client_ca"])
            context.verify_mode = ssl.CERT_OPTIONAL
            self._context, self._stamp = context, stamp
        return self._context

    def serve(self, listener):
        while True:
            sock, peer = listener.accept()
            number = next(self._numbers)
            peer = peer[0].removeprefix("::ffff:")
            threading.Thread(target=self._converse, args=(Connection(sock, number), peer),
                             daemon=True).start()

    def _converse(self, connection, peer):
        try:
            context = self._tls()
            if context:
                connection.handshake(context)
            while True:
                request = connection.read()
                record = self._record(connection, request, peer)
                self._handle(connection, request, record)
                record["ended"] = time.monotonic()
                if request.headers.get("connection", "").lower() == "close":
                    break
        except (Gone, OSError):
            pass
        except Malformed:
            with contextlib.suppress(OSError):
                connection.sock.sendall(_MALFORMED)
        finally:
            if connection.record:
                connection.record["ended"] = connection.record["ended"] or time.monotonic()
            connection.close()

    def _record(self, connection, request, peer):
        shown = {k: v for k, v in request.headers.items() if k in _SHOWN_HEADERS}
        record = {
            "at": time.monotonic(), "connection": connection.number, "peer": peer,
            "server_name": connection.server_name, "tls": connection.tls_version(),
            "method": request.method, "path": request.path, "target": request.target,
            "query": request.query, "headers": shown,
            "body": request.body.decode(errors="replace"), "verb": None, "user": None,
            "name": None, "status": None, "sent": 0, "ended": None,
        }
        connection.plain()
        connection.record = record
        with self._lock:
            self.records.append(record)
        return record

    # -- a request ---------------------------------------------------------------------

    def _handle(self, connection, request, record):
        try:
            route = _route(request.path)
            ask = self._ask(request, route, record)
            fault = self.faults.take(record, OF_REQUEST)
            if fault and self._misbehave(fault, connection, record):
                return
            user = self._authenticate(connection, request)
            record["user"] = user.name
            if route is None:
                self._other(connection, request)
                return
            rbac.check(user, self.rules.get(user.name, []), ask)
            self._do(connection, request, record, ask)
        except Refusal as refusal:
            self._refuse(connection, refusal)

    def _ask(self, request, route, record):
        if route is None:
            record["verb"] = request.method.lower()
            return None
        resource, namespace, name, subresource = route
        verb = _VERBS.get(request.method, request.method.lower())
        if verb == "get" and not name:
            verb = "watch" if request.query.get("watch") in ("true", "1") else "list"
            selected = re.fullmatch(r"metadata\.name==?([^,!=]+)",
                                    request.query.get("fieldSelector", ""))
            name = selected[1] if selected else None
        record["verb"], record["name"] = verb, name
        return rbac.Ask(verb, resource, name, namespace, subresource)

    def _authenticate(self, connection, request):
        by_certificate = rbac.of_certificate(connection.certificate())
        if by_certificate:
            return by_certificate
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return rbac.ANONYMOUS
        with self._lock:
            if token not in self.users:
                raise objects.unauthorized()
            name, groups = self.users[token]
        return rbac.User(name, groups)

    def _refuse(self, connection, refusal):
        headers = {"Content-Type": _JSON, **_FLOW}
        body = refusal.body()
        if refusal.code == 429:
            headers.update({"Content-Type": "text/plain; charset=utf-8",
                            "X-Content-Type-Options": "nosniff"})
            body = str(refusal).encode() + b"\n"
        if refusal.retry_after is not None:
            headers["Retry-After"] = refusal.retry_after
        connection.answer(refusal.code, headers, body)

    def _other(self, connection, request):
        if request.path in ("/healthz", "/livez", "/readyz"):
            connection.answer(200, {"Content-Type": "text/plain; charset=utf-8"}, b"ok")
        elif request.path == "/version":
            connection.answer(200, {"Content-Type": _JSON}, go_json(_VERSION).encode())
        else:
            connection.answer(404, {"Content-Type": "text/plain; charset=utf-8"},
                              b"404 page not found\n")

    def _do(self, connection, request, record, ask):
        wanted = _accepts(request.headers.get("accept"), self.config["partial"])
        if record.get("full"):
            wanted = "whole"
        of_list = wanted == "PartialObjectMetadataList"
        if wanted != "whole" and of_list != (ask.verb == "list"):
            raise objects.not_acceptable(
                f"you requested {wanted}, but the requested object is "
                f"{'not ' if of_list else ''}a list")
        partial = wanted != "whole"
        if ask.resource == "pods":
            self._pod(connection, request, record, ask, partial)
        elif ask.verb == "watch":
            if request.query.get("resourceVersionMatch"):
                raise objects.invalid("ListOptions", "", "resourceVersionMatch",
                                      "FieldValueForbidden", "Forbidden: resourceVersionMatch is "
                                      "forbidden for watch")
            Watch(self, connection, record, request.query, partial).run()
        elif ask.verb == "list":
            body = self.list(request.query, partial)
            self._answer(connection, request, record, body)
        elif ask.verb == "get":
            body = self.store.get(ask.name).whole(partial) + b"\n"
            self._answer(connection, request, record, body)
        elif ask.verb == "patch" and ask.name:
            snapshot = self.store.patch(ask.name, request.headers.get("content-type"),
                                        request.body, ask.subresource)
            self._answer(connection, request, record, snapshot.whole(partial) + b"\n")
        else:
            raise Refusal(405, "MethodNotAllowed",
                          "the server does not allow this method on the requested resource")

    def _pod(self, connection, request, record, ask, partial):
        if ask.verb != "get":
            raise Refusal(405, "MethodNotAllowed",
                          "the server does not allow this method on the requested resource")
        pod = self.store.pods.get((ask.namespace, ask.name))
        if pod is None:
            raise objects.not_found("pods", ask.name)
        self._answer(connection, request, record, Snapshot(*pod).whole(partial) + b"\n")

    def list(self, query, partial):
        selector = Selector(query)
        limit, raw = query.get("limit", "0"), query.get("resourceVersion", "")
        if not limit.isdigit() or not (raw or "0").isdigit():
            raise objects.bad_request(f'strconv.ParseUint: parsing "{raw}": invalid syntax')
        limit, after = int(limit), ""
        if query.get("continue"):
            if raw not in ("", "0"):
                raise objects.bad_request("specifying resource version is not allowed when using "
                                          "continue")
            rv, after = _read_token(query["continue"])
            snapshots, rv = self._continued(rv, after)
        else:
            limit = 0 if raw == "0" else limit
            snapshots, rv = self._as_of(int(raw or 0), limit, query)
        if after:
            snapshots = snapshots[bisect.bisect_right(snapshots, after, key=lambda s: s.name) :]
        if selector:
            snapshots = [s for s in snapshots if selector.takes(s)]
        metadata = {"resourceVersion": str(rv)}
        if 0 < limit < len(snapshots):
            left = len(snapshots) - limit
            snapshots = snapshots[:limit]
            metadata["continue"] = _token(rv, snapshots[-1].name)
            if not selector:
                metadata["remainingItemCount"] = left
        return _list_body(metadata, snapshots, partial)

    def _continued(self, rv, after):
        try:
            return self.store.list(None if rv == -1 else rv)
        except Refusal:
            raise objects.expired(_INCONSISTENT, {"continue": _token(-1, after)}) from None

    def _as_of(self, rv, limit, query):
        if rv > self.store.rv:
            raise objects.too_large(rv, self.store.rv)
        match = query.get("resourceVersionMatch")
        if rv and (match == "Exact" or limit and not match):
            try:
                return self.store.list(rv)
            except Refusal:
                raise objects.expired("The resourceVersion for the provided list is too old.") \
                    from None
        return self.store.list()

    # -- answers -----------------------------------------------------------------------

    def headers(self, record):
        return {"Content-Type": record.get("content_type", _JSON), **_FLOW}

    def _answer(self, connection, request, record, body):
        headers = self.headers(record)
        pretty = request.query.get("pretty")
        if pretty in ("true", "1") or pretty is None and _PRETTY.match(
            request.headers.get("user-agent", "")
        ):
            body = json.dumps(json.loads(body), indent=2, ensure_ascii=False).encode()
        if len(body) > _GZIP_MIN and "gzip" in request.headers.get("accept-encoding", ""):
            headers.update({"Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
            body = gzip.compress(body, compresslevel=1)
        connection.answer(200, headers, body)

    def _misbehave(self, fault, connection, record):
        """True: this was the whole answer."""
        kind, args = fault.kind, fault.args
        if kind in ("close", "reset"):
            connection.abandon(kind == "reset")
        elif kind == "silent":
            while connection.sock.recv(65536):
                pass
            raise Gone
        elif kind == "slow":
            time.sleep(args["seconds"])
        elif kind in ("split", "cut"):
            getattr(connection, kind)(**args)
        elif kind == "content_type":
            record["content_type"] = args["value"]
        elif kind == "full":
            record["full"] = True
        elif kind == "body":
            connection.answer(200, self.headers(record), args["text"].encode())
            return True
        elif kind == "raw":
            connection.send(args["text"].encode("latin-1"))
            connection.abandon()
        else:
            self._refuse_by_order(connection, record, **args)
            return True
        return False

    def _refuse_by_order(self, connection, record, code, retry_after=None, body=None,
                         content_type=_JSON):
        if body is not None:
            retry = {} if retry_after is None else {"Retry-After": retry_after}
            connection.answer(code, {"Content-Type": content_type, **retry}, body.encode())
            return
        known = {
            401: objects.unauthorized(),
            404: objects.not_found("nodes", record["name"]),
            409: objects.modified("nodes", record["name"]),
            410: objects.expired("The provided continue parameter is too old."
                                 if "continue" in record["query"]
                                 else "The resourceVersion for the provided list is too old."),
            429: Refusal(429, "TooManyRequests", "Too many requests, please try again later.",
                         retry_after=1),
            503: Refusal(503, "ServiceUnavailable", "apiserver is shutting down"),
        }
        refusal = known.get(code) or Refusal(code, "InternalError", "Internal error occurred")
        if retry_after is not None:
            refusal.retry_after = retry_after
        self._refuse(connection, refusal)

    # -- watches -----------------------------------------------------------------------

    def watch_seconds(self, query):
        raw = query.get("timeoutSeconds", "")
        if raw and not raw.isdigit():
            raise objects.bad_request(f'strconv.ParseInt: parsing "{raw}": invalid syntax')
        return int(raw or 0) or random.uniform(*self.config["watch_seconds"])

    @contextlib.contextmanager
    def watching(self, watch):
        with self._lock:
            self._watches.add(watch)
        try:
            yield
        finally:
            with self._lock:
                self._watches.discard(watch)

    def watches(self):
        with self._lock:
            return list(self._watches)

    @staticmethod
    def drain(waker):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(waker)


def _list_body(metadata, snapshots, partial):
    kind = '"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1"' if partial else (
        '"kind":"NodeList","apiVersion":"v1"')
    # A partial item has its kind, a whole one has not.
    before = ("{" + objects.PARTIAL_KIND + "," if partial else "{").encode()
    head = f'{{{kind},"metadata":{go_json(metadata)},"items":['.encode()
    items = (b"," + before).join([s.tail(partial) for s in snapshots])
    return b"".join([head, before if snapshots else b"", items, b"]}\n"])


def _listen(port):
    """Both families where there are both."""
    try:
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        any_address = "::"
    except OSError:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        any_address = ""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((any_address, port))
    listener.listen(512)
    return listener


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        config = json.load(f)
    # Threads take turns often: the time from a change to its event is measured.
    sys.setswitchinterval(0.0005)
    api = Api(config)
    control = Control(api, config["control"])
    listener = _listen(config["port"])
    control.start()
    api.serve(listener)


if __name__ == "__main__":
    main()
