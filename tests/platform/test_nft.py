# SPDX-License-Identifier: Apache-2.0
"""test_nft.py - notifications of the nftables ruleset, and chains of iptables-nft"""

import shutil

import pytest

from kernel import Monitor, attributes, fails, run

NETLINK_NETFILTER, NFNLGRP_NFTABLES = 12, 7
NFNL_SUBSYS_NFTABLES = 10
NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN, NEWRULE, DELRULE, NEWGEN = 0, 2, 3, 5, 6, 8, 15
# Since Linux 6.3, for `nft destroy`.
DESTROYTABLE = 26
TABLE_NAME, GEN_PROC_NAME = 1, 3
NFGENMSG_LENGTH = 4

TABLE = ("table ip {0} {{ chain forward {{ type filter hook forward priority 0; "
         "ip saddr 10.5.0.0/16 counter accept; }}; }}\n")


@pytest.fixture(autouse=True)
def nft():
    why = fails("nft list tables")
    if why:
        pytest.skip(f"this kernel has no nftables: {why}")


class Ruleset(Monitor):
    def __init__(self):
        super().__init__(NFNLGRP_NFTABLES, bus=NETLINK_NETFILTER)

    def changes(self):
        """[(message type, the text of that attribute that names its subject)]"""
        found = []
        for kind, body in self.messages():
            assert kind >> 8 == NFNL_SUBSYS_NFTABLES
            named_by = GEN_PROC_NAME if kind & 0xff == NEWGEN else TABLE_NAME
            names = [value.rstrip(b"\0").decode()
                     for attribute, value in attributes(body[NFGENMSG_LENGTH:])
                     if attribute == named_by]
            found.append((kind & 0xff, names[0] if names else ""))
        return found


def test_a_transaction_ends_with_the_name_of_its_process():
    """The log can say who has changed our rules."""
    with Ruleset() as ruleset:
        run("nft -f -", TABLE.format("a") + TABLE.format("b"))
        changes = ruleset.changes()
    assert changes[-1] == (NEWGEN, "nft")
    assert [kind for kind, _ in changes].count(NEWGEN) == 1
    for table in ("a", "b"):
        assert [kind for kind, name in changes if name == table] == [NEWTABLE, NEWCHAIN, NEWRULE]


def test_the_end_of_a_table_is_notified_whoever_brings_it():
    """We need no poll to see that our table is gone."""
    for removal in ("flush ruleset", "delete table ip a", "destroy table ip a"):
        run("nft -f -", TABLE.format("a"))
        if "destroy" in removal and fails(f"nft -c {removal}"):
            continue  # newer than this nft
        with Ruleset() as ruleset:
            run(f"nft {removal}")
            changes = ruleset.changes()
        assert (DELTABLE, "a") in changes or (DESTROYTABLE, "a") in changes
        assert changes[-1] == (NEWGEN, "nft")


def test_each_change_inside_a_table_names_it():
    run("nft -f -", TABLE.format("a"))
    for command, kind in [
            ("flush chain ip a forward", DELRULE),
            ("add rule ip a forward counter", NEWRULE),
            ("add chain ip a stray", NEWCHAIN),
            ("delete chain ip a stray", DELCHAIN),
            ("add chain ip a forward { policy drop; }", NEWCHAIN),
    ]:
        with Ruleset() as ruleset:
            run("nft -f -", command)
            assert (kind, "a") in ruleset.changes(), command


def test_a_table_is_replaced_in_one_transaction():
    """Its base chains included, whatever their hooks were."""
    run("nft -f -", TABLE.format("a").replace("priority 0", "priority 7"))
    with Ruleset() as ruleset:
        run("nft -f -", "add table ip a\ndelete table ip a\n" + TABLE.format("a"))
        assert [kind for kind, _ in ruleset.changes()].count(NEWGEN) == 1
    assert "priority filter" in run("nft list table ip a")


def test_a_refused_transaction_is_not_notified():
    run("nft -f -", TABLE.format("a"))
    with Ruleset() as ruleset:
        assert fails("nft -f -", "add rule ip a forward counter\ndelete rule ip a forward handle 99\n")
        assert ruleset.changes() == []


def test_iptables_shows_a_rule_that_nft_has_put_into_its_chain():
    """An accept in Docker's FORWARD makes the table no stranger to iptables."""
    if not shutil.which("iptables-nft-restore"):
        pytest.skip("no iptables-nft")
    run("iptables-nft-restore", "*filter\n:FORWARD DROP\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n")
    with Ruleset() as ruleset:
        run("nft -f -", "insert rule ip filter FORWARD ip saddr 10.5.0.0/16 counter accept "
                        "comment \"flanneld forward\"\n")
        # Its own rules it can still change, too; that names it.
        run("iptables-nft -A FORWARD -j RETURN")
        assert [name for kind, name in ruleset.changes() if kind == NEWGEN] == [
            "nft", "iptables-nft"]
    rules = [line for line in run("iptables-nft-save").splitlines() if line.startswith("-A")]
    assert rules == [
        "-A FORWARD -s 10.5.0.0/16 -m comment --comment \"flanneld forward\" -j ACCEPT",
        "-A FORWARD -i docker0 -j ACCEPT",
        "-A FORWARD -j RETURN",
    ]
