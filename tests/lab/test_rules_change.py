# SPDX-License-Identifier: Apache-2.0
"""We change the rules ourselves: restart, another mode, another subnet, takeover from
flannel. There is never a moment without rules, and nothing of before is left.

The picture is in lib/flows.py, the probes in lib/keeper.py: every packet that leaves h1 is
a new connection, and must arrive masqueraded; packets between pods never are.
"""

import os

import pytest

from lib import firewall
from lib.expect import wait_equal, wait_until
from lib.firewall import LEGACY, MODES, NFT, NFTABLES, Tools
from lib.keeper import Keeper, faultless

pytestmark = pytest.mark.needs("vxlan", "ipv6", "nat", "iptables")

OTHER_MODE = {LEGACY: NFTABLES, NFT: NFTABLES, NFTABLES: NFT}


@pytest.fixture(scope="module")
def keepers(lab, topo_of):
    """{mode: Keeper}; legacy iptables are in use only beside the first."""
    made = {}

    def get(mode):
        if mode not in made:
            made[mode] = Keeper(lab, topo_of, mode).start()
        keeper = made[mode]
        if keeper.h1.process is None:
            keeper.lay(keeper.h1)
            keeper.start_flanneld()
        return keeper

    yield get
    for keeper in made.values():
        keeper.close()


@pytest.fixture(params=MODES)
def keeper(request, keepers):
    keeper = keepers(request.param)
    yield keeper
    # The next test finds it as it was made, whatever this one left.
    if keeper.h1.process is not None:
        keeper.h1.stop_flanneld()
    keeper.mode = request.param


def test_a_restart(keeper):
    before = keeper.everything()
    with keeper.probes() as answers:
        for _ in range(3):
            keeper.restart()
            assert keeper.everything() == before
    faultless(answers)


def test_sigkill(keeper):
    before = keeper.everything()
    with keeper.probes() as answers:
        keeper.h1.kill_flanneld()
        keeper.start_flanneld()
        wait_equal(keeper.everything, before, 10)
    faultless(answers)


def test_another_mode_live_and_by_restart(keeper):
    first = keeper.everything()
    mode = keeper.mode
    seen = []
    with keeper.probes() as answers:
        keeper.config(OTHER_MODE[mode])
        wait_until(lambda: only(keeper, OTHER_MODE[mode]), 10)
        seen.append(keeper.everything())
        keeper.config(mode)
        wait_equal(keeper.everything, first, 10)
        for target, want in (OTHER_MODE[mode], seen[0]), (mode, first):
            keeper.h1.stop_flanneld()
            keeper.config(target)
            keeper.start_flanneld()
            wait_equal(keeper.everything, want, 10)
    faultless(answers)
    assert seen[0] != first


def only(keeper, mode):
    """Whether what is there is of this mode only."""
    ours = "\n".join(keeper.ours())
    tables, chains = "flannel-ipv4" in ours, "FLANNEL-POSTRTG" in ours
    return (tables and not chains) if mode == NFTABLES else (chains and not tables)


@pytest.mark.parametrize("layout", ["iptables", "v0.11", "nftables"])
def test_takeover_from_flannel(keeper, layout):
    want = keeper.everything()
    keeper.h1.stop_flanneld()
    keeper.lay(keeper.h1)
    firewall.lay_original(keeper.h1, keeper.tools, keeper.site.nets(keeper.h1), layout)
    if layout == "nftables":
        # With it alone Docker's policy would drop everything, before and after.
        for v6 in (False, True):
            keeper.tools.iptables(keeper.h1, v6, "-P", "FORWARD", "ACCEPT")
    with keeper.probes() as answers:
        keeper.start_flanneld()
        if layout == "nftables":
            for v6 in (False, True):
                keeper.tools.iptables(keeper.h1, v6, "-P", "FORWARD", "DROP")
        wait_equal(keeper.everything, want, 10)
    faultless(answers)
    keeper.check_flows()


class Either:
    """Tools for one variant, and a PATH for flanneld where the variant can be changed."""

    def __init__(self, lab):
        self.dir = os.path.join(lab.dir, "bin-either")
        os.mkdir(self.dir)
        self.tools = Tools(lab, NFT)
        self.tools.env = {**self.tools.env, "PATH": f"{self.dir}:{os.environ['PATH']}"}
        self.choose(NFT)

    def choose(self, variant):
        """As update-alternatives does it."""
        for name in os.listdir(self.tools.dir):
            new = os.path.join(self.dir, "new")
            os.symlink(f"/usr/sbin/xtables-{variant}-multi", new)
            os.rename(new, os.path.join(self.dir, name))


def test_another_variant_of_iptables_live(lab, make_topo):
    """Beside Docker on iptables-nft, whose FORWARD drops."""
    either = Either(lab)
    keeper = Keeper(lab, make_topo, NFT, tools=either.tools).start()

    def masquerade_in():
        return {place.split()[0] for place in keeper.ours() if "FLANNEL-POSTRTG" in place}

    for host in keeper.site.topo:
        host.allow_log("W", "Restored")  # a check amid the change finds half of each
    first = keeper.everything()
    with keeper.probes() as answers:
        either.choose(LEGACY)
        wait_equal(masquerade_in, {"legacy4", "legacy6"}, 10)
        either.choose(NFT)
        wait_equal(masquerade_in, {"nft4", "nft6"}, 10)
    faultless(answers)
    wait_equal(lambda: {k: v for k, v in keeper.everything().items() if "legacy" not in k},
               first, 10)
    keeper.close()


def test_another_subnet(keeper):
    """Lease and file are lost, and another subnet is reserved for h1: its pods are leftovers."""
    h1, store = keeper.h1, keeper.site.topo.store
    h1.stop_flanneld()
    old = h1.subnets()
    key, record = store.lease_of(h1.address)
    store.remove(key)
    new = "10.5.77.0-24&fc00:5:0:77::-64"
    store.put_lease(new, record)
    os.rename(h1.subnet_file, h1.subnet_file + ".old")
    try:
        with keeper.probes(inside=False) as answers:
            keeper.start_flanneld()
            assert [str(n) for n in h1.subnets()] == ["10.5.77.0/24", "fc00:5:0:77::/64"]
            wait_until(lambda: "10.5.77.0/24" in str(keeper.ours()), 10)
            wait_until(lambda: not any(str(n) in str(keeper.ours()) for n in old), 10)
        faultless(answers)
    finally:
        h1.stop_flanneld()
        store.remove(new)
        store.put_lease(key, record)
        os.rename(h1.subnet_file + ".old", h1.subnet_file)


def test_another_network(lab, make_topo):
    """Nothing of the old network is left in any table."""
    keeper = Keeper(lab, make_topo, NFT)
    keeper.site.start()
    keeper.site.topo.stop()
    keeper.lay()
    keeper.start_flanneld()
    for mode in MODES:
        keeper.h1.stop_flanneld()
        keeper.tools = Tools(lab, LEGACY if mode == LEGACY else NFT)
        keeper.config(mode)
        keeper.start_flanneld()
        keeper.h1.stop_flanneld()
        keeper.h1.allow_log("W", "Ignoring lease")
        keeper.network = "10.6.0.0/16"
        keeper.start_flanneld()
        wait_until(lambda: "10.6.0.0/16" in str(keeper.ours()), 10)
        wait_until(lambda: "10.5.0.0/16" not in str(keeper.ours()), 10)
        keeper.network = "10.5.0.0/16"
    keeper.close()
