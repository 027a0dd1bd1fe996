# SPDX-License-Identifier: Apache-2.0
"""Somebody changes our rules: they are restored, and said so once.

The picture is in lib/flows.py. While it happens, probes ask the rules of h1 with a new
connection every few milliseconds (lib/keeper.py).
"""

import re
import time

import pytest

from lib import firewall
from lib.expect import wait_equal
from lib.firewall import MODES, NFT, NFTABLES
from lib.keeper import Keeper

pytestmark = pytest.mark.needs("vxlan", "ipv6", "nat", "iptables")


@pytest.fixture(scope="module")
def keepers(lab, topo_of):
    """{mode: Keeper}, made when first asked for."""
    made = {}

    def get(mode):
        if mode not in made:
            made[mode] = Keeper(lab, topo_of, mode).start()
        return made[mode]

    yield get
    for keeper in made.values():
        keeper.close()


# -- damage ----------------------------------------------------------------------------

# Commands of iptables and ip6tables.
IPTABLES_DAMAGE = {
    "jump deleted": ["-t nat -D POSTROUTING 1"],
    "jump last": ["-t nat -D POSTROUTING 1", "-t nat -A POSTROUTING {masq} -j FLANNEL-POSTRTG"],
    "jump twice": ["-t nat -A POSTROUTING {masq} -j FLANNEL-POSTRTG"],
    "chain flushed": ["-t nat -F FLANNEL-POSTRTG"],
    "chain deleted": ["-t nat -D POSTROUTING 1", "-t nat -F FLANNEL-POSTRTG",
                      "-t nat -X FLANNEL-POSTRTG"],
    "rule deleted": ["-t nat -D FLANNEL-POSTRTG 2"],
    "rules reordered": ["-t nat -D FLANNEL-POSTRTG 4",
                        "-t nat -A FLANNEL-POSTRTG ! -s {net} -d {sub} {masq} -j RETURN"],
    "rule duplicated": ["-t nat -A FLANNEL-POSTRTG -s {net} -d {sub} {masq} -j RETURN"],
    "foreign rule in ours": ["-t nat -I FLANNEL-POSTRTG 3 -p tcp --dport 99 -j ACCEPT"],
    "foreign rule before ours": ["-t nat -I POSTROUTING 1 -p tcp --dport 99 -j ACCEPT"],
    "reject before ours": ["-I FORWARD 1 -j REJECT"],
    "forward chain flushed": ["-F FLANNEL-FWD"],
    "iptables -F": ["-F"],
    "iptables -t nat -F": ["-t nat -F"],
    "all of nat": ["-t nat -F", "-t nat -X"],
}
# In these a packet between pods may meet the masquerade decisions without its RETURN.
RETURN_IS_GONE = {"rule deleted", "rules reordered", "nft delete rule"}
# In these another's DROP may come first until ours is back.
FORWARD_IS_GONE = {"reject before ours", "forward chain flushed", "iptables -F",
                   "firewall reload", "nft flush ruleset", "nft delete table filter",
                   "firewall made anew"}


def hurt_iptables(keeper, lines):
    """All of one family at once: flanneld must not look between two steps, and repair twice."""
    comment = f'-m comment --comment "{firewall.MASQ}"'
    for v6, (net, sub) in keeper.site.nets(keeper.h1).items():
        table = "nat" if lines[0].startswith("-t nat ") else "filter"
        steps = [x.removeprefix("-t nat ").format(net=net, sub=sub, masq=comment) for x in lines]
        keeper.tools.restore(keeper.h1, v6, "\n".join([f"*{table}", *steps, "COMMIT", ""]))


NFT_DAMAGE = {
    "nft delete table": "delete table {t}",
    "nft flush table": "flush table {t}",
    "nft flush chain": "flush chain {t} postrtg",
    "nft delete chain": "delete chain {t} postrtg",
    "nft delete rule": "delete rule {t} postrtg handle {second}",
    "nft rule duplicated": "add rule {t} postrtg {ip} saddr {net} {ip} daddr {sub} return",
    "nft foreign rule": "insert rule {t} postrtg tcp dport 99 accept",
    "nft foreign chain": "add chain {t} mine",
    "nft another priority": "delete chain {t} postrtg; add chain {t} postrtg "
                            "{{ type nat hook postrouting priority 300; }}",
    "nft forward chain flushed": "flush chain {t} forward",
    "nft flush ruleset": "flush ruleset",
}


def hurt_nft(keeper, text):
    lines = []
    for v6, (net, sub) in keeper.site.nets(keeper.h1).items():
        ip, table = ("ip6", "ip6 flannel-ipv6") if v6 else ("ip", "ip flannel-ipv4")
        words = {"t": table, "ip": ip, "net": net, "sub": sub, "second": "0"}
        if "{second}" in text:
            listed = keeper.h1.run("nft", "-a", "list", "chain", *table.split(), "postrtg").stdout
            handles = re.findall(r"return.* # handle (\d+)", listed)
            words["second"] = handles[1]
        if text != "flush ruleset" or not v6:
            lines.append(text.format(**words).replace("; ", "\n", 1))
    keeper.h1.run("nft", "-f", "-", input="\n".join(lines) + "\n")


def reload_firewall(keeper, saved):
    """As firewall managers do it: the whole of each table, without ours."""
    for v6, lines in saved.items():
        keeper.tools.restore(keeper.h1, v6, "\n".join(lines) + "\n", noflush=False)


def foreign(keeper):
    return {
        v6: [line for line in keeper.tools.save(keeper.h1, v6)
             if "FLANNEL" not in line and "flanneld" not in line]
        for v6 in (False, True)
    }


def all_damage(mode):
    names = ["firewall reload"]
    names += list(NFT_DAMAGE) if mode == NFTABLES else list(IPTABLES_DAMAGE)
    if mode == NFTABLES:
        names += ["reject before ours", "iptables -F", "nft delete table filter"]
    if mode == NFT:
        names += ["nft flush ruleset", "nft delete table filter"]
    return names


def hurt(keeper, name, saved):
    if name == "firewall reload":
        reload_firewall(keeper, saved)
    elif name == "nft delete table filter":
        keeper.h1.run("nft", "-f", "-", input="delete table ip filter\ndelete table ip6 filter\n")
    elif name in IPTABLES_DAMAGE:
        hurt_iptables(keeper, IPTABLES_DAMAGE[name])
    else:
        hurt_nft(keeper, NFT_DAMAGE[name])


def check_words(keeper, name, lines):
    """Where it was, and who did it, as far as that can be known."""
    if keeper.mode == NFTABLES:
        assert all(re.search(r"nftables (table|chain) .*changed by \S+ \(pid", x) for x in lines)
    else:
        assert all(re.search("iptables.*, IPv[46]: .{8}", x) for x in lines), lines
    if name in ("jump deleted", "rule deleted", "chain deleted"):
        assert "FLANNEL-POSTRTG" in lines[0], lines


def after(keeper, name, before):
    """What is to be there then: in nftables mode a chain of others may have gone."""
    if keeper.mode == NFTABLES and name in ("nft flush ruleset", "nft delete table filter"):
        return {k: v for k, v in before.items() if "filter FORWARD" not in k}
    # Nothing stands before ours then: not what they stand behind otherwise.
    if name in ("reject before ours", "iptables -F", "nft flush ruleset",
                "nft delete table filter"):
        return {k: [x for x in v if "DOCKER-" not in x] for k, v in before.items()}
    return before


@pytest.mark.parametrize("mode,name", [(m, n) for m in MODES for n in all_damage(m)])
def test_damage_is_repaired(keepers, mode, name):
    keeper = keepers(mode)
    h1 = keeper.h1
    h1.allow_log("W", "Restored|peer filter|Repaired|were not logged")
    keeper.restart()  # more than a few repairs in ten seconds would be taken for a fight
    before, saved = keeper.ours(), foreign(keeper)
    start = h1.log_position()
    with keeper.probes() as answers:
        hurt(keeper, name, saved)
        # That it was damage is seen by what flanneld says: by now all may be right again.
        wait_equal(keeper.ours, after(keeper, name, before), 10)
        repaired = time.monotonic()
        if name not in FORWARD_IS_GONE:
            keeper.check_flows()
    if before == after(keeper, name, before):
        h1.wait_log("^W.*Restored", start)
        lines = [x for x in h1.log_text(start).splitlines() if re.match(r"W.*Restored", x)]
        assert 1 <= len(lines) <= 2, h1.log_text(start)  # one for each family
        check_words(keeper, name, lines)
    for answer in answers.values():
        if answer.name.startswith("leaving") or name in RETURN_IS_GONE:
            assert not answer.wrong_after(repaired), answer
        else:
            assert not answer.wrong, answer
        if name not in FORWARD_IS_GONE:
            assert not answer.lost, answer
    if foreign(keeper) != saved:
        reload_firewall(keeper, saved)
        wait_equal(keeper.ours, before, 10)
    keeper.check_flows()
