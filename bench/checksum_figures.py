# SPDX-License-Identifier: Apache-2.0
"""checksum_figures - what is measured of the udp backend's inner parts

The program build/bench/bench_checksum does the work; memcpy() of the same run is the floor.
"""
import json
import os
import pathlib

import world
from figures import Result

LENGTHS = {"64": "64 B", "1472": "1472 B", "65536": "64 KB"}
COPY_GOAL = 0.5  # of memcpy's: what the data path does once to each byte


def program_of(bench):
    named = os.environ.get("BENCH_CHECKSUM")
    return named or str(pathlib.Path(bench.binary).parent / "bench_checksum")


def measure(bench):
    return json.loads(world.run(program_of(bench)))


def rates(row):
    return ", ".join("%s %.1f" % (LENGTHS[n], row[n]) for n in LENGTHS)


def checksum(bench):
    rows = {(r["variant"], r["what"]): r for r in measure(bench)["GB/s"]}
    floor = rows["memcpy", "copy"]
    for what in ("add", "copy"):
        ours = rows["in force", what]
        others = {v: r for (v, w), r in rows.items()
                  if w == what and v not in ("in force", "memcpy")}
        best = max(others, key=lambda v: others[v]["1472"])
        share = ours["65536"] / floor["65536"]
        yield Result(
            "udp: checksum, %s" % ("alone" if what == "add" else "while copying"),
            rates(ours) + " GB/s",
            ">= %.1f of memcpy, 64 KB" % COPY_GOAL,
            share >= COPY_GOAL,
            "memcpy %s; best of the other variants (%s) %s" % (rates(floor), best,
                                                               rates(others[best])),
            {"unit": "GB/s", "share": share, "ours": ours, "memcpy": floor, "others": others},
        )


def table(bench):
    rows = measure(bench)["table"]
    few, *_, many, mixed = rows
    yield Result(
        "udp: peer by subnet and by address",
        "%.1f ns of %d peers" % (many["ns"], many["peers"]),
        "<= 20 ns",
        many["ns"] <= 20,
        "%.1f ns of %d; %.1f ns where lengths are mixed" % (few["ns"], few["peers"], mixed["ns"]),
        {"unit": "ns", "rows": rows},
    )


FIGURES = {
    "udp-checksum": (checksum, "the Internet checksum, beside memcpy"),
    "udp-table": (table, "the look-up of a peer, 2 to 5,000"),
}
