# SPDX-License-Identifier: Apache-2.0
"""Kubernetes as the datastore: nodes, podCIDRs, annotations; nothing goes wrong.

     h1     h2     h3     k1 (API server)
    -+------+------+------+- sw1
"""

import os

import pytest

from lib import traffic
from lib.expect import wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan", "etcd")

CONFIG = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
PREFIX = "flannel.alpha.coreos.com"


def add_hosts(topo, kube):
    for i, host in enumerate(topo, 1):
        kube.add_node(host.name, f"10.5.{i}.0/24", address=host.address)


@pytest.fixture
def cluster(make_topo):
    """Hosts that are nodes, 10.5.1.0/24 and on; flanneld does not run yet."""

    def make(hosts=3, **how):
        topo = make_topo(hosts)
        kube = topo.kube(**how)
        add_hosts(topo, kube)
        return topo, kube

    return make


# -- what is written -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vxlan", "host-gw"])
def test_pods_of_three_nodes_reach_each_other(cluster, kind):
    topo, kube = cluster()
    topo.start({**CONFIG, "Backend": {"Type": kind}})
    traffic.assert_all_to_all(topo.pods())
    for i, host in enumerate(topo, 1):
        assert [str(s) for s in host.subnets()] == [f"10.5.{i}.0/24"]
        found = kube.annotations(host.name)
        assert found[f"{PREFIX}/kube-subnet-manager"] == "true"
        assert found[f"{PREFIX}/backend-type"] == kind
        assert found[f"{PREFIX}/public-ip"] == host.address
        condition = wait_until(lambda h=host: kube.condition(h.name))
        assert condition["status"] == "False" and condition["reason"] == "FlannelIsUp"
        assert condition["message"] == "Flannel is running on this node"


def vtep_mac(host, device="flannel.1"):
    return host.overlay()["devices"][device]["mac"]


def test_a_quiet_node_is_patched_twice(cluster):
    """One GET, one list, one watch, a PATCH of the annotations and one of the condition: and
    nothing more for heartbeats of others."""
    topo, kube = cluster(1)
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    topo.start(CONFIG)
    wait_until(lambda: kube.condition("h1"))
    wait_until(lambda: kube.watches())
    mark = kube.mark()
    kube.heartbeat(["n7"])
    kube.add_peer("n8", "10.5.8.0/24", "192.168.64.78", mac="02:00:00:00:00:08")
    wait_until(lambda: "10.5.8.0/24" in topo["h1"].pod_routes())
    assert [(r.method, r.name) for r in kube.requests(since=mark)] == [("GET", "n8")]
    assert len(kube.requests(method="PATCH")) == 2


def test_the_condition_waits_until_pods_may_run(cluster):
    """On clouds it takes away the taint that keeps them off."""
    topo, kube = cluster(1)
    host = topo["h1"]
    os.mkdir(host.subnet_file)  # in the way
    topo.allow_log("W", "Writing the subnet file failed|Ignoring the old subnet file")
    topo.store.write_config(CONFIG)
    host.start_flanneld(wait=False)
    wait_until(lambda: "flannel.alpha.coreos.com/public-ip" in kube.annotations("h1"))
    host.wait_log("Writing the subnet file failed", 0)
    assert not kube.condition("h1")
    os.rmdir(host.subnet_file)
    wait_until(lambda: kube.condition("h1"), 10)


def test_the_condition_is_left_alone_when_told_so(cluster):
    topo, kube = cluster(1)
    topo.start(CONFIG, "--set-node-network-unavailable=false")
    assert kube.condition("h1") is None
    assert kube.annotations("h1")[f"{PREFIX}/kube-subnet-manager"] == "true"


def test_the_condition_of_somebody_else_is_left_alone_when_told_so(cluster):
    """A cloud's route controller has its own opinion."""
    topo, kube = cluster(1)
    theirs = {"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"}
    kube.set_condition("h1", theirs)
    topo.start(CONFIG, "--set-node-network-unavailable=false")
    kube.annotate("h1", {f"{PREFIX}/backend-type": None})
    topo.allow_log("W", "changed by somebody else")
    wait_equal(lambda: kube.annotations("h1").get(f"{PREFIX}/backend-type"), "vxlan")
    assert theirs.items() <= kube.condition("h1").items()


def test_a_condition_that_says_otherwise_is_set_right(cluster):
    """The others of the list stay as they are."""
    topo, kube = cluster(1)
    kube.set_condition("h1", {"type": "NetworkUnavailable", "status": "True",
                              "reason": "NodeInitialization"})
    before = [c for c in kube.node("h1")["status"]["conditions"]
              if c["type"] != "NetworkUnavailable"]
    topo.start(CONFIG)
    wait_equal(lambda: kube.condition("h1")["reason"], "FlannelIsUp")
    assert before == [c for c in kube.node("h1")["status"]["conditions"]
                      if c["type"] != "NetworkUnavailable"]


@pytest.mark.parametrize("given, prefix", [
    ("weft.example", "weft.example/"), ("weft.example/", "weft.example/"),
    ("weft.example/net", "weft.example/net-"), ("weft.example/net-", "weft.example/net-")])
def test_another_annotation_prefix(cluster, given, prefix):
    """It is the only one that is read and written."""
    topo, kube = cluster(1)
    h1 = topo["h1"]
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    kube.add_node("n8", "10.5.8.0/24", annotations={
        f"{prefix}kube-subnet-manager": "true", f"{prefix}backend-type": "vxlan",
        f"{prefix}backend-data": '{"VNI":1,"VtepMAC":"02:00:00:00:00:08"}',
        f"{prefix}public-ip": "192.168.64.78"})
    kube.annotate("h1", {f"{prefix}public-ip-overwrite": "192.0.2.1",
                         f"{PREFIX}/public-ip-overwrite": "192.0.2.2"})
    topo.start(CONFIG, env={"FLANNELD_KUBE_ANNOTATION_PREFIX": given})
    found = kube.annotations("h1")
    assert found[f"{prefix}public-ip"] == "192.0.2.1"
    assert f"{PREFIX}/public-ip" not in found
    assert set(h1.pod_routes()) == {"10.5.8.0/24"}


@pytest.mark.needs("ipv6")
def test_dual_stack_and_peers_of_one_family(make_topo):
    topo = make_topo(2, ipv6=True)
    kube = topo.kube()
    for i, host in enumerate(topo, 1):
        kube.add_node(host.name, f"10.5.{i}.0/24", f"fd05:0:0:{i}::/64", address=host.address)
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    topo.start({**CONFIG, "EnableIPv6": True, "IPv6Network": "fd05::/48"})
    traffic.assert_all_to_all(topo.pods())
    found = kube.annotations("h1")
    assert found[f"{PREFIX}/public-ipv6"] == topo["h1"].address6
    assert "10.5.7.0/24" in topo["h1"].pod_routes()


@pytest.mark.needs("ipv6")
def test_the_families_of_a_peer_are_independent(make_topo):
    """One that makes no sense leaves the other as it is, and is taken once it does."""
    topo = make_topo(1, ipv6=True)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "Kubernetes: .*n7")
    kube.add_node("h1", "10.5.1.0/24", "fd05:0:0:1::/64", address=h1.address)
    data = {f"{PREFIX}/backend-v6-data": '{"VNI":1,"VtepMAC":"02:00:00:00:00:67"}'}
    kube.add_peer("n7", ["10.5.7.0/24", "fd05:0:0:7::/64"], "192.168.64.77",
                  mac="02:00:00:00:00:07", more={f"{PREFIX}/public-ipv6": "fd00:64::777777", **data})
    topo.start({**CONFIG, "EnableIPv6": True, "IPv6Network": "fd05::/48"})
    h1.wait_log("n7.*public-ipv6.*fd00:64::777777")
    wait_equal(lambda: set(h1.pod_routes()), {"10.5.7.0/24"})
    kube.annotate("n7", {f"{PREFIX}/public-ipv6": "fd00:64::77"})
    wait_equal(lambda: set(h1.pod_routes()), {"10.5.7.0/24", "fd05:0:0:7::/64"})
    kube.annotate("n7", {f"{PREFIX}/public-ip": "192.168.64.7777",
                         f"{PREFIX}/public-ipv6": "fd00:64::78"})
    wait_until(lambda: "fd00:64::78" in str(h1.overlay()))
    assert "192.168.64.77" in str(h1.overlay()), "what was known of IPv4 stays"
    kube.annotate("n7", {f"{PREFIX}/public-ip": "192.168.64.78"})
    wait_until(lambda: "192.168.64.78" in str(h1.overlay()))
    assert set(h1.pod_routes()) == {"10.5.7.0/24", "fd05:0:0:7::/64"}


@pytest.mark.needs("ipv6")
def test_ipv6_alone(make_topo):
    """The API's address and the overrides included."""
    topo = make_topo(2, ipv4=False, ipv6=True)
    kube = topo.kube()
    for i, host in enumerate(topo, 1):
        kube.add_node(host.name, f"fd05:0:0:{i}::/64", address=host.address6)
    topo.start({"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd05::/48",
                "Backend": {"Type": "vxlan"}})
    pods, before = topo.pods(), topo.overlays()
    traffic.assert_all_to_all(pods)
    found = kube.annotations("h1")
    assert found[f"{PREFIX}/public-ipv6"] == topo["h1"].address6
    assert f"{PREFIX}/public-ip" not in found
    kube.annotate("h1", {f"{PREFIX}/public-ipv6-overwrite": "2001:db8::1"})
    wait_equal(lambda: kube.annotations("h1")[f"{PREFIX}/public-ipv6"], "2001:db8::1")
    wait_until(lambda: "2001:db8::1" in str(topo["h2"].overlay()))
    kube.annotate("h1", {f"{PREFIX}/public-ipv6-overwrite": None})
    wait_equal(topo.overlays, before)
    traffic.assert_all_to_all(pods)


def test_only_flannels_nodes_are_peers(cluster):
    topo, kube = cluster(1)
    h1 = topo["h1"]
    kube.add_node("other", "10.5.9.0/24", address="192.168.64.99")
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    topo.start(CONFIG)
    wait_equal(lambda: set(h1.pod_routes()), {"10.5.7.0/24"})
    kube.annotate("n7", {f"{PREFIX}/kube-subnet-manager": None})
    wait_equal(lambda: set(h1.pod_routes()), set())
    kube.annotate("n7", {f"{PREFIX}/kube-subnet-manager": "true"})
    wait_equal(lambda: set(h1.pod_routes()), {"10.5.7.0/24"})


def test_a_peer_that_does_not_read_keeps_its_last_good_record(cluster):
    topo, kube = cluster(1)
    h1 = topo["h1"]
    topo.allow_log("W", "Kubernetes: .*n7")
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    topo.start(CONFIG)
    kube.annotate("n7", {f"{PREFIX}/public-ip": "192.168.64.7777"})
    h1.wait_log("n7.*public-ip.*7777.*stays")
    assert set(h1.pod_routes()) == {"10.5.7.0/24"}


def test_node_name_comes_before_the_pod(cluster):
    topo, kube = cluster(1)
    topo.start(CONFIG, env={"POD_NAME": "kube-flannel-ds-x7k", "POD_NAMESPACE": "kube-flannel"})
    assert not kube.requests(path=".*/pods/.*")


def test_pods_environment_names_the_node(cluster):
    topo, kube = cluster(1)
    h1 = topo["h1"]
    kube.add_pod("kube-flannel-ds-x7k", "h1")
    topo.start(CONFIG, env={"NODE_NAME": "", "POD_NAME": "kube-flannel-ds-x7k",
                            "POD_NAMESPACE": "kube-flannel"})
    assert str(h1.subnet()) == "10.5.1.0/24"


def test_alloc_watches_its_own_node_only(cluster):
    topo, kube = cluster(1)
    topo.allow_log("W", "changed by somebody else")
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    topo.start({**CONFIG, "Backend": {"Type": "alloc"}})
    watch = wait_until(lambda: kube.watches())[0]
    assert "fieldSelector" in watch.target
    assert not kube.requests(verb="list", target="(?!.*fieldSelector).*")
    kube.annotate("h1", {f"{PREFIX}/backend-type": None})
    wait_equal(lambda: kube.annotations("h1").get(f"{PREFIX}/backend-type"), "alloc")


# -- our node --------------------------------------------------------------------------


def test_a_podcidr_that_comes_late_is_waited_for(make_topo):
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "waiting for the podCIDR")
    kube.add_node("h1", address=h1.address)
    topo.store.write_config(CONFIG)
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "podCIDR: node h1 has none.*allocate-node-cidrs")
    kube.set_pod_cidrs("h1", "10.5.1.0/24")
    h1.wait_ready()
    assert str(h1.subnet()) == "10.5.1.0/24"


def test_a_podcidr_outside_of_network_names_both(make_topo):
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "10.9.1.0/24")
    kube.add_node("h1", "10.9.1.0/24", address=h1.address)
    topo.store.write_config(CONFIG)
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "podCIDR 10.9.1.0/24 of node h1 is outside of Network 10.5.0.0/16")
    topo.store.write_config({**CONFIG, "Network": "10.9.0.0/16"})
    h1.wait_ready()
    assert str(h1.subnet()) == "10.9.1.0/24"


def test_a_node_that_is_not_registered_yet(make_topo):
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube()
    topo.allow_log("W", "waiting for our node h1")
    topo.store.write_config(CONFIG)
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "node h1.*NODE_NAME")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    h1.wait_ready(20)


def test_what_is_wiped_is_put_back(cluster):
    topo, kube = cluster(2)
    topo.allow_log("W", "changed by somebody else")
    topo.start(CONFIG)
    before = kube.annotations("h1")
    ours = [name for name in before if name.startswith(PREFIX)]
    kube.annotate("h1", {name: None for name in ours})
    wait_equal(lambda: kube.annotations("h1"), before)
    topo["h1"].wait_log("changed by somebody else")
    kube.drop_condition("h1")
    wait_until(lambda: kube.condition("h1"), 20)
    # The one that was away for a moment was never missed.
    assert "10.5.1.0/24" in topo["h2"].pod_routes()


def test_somebody_else_writes_our_annotations_again_and_again(cluster):
    topo, kube = cluster(1)
    topo.allow_log("W", "changed by somebody else")
    topo.start(CONFIG)
    mark = kube.mark()
    name = f"{PREFIX}/backend-type"
    for _ in range(3):
        kube.annotate("h1", {name: "udp"})
        wait_equal(lambda: kube.annotations("h1")[name], "vxlan", 20)
    assert len(kube.requests(since=mark, method="PATCH")) == 3


def test_deleted_and_registered_anew_with_the_same_podcidr(cluster):
    topo, kube = cluster(2)
    topo.allow_log("W", "node h1")
    topo.start(CONFIG)
    pods, before = topo.pods(), topo.overlays()
    with traffic.Stream([pods]) as stream:
        kube.reregister("h1", "10.5.1.0/24", address=topo["h1"].address)
        wait_until(lambda: f"{PREFIX}/public-ip" in kube.annotations("h1"))
        topo.follow_the_store()
        kube.delete_node("n-10.5.77.0-24")
        wait_equal(topo.overlays, before)
    assert stream.report.lost == 0, stream.report


def test_deleted_keeps_the_subnet_until_it_is_another(cluster):
    topo, kube = cluster(2)
    h1, h2 = topo.hosts
    topo.allow_log("W", "node h1|Our lease is|pods")
    topo.start(CONFIG)
    kube.delete_node("h1")
    h1.wait_readyz(200, "node h1: it was deleted; keeping its subnet")
    wait_equal(lambda: set(h2.pod_routes()), set())
    assert str(h1.subnet()) == "10.5.1.0/24" and set(h1.pod_routes()) == {"10.5.2.0/24"}
    kube.add_node("h1", "10.5.100.0/24", address=h1.address)
    wait_equal(lambda: str(h1.subnet()), "10.5.100.0/24")
    wait_equal(lambda: set(h2.pod_routes()), {"10.5.100.0/24"})
    h1.wait_readyz(200)


def test_the_address_to_publish_is_overwritten_while_running(cluster):
    topo, kube = cluster(2)
    topo.start(CONFIG)
    wait_equal(lambda: topo.store.lease("h1")["PublicIP"], topo["h1"].address)
    kube.annotate("h1", {f"{PREFIX}/public-ip-overwrite": "192.0.2.1"})
    wait_equal(lambda: topo.store.lease("h1")["PublicIP"], "192.0.2.1")
    wait_until(lambda: "192.0.2.1" in str(topo["h2"].overlay()))
    kube.annotate("h1", {f"{PREFIX}/public-ip-overwrite": None})
    wait_equal(lambda: topo.store.lease("h1")["PublicIP"], topo["h1"].address)


def test_the_node_public_ip_is_as_public_ip(cluster):
    topo, kube = cluster(1)
    h1 = topo["h1"]
    h1.ip("addr add 192.168.64.201/24 dev eth0", "addr add 192.168.64.202/24 dev eth0")
    kube.annotate("h1", {f"{PREFIX}/node-public-ip": "192.168.64.201"})
    topo.start(CONFIG)
    assert topo.store.lease("h1")["PublicIP"] == "192.168.64.201"
    assert not kube.requests(method="PATCH", body=".*" + h1.address.replace(".", r"\.") + '".*')
    kube.annotate("h1", {f"{PREFIX}/node-public-ip": "192.168.64.202"})
    wait_equal(lambda: topo.store.lease("h1")["PublicIP"], "192.168.64.202")
    kube.annotate("h1", {f"{PREFIX}/node-public-ip": None})
    wait_equal(lambda: topo.store.lease("h1")["PublicIP"], h1.address)


@pytest.mark.needs("ipv6")
def test_the_node_public_ipv6_is_as_public_ipv6(make_topo):
    topo = make_topo(1, ipv6=True)
    h1, kube = topo["h1"], topo.kube()
    h1.ip("addr add fd00:64::201/64 dev eth0 nodad", "addr add fd00:64::202/64 dev eth0 nodad")
    kube.add_node("h1", "10.5.1.0/24", "fd05:0:0:1::/64", address=h1.address, annotations={
        f"{PREFIX}/node-public-ipv6": "fd00:64::201"})
    topo.start({**CONFIG, "EnableIPv6": True, "IPv6Network": "fd05::/48"})
    assert topo.store.lease("h1")["PublicIPv6"] == "fd00:64::201"
    assert topo.store.lease("h1")["PublicIP"] == h1.address
    kube.annotate("h1", {f"{PREFIX}/node-public-ipv6": None})
    # Which one it is of several is the kernel's order.
    wait_until(lambda: topo.store.lease("h1")["PublicIPv6"] != "fd00:64::201")


@pytest.mark.parametrize("name, value", [
    ("public-ip-overwrite", "192.0.2.999"), ("node-public-ip", "fd00::1")])
def test_what_an_admin_wants_makes_no_sense(cluster, name, value):
    """It is ignored, with a line that names it; also while running."""
    topo, kube = cluster(1)
    h1 = topo["h1"]
    topo.allow_log("W", f"node h1: .*{name}")
    kube.annotate("h1", {f"{PREFIX}/{name}": value})
    topo.start(CONFIG)
    h1.wait_log(f"^W.*node h1: annotation {name}: .*{value}.*; ignoring it")
    assert topo.store.lease("h1")["PublicIP"] == h1.address
    kube.annotate("h1", {f"{PREFIX}/{name}": "x"})
    h1.wait_log(f"^W.*node h1: annotation {name}: .*x.*; ignoring it")
    assert topo.store.lease("h1")["PublicIP"] == h1.address


def test_the_condition_stays_at_the_end(cluster):
    topo, kube = cluster(1)
    topo.start(CONFIG)
    node = kube.node("h1")
    topo["h1"].stop_flanneld()
    assert kube.node("h1") == node


def test_the_mac_is_that_of_the_annotations(cluster):
    """After a reboot without a state on disk: peers need not learn another one."""
    topo, kube = cluster(1)
    h1 = topo["h1"]
    kube.annotate("h1", {f"{PREFIX}/kube-subnet-manager": "true",
                         f"{PREFIX}/backend-type": "vxlan",
                         f"{PREFIX}/backend-data": '{"VNI":1,"VtepMAC":"02:12:34:56:78:9a"}',
                         f"{PREFIX}/public-ip": "192.168.64.250"})
    topo.start(CONFIG)
    assert vtep_mac(h1) == "02:12:34:56:78:9a"
    assert topo.store.lease("h1")["PublicIP"] == h1.address


# -- the config ------------------------------------------------------------------------


def test_the_configmap_is_updated(cluster):
    topo, kube = cluster(2)
    h1, h2 = topo.hosts
    topo.allow_log("W", "Ignoring lease")  # one of them is first
    topo.start(CONFIG)
    assert "flannel.1" in h1.pod_routes()["10.5.2.0/24"]
    topo.store.write_config({**CONFIG, "Backend": {"Type": "host-gw"}})
    wait_until(lambda: "eth0" in h1.pod_routes()["10.5.2.0/24"])
    wait_equal(lambda: topo.store.lease("h2")["BackendType"], "host-gw")


def test_a_configmap_that_is_wrong_leaves_the_last_good_one(cluster):
    topo, kube = cluster(1)
    h1 = topo["h1"]
    topo.allow_log("WE", "net-conf.json")
    topo.start(CONFIG)
    topo.store.write("config", "{ nothing")
    h1.wait_readyz(200, "net-conf.json")
    topo.store.write_config({**CONFIG, "Backend": {"Type": "vxlan", "VNI": 7}})
    wait_until(lambda: "flannel.7" in h1.overlay()["devices"])


def test_no_configmap_yet(cluster):
    topo, kube = cluster(1)
    h1 = topo["h1"]
    topo.allow_log("W", "net-conf.json")
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "waiting for the network config: .*net-conf.json does not exist")
    topo.store.write_config(CONFIG)
    h1.wait_ready(20)
