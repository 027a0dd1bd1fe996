# SPDX-License-Identifier: Apache-2.0
"""The API server fails in every way it knows; the pods' traffic never notices.

     h1     h2     k1 (API server)
    -+------+------+- sw1
"""

import os
import re

import pytest

from lib import traffic
from lib.expect import wait_equal, wait_until
from lib.kube_volume import in_pod

pytestmark = pytest.mark.needs("vxlan", "etcd")

CONFIG = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
PREFIX = "flannel.alpha.coreos.com"
STALE = "stale|using the state of"


class Net:
    """Two hosts and an API server, up and with pods; what a fault must leave as it was."""

    def __init__(self, topo, **how):
        self.topo = topo
        self.kube = topo.kube(**how)
        topo.allow_log("W", "Kubernetes|[Dd]atastore|vanished|older than before")
        for i, host in enumerate(topo, 1):
            self.kube.add_node(host.name, f"10.5.{i}.0/24", address=host.address)
        topo.start(CONFIG)
        wait_until(lambda: len(self.kube.watches()) == len(topo.hosts))
        self.pods, self.overlays = topo.pods(), topo.overlays()
        self.stream = traffic.Stream.all_to_all(self.pods)
        self.begun = 0

    def __enter__(self):
        self.stream.start()
        return self

    def __exit__(self, kind, value, trace):
        self.stream.__exit__(kind, value, trace)
        if kind is None:
            assert self.stream.report.lost == 0, self.stream.report

    def follows(self, timeout=20.0):
        """New peers are seen, and go; nothing else has changed."""
        self.begun += 1
        n = 70 + self.begun
        self.topo.follow_the_store(n, timeout)
        self.topo.store.remove(f"10.5.{n}.0-24")
        wait_equal(self.topo.overlays, self.overlays, timeout)
        for host in self.topo:
            host.wait_readyz(200, r"\A(?!.*keeping what is known)", timeout)


@pytest.fixture
def net(make_topo):
    with Net(make_topo(2)) as net:
        yield net


def peer(net, n, mac=None):
    net.kube.add_peer(f"n{n}", f"10.5.{n}.0/24", f"192.168.64.{n}",
                      mac=mac or f"02:00:00:00:00:{n}")


def sees(net, n, timeout=20.0):
    for host in net.topo:
        wait_until(lambda h=host: f"10.5.{n}.0/24" in h.pod_routes(), timeout)


# -- the server goes and comes ---------------------------------------------------------


def test_it_is_killed_and_replaced_under_churn(net):
    for n in range(50, 53):
        peer(net, n)
        net.kube.kill()
        for host in net.topo:
            host.wait_readyz(200, "keeping what is known")
        net.kube.start()
        peer(net, n + 10)
        sees(net, n)
        sees(net, n + 10)
        for name in (f"n{n}", f"n{n + 10}"):
            net.kube.delete_node(name)
    net.follows()


def test_it_is_restored_from_a_backup(net):
    """Nodes and resourceVersion go back: what was not there then is asked about twice."""
    backup = net.kube.backup()
    net.kube.bump(100)
    peer(net, 50)
    sees(net, 50)
    net.kube.restore(backup)
    peer(net, 51)
    sees(net, 51)
    net.topo["h1"].wait_log("older than before")
    net.kube.delete_node("n51")
    wait_equal(net.topo.overlays, net.overlays, 60)
    net.follows()


def test_it_stops_answering(net):
    """SIGSTOP: connections stand, the kernel still acknowledges what is sent."""
    net.kube.pause()
    for host in net.topo:
        host.wait_readyz(200, "keeping what is known", 60)
    net.kube.resume()
    net.follows()


def test_its_packets_vanish(net):
    net.kube.cut_off(net.topo["h1"])
    net.topo["h1"].wait_readyz(200, "keeping what is known", 60)
    net.kube.let_in()
    net.follows(40)


# -- the history -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["event", "status"])
def test_the_history_is_gone(net, how):
    """410, in both of its forms, after events that were never heard."""
    mark = net.kube.mark()
    if how == "status":
        net.kube.fault("status", code=410, times=2, verb="watch")
    for host in net.topo:
        net.kube.cut_off(host)
    peer(net, 50)
    net.kube.bump(5)
    net.kube.compact()
    net.kube.end_watches("reset")
    net.kube.let_in()
    sees(net, 50, 60)
    assert len(net.kube.requests(since=mark, verb="list", target=".*limit=500.*")) >= 2
    net.kube.delete_node("n50")
    net.follows()


def test_a_bookmark_is_where_the_next_watch_begins(make_topo):
    """A watch of few nodes hears of little, and would be too old when it is resumed."""
    topo = make_topo(1)
    kube = topo.kube()
    kube.add_node("h1", "10.5.1.0/24", address=topo["h1"].address)
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    topo.start({**CONFIG, "Backend": {"Type": "alloc"}})
    watch = wait_until(kube.watches)[0]
    for _ in range(5):
        kube.heartbeat(["n7"])
    # All that is to be told before the bookmark is: what is sent from now on is that.
    wait_until(lambda: kube.watches()[0].cursor == kube.rv())
    told = kube.watches()[0].sent
    kube.bookmark()
    wait_until(lambda: kube.watches()[0].sent > told)
    rv, mark = kube.compact(), kube.mark()
    kube.end_watches("clean")
    later = wait_until(lambda: kube.requests(since=mark, verb="watch"))[0]
    assert later.query["resourceVersion"] == rv != watch.query["resourceVersion"]
    assert not kube.requests(since=mark, verb="list")


def test_what_a_watch_asks_for(net):
    watches = net.kube.watches()
    seconds = [int(w.query["timeoutSeconds"]) for w in watches]
    assert len(seconds) == 2 and all(300 <= s <= 600 for s in seconds)
    for w in watches:
        assert w.query["allowWatchBookmarks"] == "true" and w.query["resourceVersion"] != "0"
        if not net.kube.real:
            assert "as=PartialObjectMetadata" in w.headers["accept"]
            assert w.headers["accept"].endswith(",application/json")
    # The server ends them in its time: the next begins without a list.
    if not net.kube.real:
        mark = net.kube.mark()
        net.kube.end_watches("clean")
        # Those that end are counted for a moment longer.
        wait_until(lambda: len(net.kube.requests(since=mark, verb="watch")) == 2)
        assert not net.kube.requests(since=mark, verb="list")


def test_a_list_comes_in_pages(make_topo):
    topo = make_topo(1)
    kube = topo.kube()
    kube.add_node("h1", "10.5.1.0/24", address=topo["h1"].address)
    kube.add_nodes([{"name": f"m{i}", "pod_cidrs": [], "small": True} for i in range(1100)])
    kube.add_peer("z7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    topo.start(CONFIG)
    wait_equal(lambda: set(topo["h1"].pod_routes()), {"10.5.7.0/24"})
    pages = kube.requests(verb="list")
    assert [p.query["limit"] for p in pages] == ["500"] * 3
    assert ["continue" in p.query for p in pages] == [False, True, True]


def test_a_list_expires_between_two_pages(make_topo):
    topo = make_topo(1)
    kube = topo.kube()
    topo.allow_log("W", "Kubernetes|[Dd]atastore")
    kube.add_node("h1", "10.5.1.0/24", address=topo["h1"].address)
    kube.add_nodes([{"name": f"m{i}", "pod_cidrs": [f"10.5.{i}.0/24"], "small": True,
                     "annotations": {f"{PREFIX}/kube-subnet-manager": "true",
                                     f"{PREFIX}/backend-type": "vxlan",
                                     f"{PREFIX}/public-ip": f"192.168.66.{i}",
                                     f"{PREFIX}/backend-data":
                                         f'{{"VNI":1,"VtepMAC":"02:00:00:00:01:{i:02x}"}}'}}
                    for i in range(2, 250)]
                   + [{"name": f"z{i}", "pod_cidrs": [], "small": True} for i in range(400)])
    kube.fault("slow", seconds=0, verb="list")
    second = kube.fault("slow", seconds=3, verb="list")  # time for all that happens meanwhile
    topo.store.write_config(CONFIG)
    topo["h1"].start_flanneld(wait=False)
    wait_until(lambda: kube.fault_used(second))
    kube.add_peer("n1", "10.5.251.0/24", "192.168.66.251", mac="02:00:00:00:01:fb")
    kube.bump()
    kube.compact()
    topo["h1"].wait_ready(20)
    wait_equal(lambda: len(topo["h1"].pod_routes()), 249, 20)
    assert kube.requests(verb="list", status="410")
    assert len(kube.requests(verb="list", status="200")) >= 2


# -- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 500, 503])
def test_it_has_too_much_to_do(make_topo, code):
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "Kubernetes|[Dd]atastore")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    peer_of = ("n7", "10.5.7.0/24", "192.168.64.77")
    kube.add_peer(*peer_of, mac="02:00:00:00:00:07")
    for verb in ("get", "list", "watch", "patch"):
        kube.fault("status", code=code, retry_after=1, times=1, verb=verb)
    topo.store.write_config(CONFIG)
    h1.start_flanneld(timeout=30)
    wait_equal(lambda: kube.annotations("h1").get(f"{PREFIX}/backend-type"), "vxlan", 20)
    wait_until(kube.watches, 20)
    refused = kube.requests(status=str(code))
    assert len(refused) == 4
    for r in refused:
        later = [x.at for x in kube.requests(verb=r.verb) if x.at > r.at]
        assert later and min(later) - r.at >= 1.0, r


def test_no_right_to_patch_names_the_rule(make_topo):
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "nodes/status")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    rules = kube.rules["system:serviceaccount:kube-flannel:flannel"]
    kube.set_rules([r for r in rules if "nodes/status" not in r["resources"]])
    topo.store.write_config(CONFIG)
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "403.*nodes/status", 10)
    kube.set_rules(rules)
    wait_equal(lambda: kube.annotations("h1").get(f"{PREFIX}/backend-type"), "vxlan", 40)
    h1.wait_ready(20)


# -- transfers -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [
    {"kind": "cut_event"}, {"kind": "cut_event", "reset": True}, {"kind": "duplicate"},
    {"kind": "reorder"}, {"kind": "garbage", "text": "{]"}, {"kind": "error", "code": 500},
    {"kind": "error", "code": 410, "reason": "Expired"}, {"kind": "error", "code": 504}],
    ids=str)
def test_events_are_damaged(net, fault):
    fault = dict(fault)
    number = net.kube.fault(fault.pop("kind"), times=2, **fault)
    for n in range(50, 53):
        peer(net, n)
    for n in range(50, 53):
        sees(net, n)
    assert net.kube.fault_used(number) == 2
    for n in range(50, 53):
        net.kube.delete_node(f"n{n}")
    net.follows()


def test_old_and_new_of_one_node_are_told_in_the_wrong_order(net):
    peer(net, 50)
    sees(net, 50)
    number = net.kube.fault("reorder", times=2)
    net.kube.annotate("n50", {f"{PREFIX}/public-ip": "192.168.64.61"})
    # One for the watch of each host: else one watch is told neither.
    wait_equal(lambda: net.kube.fault_used(number), 2)
    net.kube.annotate("n50", {f"{PREFIX}/public-ip": "192.168.64.62"})
    for host in net.topo:
        wait_until(lambda h=host: "192.168.64.62" in str(h.overlay()))
    net.kube.delete_node("n50")
    net.follows()
    assert "192.168.64.61" not in str(net.topo.overlays())


def test_whole_objects_instead_of_partial_ones(net):
    net.kube.settings(partial=False)
    net.kube.end_watches("clean")
    net.follows()


@pytest.mark.parametrize("verb", ["list", "watch", "get", "patch"])
def test_another_content_type_is_claimed(net, verb):
    number = net.kube.fault("content_type", times=None, verb=verb, value="text/html")
    net.topo.allow_log("W", "changed by somebody else")
    net.kube.bump()
    net.kube.compact()
    net.kube.end_watches("reset")
    net.kube.annotate("h1", {f"{PREFIX}/backend-type": None})
    wait_equal(lambda: net.kube.annotations("h1").get(f"{PREFIX}/backend-type"), "vxlan", 20)
    net.follows()
    assert net.kube.fault_used(number)


@pytest.mark.parametrize("sizes", [[1], [1000, 3], [16384]], ids=str)
def test_answers_come_in_pieces(net, sizes):
    """Small ones without a pause: TCP joins some of them, in another way each time."""
    net.kube.fault("split", times=None, sizes=sizes, pause=0)
    net.kube.end_watches("cut")
    net.follows()


@pytest.mark.parametrize("verb", ["list", "watch", "get"])
def test_answers_are_cut_short(net, verb):
    number = net.kube.fault("cut", times=2, verb=verb, after=700)
    net.kube.compact()
    net.kube.bump()
    net.kube.end_watches("reset")
    net.follows(40)
    if verb != "list":
        assert net.kube.fault_used(number) >= 1


# -- who we are ------------------------------------------------------------------------


def test_the_token_is_rotated_and_the_old_one_refused(make_topo):
    """In a pod: the file is another one all of a sudden."""
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "Kubernetes|[Dd]atastore|changed by")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    directory = kube.service_account(os.path.join(kube.dir, "sa"))
    tokenfile = f"    tokenFile: {directory}/token\n"
    topo.store.flags[1] = f"--kubeconfig-file={kube.kubeconfig('rotated', user=tokenfile)}"
    topo.start(CONFIG)
    for n in (50, 51):
        kube.rotate_token()
        kube.end_watches("reset")
        kube.add_peer(f"n{n}", f"10.5.{n}.0/24", f"192.168.64.{n}", mac=f"02:00:00:00:00:{n}")
        wait_until(lambda n=n: f"10.5.{n}.0/24" in h1.pod_routes(), 20)
    kube.annotate("h1", {f"{PREFIX}/backend-type": None})
    wait_equal(lambda: kube.annotations("h1").get(f"{PREFIX}/backend-type"), "vxlan", 20)


def test_credentials_that_nobody_accepts(make_topo):
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "401")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    topo.store.flags[1] = f"--kubeconfig-file={kube.kubeconfig('wrong', token='nobody')}"
    topo.store.write_config(CONFIG)
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "401: it does not accept")


# -- it is away at the start -----------------------------------------------------------


def reboot(host):
    """What is in memory is lost: devices and routes of the overlay, /run."""
    host.stop_flanneld()
    host.ip("link del flannel.1", force=True)
    host.ip("route flush proto 87", force=True)
    os.unlink(host.subnet_file)


def test_the_last_good_state_is_in_force_at_once(make_topo):
    topo = make_topo(2)
    kube = topo.kube()
    topo.allow_log("W", "Kubernetes|[Dd]atastore|No network config|[Vv]anished")
    for i, host in enumerate(topo, 1):
        kube.add_node(host.name, f"10.5.{i}.0/24", address=host.address)
    topo.start(CONFIG)
    before, pods = topo.overlays(), topo.pods()
    kube.kill()
    for host in topo:
        reboot(host)
        host.start_flanneld(wait=False)
    wait_equal(topo.overlays, before)
    traffic.assert_all_to_all(pods)
    for host in topo:
        host.wait_readyz(200, STALE)
    with traffic.Stream([pods]) as stream:
        kube.start()
        for host in topo:
            wait_until(lambda h=host: not re.search(STALE, h.get("/readyz")[1]), 40)
        topo.follow_the_store()
        kube.delete_node("n-10.5.77.0-24")
        wait_equal(topo.overlays, before)
    assert stream.report.lost == 0, stream.report


def test_a_first_start_waits_for_it(make_topo):
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "Kubernetes|[Dd]atastore|refused")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    kube.kill()
    topo.store.write_config(CONFIG)
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "connection refused")
    kube.start()
    h1.wait_ready(30)


# -- in a pod --------------------------------------------------------------------------


def test_in_a_pod_with_a_token_that_is_rotated(make_topo):
    """The kubelet's files, swapped as a whole; after each swap the old token is refused."""
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "Kubernetes|[Dd]atastore|changed by")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    directory = kube.service_account(os.path.join(kube.dir, "sa"))
    topo.store.flags = [f for f in topo.store.flags if "kubeconfig" not in f]
    topo.start(CONFIG, env=kube.in_cluster(),
               wrap=in_pod(directory))
    assert kube.annotations("h1")[f"{PREFIX}/public-ip"] == h1.address
    h1.wait_log("the pod's environment")
    for n in (50, 51):
        kube.rotate_token()
        kube.end_watches("reset")
        kube.add_peer(f"n{n}", f"10.5.{n}.0/24", f"192.168.64.{n}", mac=f"02:00:00:00:00:{n}")
        wait_until(lambda n=n: f"10.5.{n}.0/24" in h1.pod_routes(), 20)
    # Another authority altogether.
    kube.new_authority()
    kube.restart()
    topo.follow_the_store()


def test_a_certificate_of_another_authority(net):
    """kubeconfigs do not learn of it: the words say so, and what is known stays."""
    net.kube.new_authority()
    net.kube.restart()
    for host in net.topo:
        host.wait_readyz(200, "keeping what is known.*certificate", 20)
    assert net.topo.overlays() == net.overlays


# -- flanneld itself -------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["get", "patch", "list", "watch"])
def test_flanneld_is_killed_in_the_middle_of_a_step(make_topo, verb):
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    topo.store.write_config(CONFIG)
    fault = kube.fault("silent", verb=verb)
    h1.start_flanneld(wait=False)
    wait_until(lambda: kube.fault_used(fault))
    h1.kill_flanneld()
    h1.start_flanneld()
    wait_equal(lambda: set(h1.pod_routes()), {"10.5.7.0/24"})
    wait_equal(lambda: kube.annotations("h1").get(f"{PREFIX}/public-ip"), h1.address)
    wait_until(lambda: kube.condition("h1"))
