# SPDX-License-Identifier: Apache-2.0
"""Who sees whom under which address, in every mode, beside the rules of others.

The picture, and the flows with what is expected of them, are in lib/flows.py. All modes
must agree. That a wrong decision would be noticed is tested with decisions typed by hand.
"""

import pytest

from lib import firewall
from lib.firewall import LEGACY, MODES, NFT, NFTABLES, Tools
from lib.flows import Site

pytestmark = pytest.mark.needs("vxlan", "ipv6", "nat", "iptables")


def lay(site, tools, names, host=None):
    """The rules of others, on both hosts (or one), and nothing else."""
    for host in [host] if host else site.topo:
        firewall.wipe(site.topo.lab, host)
        words = site.words(host)
        for name in ["workload.rules", *names]:
            firewall.load(host, tools, name, words)


# -- does a wrong decision get noticed? ------------------------------------------------

@pytest.fixture(scope="module")
def hand_sites(topo_of):
    """{backend: Site}: flanneld has run, for the routes only."""
    sites = {}

    def get(backend):
        if backend not in sites:
            sites[backend] = Site(topo_of, backend).start("--iptables-forward-rules=false")
            for host in sites[backend].topo:  # it would put right what is typed here
                host.stop_flanneld()
        return sites[backend]

    yield get
    for site in sites.values():
        site.close()


# (what is wrong, backend, rules of others, a flow that must be found wrong)
WRONG = [
    (None, "vxlan", [], None),
    (None, "vxlan", ["docker.rules"], None),
    (None, "host-gw", [], None),
    ("1", "vxlan", [], "pod to outside, marked 0x4008"),
    ("mask", "vxlan", [], "pod to outside, marked 0x4008"),
    ("2", "vxlan", [], "pod to pod, other host"),
    ("3", "vxlan", [], "pod of the other host to pod"),
    ("4", "vxlan", [], "outside to pod by a port mapping"),
    ("swap4", "vxlan", [], "host by its NIC's address to remote pod"),
    ("keep", "vxlan", [], "pod to a network that is not masqueraded"),
    ("5", "vxlan", [], "pod to outside"),
    ("multicast", "vxlan", [], "pod to multicast, forwarded"),
    ("own", "host-gw", [], "host by its NIC's address to remote pod"),
    ("6", "vxlan", [], "host by its NIC's address to remote pod"),
    ("forward", "vxlan", ["docker.rules"], "pod to outside"),
    ("forward", "vxlan", ["firewalld.nft"], "pod to pod, other host"),
]


@pytest.mark.parametrize("mode", [LEGACY, NFTABLES])
@pytest.mark.parametrize("wrong,backend,others,name", WRONG)
def test_what_is_wrong_is_noticed(lab, hand_sites, mode, wrong, backend, others, name):
    site = hand_sites(backend)
    tools = Tools(lab, LEGACY if mode == LEGACY else NFT)
    lay(site, tools, others)
    for host in site.topo:
        firewall.by_hand(host, mode, tools, site.nets(host), site.keep, wrong)
    flows = [f for f in site.flows(firewall=bool(others)) if name in (None, f.name)]
    problems = site.run(flows, timeout=0.3 if wrong else 3)
    if wrong is None:
        assert not problems, "\n".join(problems)
    else:
        assert len(problems) == len(flows) >= 2, "\n".join(problems)


# -- flanneld's own --------------------------------------------------------------------

DOCKER, UFW = ["docker.rules"], ["ufw.rules"]
FIREWALLD, OLD_FIREWALLD = ["firewalld.nft"], ["firewalld-iptables.rules"]
OTHERS = {"plain": [], "docker": DOCKER, "firewalld": FIREWALLD,
          "firewalld-iptables": OLD_FIREWALLD, "ufw": UFW,
          "docker-firewalld": DOCKER + FIREWALLD}


@pytest.fixture(scope="module")
def sites(topo_of):
    """{backend: Site} with its pods, flanneld not running."""
    made = {}

    def get(backend):
        if backend not in made:
            made[backend] = Site(topo_of, backend).start()
            made[backend].topo.stop()
        return made[backend]

    yield get
    for site in made.values():
        site.close()


def start(site, mode, tools, *flags):
    site.start(*flags, env=tools.env, config={
        "EnableNFTables": mode == NFTABLES, "nonMasqueradeCIDRs": site.keep,
    })


def check(lab, site, mode, others, variant=None, flags=("--ip-masq",), only=None, **kwargs):
    """Rules of others, then flanneld, then packets."""
    tools = Tools(lab, variant or (LEGACY if mode == LEGACY else NFT))
    lay(site, tools, others)
    start(site, mode, tools, *flags)
    try:
        flows = [f for f in site.flows(firewall=bool(others), **kwargs)
                 if only is None or f.name in only]
        problems = site.run(flows)
        assert flows and not problems, "\n".join(problems)
    finally:
        site.topo.stop()


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("mode", MODES)
def test_flows(lab, sites, mode, others):
    check(lab, sites("vxlan"), mode, OTHERS[others])


@pytest.mark.parametrize("others", ["plain", "docker"])
@pytest.mark.parametrize("mode", MODES)
def test_flows_of_host_gw(lab, sites, mode, others):
    check(lab, sites("host-gw"), mode, OTHERS[others])


@pytest.mark.parametrize("others", ["docker", "ufw"])
def test_flows_of_nftables_beside_iptables_legacy(lab, sites, others):
    check(lab, sites("vxlan"), NFTABLES, OTHERS[others], variant=LEGACY)


@pytest.mark.parametrize("mode", MODES)
def test_flows_without_fully_random(lab, sites, mode):
    check(lab, sites("vxlan"), mode, [], flags=("--ip-masq", "--ip-masq-fully-random-disable"))


KEEP_THEIR_ADDRESS = {
    "pod to pod, same host", "pod to pod, other host", "pod of the other host to pod",
    "pod to its own host", "pod to outside", "outside to pod", "outside to pod by a port mapping",
    "pod to a network that is not masqueraded", "pod to multicast, forwarded",
    "outside to what is no pod",
}


@pytest.mark.parametrize("others", ["plain", "docker"])
@pytest.mark.parametrize("mode", MODES)
def test_flows_without_masquerade(lab, sites, mode, others):
    check(lab, sites("vxlan"), mode, OTHERS[others], flags=(), only=KEEP_THEIR_ADDRESS,
          masquerade=False)


@pytest.mark.parametrize("mode", MODES)
def test_without_forward_rules_nothing_is_accepted(lab, sites, mode):
    site = sites("vxlan")
    tools = Tools(lab, LEGACY if mode == LEGACY else NFT)
    lay(site, tools, DOCKER)
    start(site, mode, tools, "--ip-masq", "--iptables-forward-rules=false")
    try:
        flows = [f for f in site.flows() if f.name in ("pod to outside", "pod to pod, other host")]
        for flow in flows:
            flow.want, flow.replies = None, False
        assert site.run(flows) == []
    finally:
        site.topo.stop()
