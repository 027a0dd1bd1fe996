# SPDX-License-Identifier: Apache-2.0
"""keeper.py - flanneld that keeps its rules beside those of others, watched by packets

The picture is in flows.py. Probes ask the rules of h1 with a new connection every few
milliseconds: a1 to outside (masqueraded?), a1 to a2 and a2 to a1 (left alone?), for both
families.
"""

import contextlib
import re

from . import firewall
from .firewall import LEGACY, NFT, NFTABLES, Tools
from .flows import Site
from .probe import Probe

FLAGS = ["--ip-masq", "--iptables-resync=1"]


class Keeper:
    """A Site beside Docker, flanneld in one mode; what is of ours on h1."""

    def __init__(self, lab, make, mode, others=("docker.rules",), tools=None):
        self.lab, self.mode, self.others = lab, mode, others
        self.tools = tools or Tools(lab, LEGACY if mode == LEGACY else NFT)
        self.site = Site(make)
        self.network = "10.5.0.0/16"
        self.h1 = self.site.h1

    def start(self):
        """Without rules first: others need the pods' addresses."""
        self.site.start()
        self.site.topo.stop()
        self.lay()
        for host in self.site.topo:
            self.start_flanneld(host)
        self.site.topo.wait_meshed()
        return self

    def lay(self, *hosts):
        """Rules of others, and no others, on those hosts (default: all)."""
        for host in hosts or self.site.topo:
            firewall.wipe(self.lab, host)
            words = self.site.words(host)
            for name in ["workload.rules", *self.others]:
                firewall.load(host, self.tools, name, words)

    def config(self, mode=None):
        self.mode = mode or self.mode
        self.site.topo.store.write_config({
            "Network": self.network, "EnableIPv6": True, "IPv6Network": "fc00:5::/48",
            "Backend": {"Type": "vxlan"}, "EnableNFTables": self.mode == NFTABLES,
            "nonMasqueradeCIDRs": self.site.keep,
        })

    def start_flanneld(self, host=None, *more, **kwargs):
        self.config()
        (host or self.h1).start_flanneld(*FLAGS, *more, env=self.tools.env, **kwargs)

    def restart(self, host=None):
        (host or self.h1).stop_flanneld()
        self.start_flanneld(host)

    def close(self):
        self.site.close()

    # -- what is there -----------------------------------------------------------------

    def everything(self):
        """All rules of h1, of everybody, as {table: {chain: [rule]}}."""
        found = {"nft": _nft_chains(self.h1)}
        for variant in (LEGACY, NFT):
            for v6 in (False, True):
                if variant == NFT and not self._nft_has(v6):
                    continue
                if variant == LEGACY and not self._legacy_has(v6):
                    continue
                lines = Tools(self.lab, variant).save(self.h1, v6)
                found[f"{variant}{'6' if v6 else '4'}"] = _chains(lines)
        return found

    def _legacy_has(self, v6):
        path = f"/proc/net/ip{'6' if v6 else ''}_tables_names"
        return self.h1.run("cat", path, check=False).stdout.strip() != ""

    def _nft_has(self, v6):
        family = "ip6" if v6 else "ip"
        return any(
            e["table"]["family"] == family and e["table"]["name"] in ("filter", "nat")
            for e in self.h1.nft_json() if "table" in e
        )

    def ours(self):
        """{place: [rules]} of what is ours, and what is wrongly placed before it."""
        found = {}
        for place, chains in self.everything().items():
            for chain, rules in chains.items():
                mine = [r for r in rules if "FLANNEL" in r or "flanneld" in r]
                if "FLANNEL" in chain or "flannel-ipv" in chain:
                    mine = list(rules)
                if not mine and "flannel-ipv" not in chain:
                    continue
                found[f"{place} {chain}"] = mine
                if "FORWARD" in chain or "POSTROUTING" in chain:
                    before = rules[: rules.index(mine[0])] if mine else []
                    found[f"before {place} {chain}"] = [
                        r for r in before if not re.search("DOCKER-(USER|ISOLATION-)|KUBE-", r)
                    ]
        return found

    # -- packets -----------------------------------------------------------------------

    @contextlib.contextmanager
    def probes(self, inside=True):
        """Yields {name: Answer}, which is filled at the end."""
        site, answers = self.site, {}
        a1, a2 = site.pods["a1"], site.pods["a2"]
        first, second = [], []
        for v6, word in ((False, "4"), (True, "6")):
            out = site.out_addresses[v6]
            first.append((f"leaving{word}", a1.ns, site.out, out, site.h1.addresses[v6]))
            if inside:
                b, a = a2.addresses[v6], a1.addresses[v6]
                first.append((f"inside{word}", a1.ns, a2.ns, b, a))
                second.append((f"coming{word}", a2.ns, a1.ns, a, b))
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(Probe(p)) for p in (first, second) if p]
            yield answers
        for probe in running:
            answers.update(probe.answers)

    def check_flows(self):
        """The flows that need no rule of others."""
        names = {
            "pod to pod, same host", "pod to pod, other host", "pod of the other host to pod",
            "pod to the other host", "pod to outside", "outside to pod", "outside to remote pod",
            "pod to a network that is not masqueraded", "host to remote pod",
            "host by its NIC's address to remote pod", "pod to multicast, forwarded",
        }
        problems = self.site.run([f for f in self.site.flows() if f.name in names])
        assert not problems, "\n".join(problems)


def _chains(lines):
    found, table = {}, None
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chain, policy = line[1:].split()
            found[f"{table} {chain}"] = []
            found[f"{table} {chain} policy"] = [policy]
        elif line.startswith("-A"):
            found[f"{table} {line.split()[1]}"].append(line)
    return found


def _nft_chains(host):
    """Tables that are not iptables-nft's, nor peer filters."""
    found, table, chain = {}, None, None
    for line in host.run("nft", "-s", "list", "ruleset").stdout.splitlines():
        if line.startswith("table "):
            table = line[6:].rstrip(" {")
            if table.split()[1] in ("filter", "nat", "mangle") or "weft-flannel" in table:
                table = None
            else:
                chain = table
        elif table and line.strip() not in ("", "}"):
            if line.strip().startswith("chain "):
                chain = f"{table} {line.split()[1]}"
                found[chain] = []
            else:
                found.setdefault(chain, []).append(line.strip())
    return found


def faultless(answers):
    """Every packet arrived, from where it should."""
    bad = [str(a) for a in answers.values() if a.lost or a.wrong]
    assert not bad, "\n".join(bad)
    assert all(a.sent > 5 for a in answers.values()), "\n".join(map(str, answers.values()))
