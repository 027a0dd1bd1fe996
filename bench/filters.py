# SPDX-License-Identifier: Apache-2.0
"""filters - nftables and iptables as far as measuring needs them

The three ways in which a host can have rules ("modes"), hosts of each, rules such as
kube-proxy's, and what tells of changes.
"""
import base64
import contextlib
import ctypes
import hashlib
import os
import pathlib
import re
import resource
import shutil
import socket
import struct
import subprocess
import time

import rtnl
import world

NFTABLES, LEGACY, IPT_NFT = "nftables", "iptables-legacy", "iptables-nft"
MODES = (NFTABLES, LEGACY, IPT_NFT)
TABLE = "flannel-ipv4"
MASQ_CHAIN, FORWARD_CHAIN = "FLANNEL-POSTRTG", "FLANNEL-FWD"

NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES = 12, 10, 7
NEWTABLE, DELTABLE, NEWRULE, DELRULE, NEWGEN = 0, 2, 6, 8, 15
NFTA_TABLE = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
STATELESS, HANDLES = 1 << 1, 1 << 3  # NFT_CTX_OUTPUT_...
IPT_SO_GET_INFO = 64


# -- nftables --------------------------------------------------------------------------


class Nft:
    """libnftables, working on the namespace that the thread was in when this was made."""

    lib = None

    def __init__(self):
        if not Nft.lib:
            Nft.lib = ctypes.CDLL("libnftables.so.1")
            Nft.lib.nft_ctx_new.restype = ctypes.c_void_p
            for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
                getattr(Nft.lib, name).restype = ctypes.c_char_p
        self.ctx = ctypes.c_void_p(Nft.lib.nft_ctx_new(0))
        Nft.lib.nft_ctx_buffer_output(self.ctx)
        Nft.lib.nft_ctx_buffer_error(self.ctx)
        Nft.lib.nft_ctx_output_set_flags(self.ctx, STATELESS)

    def run(self, text):
        if Nft.lib.nft_run_cmd_from_buffer(self.ctx, text.encode()):
            raise world.Failure("nft: " + Nft.lib.nft_ctx_get_error_buffer(self.ctx).decode())
        return Nft.lib.nft_ctx_get_output_buffer(self.ctx).decode()

    def listing(self, table):
        """Without counters; "" when there is none."""
        try:
            return self.run("list table " + table)
        except world.Failure:
            return ""

    def rule_handles(self, table):
        """(chain, handle) of each rule."""
        Nft.lib.nft_ctx_output_set_flags(self.ctx, STATELESS | HANDLES)
        listing = self.run("list table " + table)
        Nft.lib.nft_ctx_output_set_flags(self.ctx, STATELESS)
        chain, rules = "", []
        for line in listing.splitlines():
            head = re.match(r"\s*chain (\S+) {", line)
            rule = re.search(r" # handle (\d+)$", line)
            if head:
                chain = head[1]
            elif rule and chain:
                rules.append((chain, int(rule[1])))
        return rules

    def close(self):
        Nft.lib.nft_ctx_free(self.ctx)


class NftMonitor(rtnl.Monitor):
    """Notifications of nftables."""

    def __init__(self):
        super().__init__(1 << (NFNLGRP_NFTABLES - 1), NETLINK_NETFILTER)

    def changes(self, timeout_s):
        """(time in ns, NFT_MSG_*, table) of each; ends when nothing came for so long."""
        for now, kind, body in self.read(timeout_s):
            if kind >> 8 == NFNL_SUBSYS_NFTABLES:
                name = b"" if kind & 255 == NEWGEN else rtnl.attrs(body[4:]).get(NFTA_TABLE, b"")
                yield now, kind & 255, name.rstrip(b"\0").decode()


# -- iptables --------------------------------------------------------------------------


class Tools:
    """A directory for PATH whose iptables, iptables-save and so on are those of one
    variant. With @counted each execution leaves a line: a shell goes before it."""

    def __init__(self, scratch, variant, counted=False):
        self.dir = scratch.new("tools")
        self.log = self.dir / "executed"
        self.log.touch()
        for family in ("iptables", "ip6tables"):
            for verb in ("", "-save", "-restore"):
                for kind in ("", "-legacy", "-nft"):
                    there = family + (kind or variant.removeprefix("iptables")) + verb
                    self._add(family + kind + verb, shutil.which(there), counted)
        # A host has a lock of its own, and namespaces share /run.
        self.env = {"PATH": "%s:%s" % (self.dir, os.environ["PATH"]),
                    "XTABLES_LOCKFILE": str(self.dir / "xtables.lock")}

    def _add(self, name, target, counted):
        if not target:
            return
        if counted:
            (self.dir / name).write_text('#!/bin/sh\necho "%s $*" >>%s\nexec %s "$@"\n'
                                         % (name, self.log, target))
            (self.dir / name).chmod(0o755)
        else:
            (self.dir / name).symlink_to(os.path.realpath(target))

    def executed(self):
        return self.log.read_text().splitlines()


class LegacyTable:
    """How many entries a table of iptables-legacy has, asked without a process; made in
    the network namespace that the thread is in."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.info = struct.pack("=32s52x", name.encode())
        self.libc = ctypes.CDLL(None, use_errno=True)

    def n_entries(self):
        info = ctypes.create_string_buffer(self.info, len(self.info))
        size = ctypes.c_uint32(len(self.info))
        if self.libc.getsockopt(self.socket.fileno(), socket.IPPROTO_IP, IPT_SO_GET_INFO, info,
                                ctypes.byref(size)):
            raise OSError(ctypes.get_errno(), "IPT_SO_GET_INFO")
        return struct.unpack_from("=I", info.raw, 76)[0]

    def close(self):
        self.socket.close()


# -- hosts -----------------------------------------------------------------------------


def missing_programs():
    names = ["nft"] + [v + s for v in (LEGACY, IPT_NFT) for s in ("", "-save", "-restore")]
    return [name for name in names if not shutil.which(name)]


def variant_of(mode):
    """The iptables of a host whose own rules are kept in @mode."""
    return LEGACY if mode == LEGACY else IPT_NFT


class Host:
    """A host with an uplink on which rules are kept in @mode; its iptables is @variant."""

    def __init__(self, bench, name, mode, variant=None, counted=False, ns=None):
        self.bench, self.mode = bench, mode
        self.variant = variant or variant_of(mode)
        self.ns = ns or world.host(name)
        self.tools = Tools(bench.scratch, self.variant, counted)
        self.env = dict(os.environ, **self.tools.env)
        self.store, self.daemon = None, None

    def start(self, *flags, n_peers=3):
        """A daemon that is ready, and keeps the rules."""
        if not self.store:
            self.store = self.bench.store(n_peers, nftables=self.mode == NFTABLES)
        self.daemon = self.bench.daemon(self.ns, self.store, "--ip-masq", *flags,
                                        env=self.tools.env)
        return self.daemon

    def run(self, *args, text=None):
        with self.ns.entered():
            done = subprocess.run(args, input=text, capture_output=True, text=True, check=False,
                                  env=self.env)
        if done.returncode:
            raise world.Failure("%s: %s" % (" ".join(args[:6]), done.stderr.strip()[:300]))
        return done.stdout

    def popen(self, *args):
        with self.ns.entered():
            return subprocess.Popen(args, env=self.env)

    def timed(self, *args, text=None):
        """(wall time, CPU time of the process) in ns."""
        cpu, begin = children_cpu_ns(), time.monotonic_ns()
        self.run(*args, text=text)
        return time.monotonic_ns() - begin, children_cpu_ns() - cpu

    def iptables(self, *args):
        return self.run("iptables", "-w", *args)

    def restore(self, text):
        self.run("iptables-restore", "-w", "--noflush", text=text)

    def ours(self):
        """Our rules, in the words with which a person puts them into an empty host: what
        `nft -f` or `iptables-restore --noflush` reads."""
        if self.mode == NFTABLES:
            listing = self.run("nft", "-s", "list", "table", "ip", TABLE)
            return "add table ip %s\ndelete table ip %s\n%s" % (TABLE, TABLE, listing)
        return own_part(self.run("iptables-save"))

    def load(self, text):
        """What ours() said, by hand: (wall time, CPU time) in ns."""
        if self.mode == NFTABLES:
            return self.timed("nft", "-f", "-", text=text)
        return self.timed("iptables-restore", "-w", "--noflush", text=text)

    def clear(self):
        """The kernel frees the rules of a namespace after it has gone, beside us: many are
        removed before."""
        with contextlib.suppress(world.Failure):
            self.run("nft", "flush", "ruleset")
        if self.variant == LEGACY:
            for table in ("nat", "filter"):
                self.run("iptables", "-w", "-t", table, "-F")
                self.run("iptables", "-w", "-t", table, "-X")

    def close(self):
        if self.daemon:
            self.daemon.stop()
        self.clear()
        self.ns.delete()


def own_part(saved):
    """Of what iptables-save said, our chains and the jumps to them, as text to restore."""
    out, table = [], []
    for line in saved.splitlines():
        ours = MASQ_CHAIN in line or FORWARD_CHAIN in line
        if line.startswith("*"):
            table = [line]
        elif line == "COMMIT":
            out += table + [line] if len(table) > 1 else []
        elif ours and line.startswith("-A FLANNEL-"):
            table.append(line)
        elif ours and line.startswith("-A "):
            table.append("-I" + line.removeprefix("-A"))  # before those of others
        elif ours:
            table.append(line.split()[0] + " - [0:0]")
    if not out:
        raise world.Failure("iptables-save shows no chain of ours")
    return "\n".join(out) + "\n"


def children_cpu_ns():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def waited_cpu_ns(pid):
    """CPU time of the children of @pid that have ended, in steps of 10 ms or so."""
    stat = pathlib.Path("/proc/%d/stat" % pid).read_text(encoding="utf-8")
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) * 10 ** 9 // os.sysconf("SC_CLK_TCK")


# -- rules of others -------------------------------------------------------------------

KUBE_RULES_PER_SERVICE = 11
KUBE_FRAME = """\
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" \
-j MASQUERADE --random-fully"""


def _tag(text):
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:16].decode()


def _kube_endpoint(i, e, service):
    """A chain, and the rules of it and to it."""
    name, chain = "default/svc-%d:http" % i, "KUBE-SEP-" + _tag("%d/%d" % (i, e))
    pod = "10.%d.%d.%d" % (1 + (i >> 8), i & 255, 2 + e)
    chance = "" if e == 2 else " -m statistic --mode random --probability %.11f" % (1 / (3 - e))
    return chain, [
        '-A %s -m comment --comment "%s -> %s:8080"%s -j %s' % (service, name, pod, chance, chain),
        '-A %s -s %s/32 -m comment --comment "%s" -j KUBE-MARK-MASQ' % (chain, pod, name),
        '-A %s -p tcp -m comment --comment "%s" -m tcp -j DNAT --to-destination %s:8080'
        % (chain, name, pod),
    ]


def kube_rules(n):
    """What kube-proxy would give to iptables-restore: services with three endpoints each,
    @n rules in all."""
    chains, rules = ["KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"], [KUBE_FRAME]
    for i in range(n // KUBE_RULES_PER_SERVICE):
        service = "KUBE-SVC-" + _tag(str(i))
        match = ('-d 10.96.%d.%d/32 -p tcp -m comment --comment "default/svc-%d:http cluster IP" '
                 '-m tcp --dport 80' % (i >> 8, i & 255, i))
        rules.append("-A KUBE-SERVICES %s -j %s" % (match, service))
        rules.append("-A %s ! -s %s %s -j KUBE-MARK-MASQ" % (service, world.NETWORK, match))
        chains.append(service)
        for e in range(3):
            chain, its = _kube_endpoint(i, e, service)
            chains.append(chain)
            rules += its
    return "\n".join(["*nat"] + [":%s - [0:0]" % c for c in chains] + rules + ["COMMIT", ""])
