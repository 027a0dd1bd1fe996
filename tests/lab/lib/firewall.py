# SPDX-License-Identifier: Apache-2.0
"""firewall.py - rules of others on a host, the tools they are made with, and ours by hand

A Tools is one variant of iptables: a directory for PATH in which iptables, iptables-save
and so on are of that variant. Rule sets of others are files in tests/lab/rules.

by_hand() types the decisions that flanneld should make: with it the tests of this module
prove that they notice when one is missing or wrong.
"""

import os
import string

_RULES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "rules")
_NAMES = ["iptables", "iptables-save", "iptables-restore"]
_NAMES += [n.replace("ip", "ip6", 1) for n in _NAMES]

LEGACY, NFT, NFTABLES = "legacy", "nft", "nftables"
MODES = [LEGACY, NFT, NFTABLES]  # flanneld's: iptables of two variants, and its own tables


class Tools:
    """iptables of one variant; the lock file is this run's own."""

    def __init__(self, lab, variant):
        self.variant = variant
        self.dir = os.path.join(lab.dir, f"bin-{variant}")
        self.lock = os.path.join(lab.dir, "xtables.lock")
        if not os.path.isdir(self.dir):
            os.makedirs(self.dir)
            for name in _NAMES:
                os.symlink(f"/usr/sbin/xtables-{variant}-multi", os.path.join(self.dir, name))
        self.env = {
            "PATH": f"{self.dir}:{os.environ['PATH']}",
            "XTABLES_LOCKFILE": self.lock,
        }

    def _program(self, v6, name):
        name = name.replace("ip", "ip6", 1) if v6 else name
        return ["env", f"XTABLES_LOCKFILE={self.lock}", os.path.join(self.dir, name)]

    def iptables(self, host, v6, *args):
        return host.run(*self._program(v6, "iptables"), "-w", *args).stdout

    def save(self, host, v6):
        """What iptables-save prints, without counters and comments (dates)."""
        text = host.run(*self._program(v6, "iptables-save")).stdout
        return [
            line.rsplit(" [", 1)[0] if line.startswith(":") else line
            for line in text.splitlines()
            if not line.startswith("#")
        ]

    def restore(self, host, v6, text, noflush=True):
        options = ["--noflush"] if noflush else []
        options += ["-w"] if self.variant == LEGACY else []
        host.run(*self._program(v6, "iptables-restore"), *options, input=text)


def wipe(lab, host):
    """No rule of anybody is left, but for flanneld's peer filters."""
    tables = [e["table"] for e in host.nft_json() if "table" in e]
    host.run("nft", "-f", "-", input="".join(
        f"delete table {t['family']} {t['name']}\n" for t in tables
        if not t["name"].startswith("weft-flannel")
    ))
    legacy = Tools(lab, LEGACY)
    for v6 in (False, True):
        # Asking would create the tables: only those that are in use.
        path = f"/proc/net/ip{'6' if v6 else ''}_tables_names"
        names = host.run("cat", path, check=False).stdout.split()
        builtin = {
            "filter": ["INPUT", "FORWARD", "OUTPUT"],
            "nat": ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            "mangle": ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        }
        text = "".join(
            f"*{name}\n" + "".join(f":{c} ACCEPT [0:0]\n" for c in builtin[name]) + "COMMIT\n"
            for name in names if name in builtin
        )
        if text:
            legacy.restore(host, v6, text, noflush=False)


# -- rule sets of others ---------------------------------------------------------------

_WORDS = {
    False: {
        "docker_net": "172.17.0.0/16", "docker_pod": "172.17.0.2/32",
        "docker_target": "172.17.0.2:80", "loopback": "127.0.0.0/8", "icmp": "icmp",
        "prohibited": "icmp-host-prohibited", "ufw": "ufw",
    },
    True: {
        "docker_net": "fd00:d0c::/64", "docker_pod": "fd00:d0c::2/128",
        "docker_target": "[fd00:d0c::2]:80", "loopback": "::1/128", "icmp": "ipv6-icmp",
        "prohibited": "icmp6-adm-prohibited", "ufw": "ufw6",
    },
}


def text_of(name, v6=False, **words):
    with open(os.path.join(_RULES, name), encoding="ascii") as f:
        return string.Template(f.read()).substitute({**_WORDS[v6], **words})


def load(host, tools, name, words=None):
    """The rule set NAME for both families; words: {v6: substitutions}."""
    if name.endswith(".nft"):
        host.run("nft", "-f", "-", input=text_of(name))
        return
    for v6 in (False, True):
        tools.restore(host, v6, text_of(name, v6, **(words or {}).get(v6, {})))


# -- our decisions, by hand ------------------------------------------------------------

MULTICAST = {False: "224.0.0.0/4", True: "ff00::/8"}
MASQ, FORWARD = "flanneld masq", "flanneld forward"


def _sides(net, sub, keep, v6):
    """[(name, (negated, source), (negated, destination), verdict)]"""
    found = [
        ("2", (False, sub), (False, net), "return"),
        ("3", (False, net), (False, sub), "return"),
        ("4", (True, net), (False, sub), "return"),
    ]
    found += [("keep", (False, net), (False, k), "return") for k in keep]
    found += [
        ("5", (False, net), (True, MULTICAST[v6]), "masquerade"),
        ("own", (True, net), (False, net), "own"),
        ("6", (True, net), (False, net), "masquerade"),
    ]
    return found


def _wrong(sides, wrong, net, sub):
    """Damages the decisions: one left out by its name, "swap4" as the original's nftables
    mode has it, "multicast" masqueraded."""
    if wrong == "swap4":
        return [(n, (True, sub), (False, net), v) if n == "4" else (n, s, d, v)
                for n, s, d, v in sides]
    if wrong == "multicast":
        return [(n, s, None if n == "5" else d, v) for n, s, d, v in sides]
    return [x for x in sides if x[0] != wrong]


def iptables_by_hand(net, sub, keep=(), v6=False, wrong=None):
    """Text for iptables-restore --noflush."""
    lines = ["*nat", ":FLANNEL-POSTRTG - [0:0]", "-F FLANNEL-POSTRTG",
             f'-I POSTROUTING 1 -m comment --comment "{MASQ}" -j FLANNEL-POSTRTG']
    rule = "-A FLANNEL-POSTRTG {} -m comment --comment \"" + MASQ + "\" -j {}"
    if wrong != "1":
        mark = "0x4000" if wrong == "mask" else "0x4000/0x4000"
        lines.append(rule.format(f"-m mark --mark {mark}", "RETURN"))
    for _, source, destination, verdict in _wrong(_sides(net, sub, keep, v6), wrong, net, sub):
        match = f"{'! ' if source[0] else ''}-s {source[1]}"
        if destination:
            match += f" {'! ' if destination[0] else ''}-d {destination[1]}"
        if verdict == "own":
            match += " -m addrtype --src-type LOCAL --limit-iface-out"
        to = "MASQUERADE --random-fully" if verdict == "masquerade" else "RETURN"
        lines.append(rule.format(match, to))
    lines.append("COMMIT")
    if wrong != "forward":
        lines += ["*filter", ":FLANNEL-FWD - [0:0]", "-F FLANNEL-FWD",
                  f'-I FORWARD 1 -m comment --comment "{FORWARD}" -j FLANNEL-FWD',
                  f'-A FLANNEL-FWD -s {net} -m comment --comment "{FORWARD}" -j ACCEPT',
                  f'-A FLANNEL-FWD -d {net} -m comment --comment "{FORWARD}" -j ACCEPT', "COMMIT"]
    return "\n".join(lines) + "\n"


def nft_by_hand(net, sub, keep=(), v6=False, wrong=None):
    """Text for nft -f: our own table."""
    ip, table = ("ip6", "ip6 flannel-ipv6") if v6 else ("ip", "ip flannel-ipv4")
    lines = [f"table {table} {{}}", f"delete table {table}", f"table {table} {{",
             "chain postrtg { type nat hook postrouting priority srcnat;"]
    if wrong != "1":
        lines.append("meta mark 0x4000 return" if wrong == "mask"
                     else "meta mark & 0x4000 == 0x4000 return")
    for _, source, destination, verdict in _wrong(_sides(net, sub, keep, v6), wrong, net, sub):
        match = f"{ip} saddr {'!= ' if source[0] else ''}{source[1]}"
        if destination:
            match += f" {ip} daddr {'!= ' if destination[0] else ''}{destination[1]}"
        if verdict == "own":
            match += " fib saddr . oif type local"
        to = "masquerade fully-random" if verdict == "masquerade" else "return"
        lines.append(f"{match} {to}")
    lines.append("}")
    if wrong != "forward":
        lines += ["chain forward { type filter hook forward priority filter;",
                  f"{ip} saddr {net} accept", f"{ip} daddr {net} accept", "}"]
    return "\n".join(lines + ["}"]) + "\n"


def nft_forward_elsewhere(chain, net, v6=False):
    """Our forward decisions at the top of a chain of others."""
    ip = "ip6" if v6 else "ip"
    return "".join(f'insert rule {chain} {ip} {side} {net} counter accept comment "{FORWARD}"\n'
                   for side in ("daddr", "saddr"))


def by_hand(host, mode, tools, nets, keep=(), wrong=None):
    """nets: {v6: (network, subnet)}. tools: of the iptables that others on the host use."""
    for v6, (net, sub) in nets.items():
        mine = [k for k in keep if (":" in k) == v6]
        if mode != NFTABLES:
            tools.restore(host, v6, iptables_by_hand(net, sub, mine, v6, wrong))
        else:
            host.run("nft", "-f", "-", input=nft_by_hand(net, sub, mine, v6, wrong))
        if wrong == "forward":
            continue
        chains = ["inet firewalld filter_FORWARD"]
        chains += [f"{'ip6' if v6 else 'ip'} filter FORWARD"] if mode == NFTABLES else []
        for chain in chains:
            if host.run("nft", "list", "chain", *chain.split(), check=False).returncode == 0:
                host.run("nft", "-f", "-", input=nft_forward_elsewhere(chain, net, v6))
        if mode == NFTABLES and tools.variant == LEGACY:
            for side in ("-d", "-s"):
                tools.iptables(host, v6, "-I", "FORWARD", side, net, "-m", "comment",
                               "--comment", FORWARD, "-j", "ACCEPT")


# -- what flannel itself leaves behind -------------------------------------------------

def original_iptables(net, sub, v6=False):
    """flannel 0.12 to 0.28: chains, and jumps behind everybody else's."""
    multicast = MULTICAST[v6]
    rules = [
        "-m mark --mark 0x4000/0x4000 {} -j RETURN", f"-s {sub} -d {net} {{}} -j RETURN",
        f"-s {net} -d {sub} {{}} -j RETURN", f"! -s {net} -d {sub} {{}} -j RETURN",
        f"-s {net} ! -d {multicast} {{}} -j MASQUERADE --random-fully",
        f"! -s {net} -d {net} {{}} -j MASQUERADE --random-fully",
    ]
    masq = f'-m comment --comment "{MASQ}"'
    forward = f'-m comment --comment "{FORWARD}"'
    lines = ["*nat", ":FLANNEL-POSTRTG - [0:0]", f"-A POSTROUTING {masq} -j FLANNEL-POSTRTG"]
    lines += [f"-A FLANNEL-POSTRTG {r.format(masq)}" for r in rules] + ["COMMIT"]
    lines += ["*filter", ":FLANNEL-FWD - [0:0]", f"-A FORWARD {forward} -j FLANNEL-FWD",
              f"-A FLANNEL-FWD -s {net} {forward} -j ACCEPT",
              f"-A FLANNEL-FWD -d {net} {forward} -j ACCEPT", "COMMIT"]
    return "\n".join(lines) + "\n"


def original_v011(net, sub, v6=False):
    """flannel before 0.12: no chain, no comment."""
    return "\n".join([
        "*nat",
        f"-A POSTROUTING -s {net} -d {net} -j RETURN",
        f"-A POSTROUTING -s {net} ! -d {MULTICAST[v6]} -j MASQUERADE --random-fully",
        f"-A POSTROUTING ! -s {net} -d {sub} -j RETURN",
        f"-A POSTROUTING ! -s {net} -d {net} -j MASQUERADE --random-fully",
        "COMMIT", "*filter",
        f"-A FORWARD -s {net} -j ACCEPT", f"-A FORWARD -d {net} -j ACCEPT", "COMMIT",
    ]) + "\n"


def original_nftables(net, sub, v6=False):
    """flannel's own tables, with its rule 4 and its mark without a mask."""
    ip, table = ("ip6", "ip6 flannel-ipv6") if v6 else ("ip", "ip flannel-ipv4")
    return "\n".join([
        f"table {table} {{", f'comment "rules for {table.split()[1]}"',
        "chain forward { type filter hook forward priority filter; policy accept;",
        'comment "chain to accept flannel traffic"',
        f"{ip} saddr {net} accept", f"{ip} daddr {net} accept", "}",
        "chain postrtg { type nat hook postrouting priority srcnat; policy accept;",
        'comment "chain to manage traffic masquerading by flannel"',
        "meta mark 0x4000 return", f"{ip} saddr {sub} {ip} daddr {net} return",
        f"{ip} saddr {net} {ip} daddr {sub} return", f"{ip} saddr != {sub} {ip} daddr {net} return",
        f"{ip} saddr {net} {ip} daddr != {MULTICAST[v6]} masquerade fully-random",
        f"{ip} saddr != {net} {ip} daddr {net} masquerade fully-random", "}", "}",
    ]) + "\n"


def lay_original(host, tools, nets, layout):
    """layout: "iptables", "v0.11" or "nftables"."""
    for v6, (net, sub) in nets.items():
        if layout == "nftables":
            host.run("nft", "-f", "-", input=original_nftables(net, sub, v6))
        else:
            make = original_iptables if layout == "iptables" else original_v011
            tools.restore(host, v6, make(net, sub, v6))
