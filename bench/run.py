#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py - the figures that the project promises, measured

Prints one line per figure with its goal and verdict, and what stands beside it: the
floor of this machine or another way to the same end, taken in the same run. Exit code
1 when a goal is missed; "noise" where the floor itself was beyond it. Needs root (or
`unshare -Urnm`) and iproute2; iperf3 for `tcp`, iptables and nft for `rules-...`, the plugins
of the CNI project for `cni-...`, curl for `kube-...`.
"""
import argparse
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

import checksum_figures
import cni_figures
import etcd_figures
import figures
import kube_figures
import rules_figures
import udp_figures
import world

FIGURES = {**figures.FIGURES, **etcd_figures.FIGURES, **rules_figures.FIGURES,
           **cni_figures.FIGURES, **kube_figures.FIGURES, **checksum_figures.FIGURES,
           **udp_figures.FIGURES}

COLUMNS = "%-48s %-28s %-20s %-8s %s"


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[1],
        epilog="figures: " + "; ".join("%s: %s" % (k, v[1]) for k, v in FIGURES.items()),
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(FIGURES),
                        help="only these figures")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE",
                        help="write everything that was measured here")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; less to believe")
    parser.add_argument("--large", action="store_true", help="200 daemons at the same moment, too")
    return parser.parse_args()


def find_binary():
    root = pathlib.Path(__file__).resolve().parent.parent
    binary = pathlib.Path(os.environ.get("FLANNELD") or root / "build/flanneld")
    if not os.access(binary, os.X_OK):
        sys.exit("bench: %s is missing: ./dev build, or set FLANNELD" % binary)
    return str(binary.resolve())


def verdict(result):
    if result.ok is False and result.noisy:
        return "noise"
    return {True: "ok", False: "MISSED", None: "-"}[result.ok]


def show(result):
    print(COLUMNS % (result.name, result.value, result.goal, verdict(result), result.beside),
          flush=True)


def measure(bench, name):
    """Results of one figure; what could not be measured counts as missed."""
    try:
        for result in FIGURES[name][0](bench):
            yield result
    except (world.Failure, OSError, subprocess.SubprocessError) as why:
        world.clear()  # it is not in the way of the next
        yield figures.Result(name, "failed", "", False, str(why), {"failed": str(why)})


def machine():
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def warn_of_load():
    load = os.getloadavg()[0]
    if load > 0.5 * (os.cpu_count() or 1):
        print("load average is %.2f: others are at work, figures are worse than they would be"
              % load, flush=True)


def main():
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    binary = find_binary()
    here = machine()
    print("%d CPUs, Linux %s, load %.2f" % (here["cpus"], here["kernel"], here["load"]))
    warn_of_load()
    print(COLUMNS % ("figure", "measured", "goal", "verdict", "beside it, in the same run"))
    scratch = world.Scratch()
    results = []
    try:
        bench = figures.Bench(binary, scratch, args.quick, args.large)
        for name in args.only or FIGURES:
            for result in measure(bench, name):
                show(result)
                results.append(result)
    finally:
        world.cleanup(scratch)
    if args.json:
        rows = [{"name": r.name, "value": r.value, "goal": r.goal, "verdict": verdict(r),
                 "beside": r.beside, **r.data} for r in results]
        document = {"machine": here, "quick": args.quick, "figures": rows}
        args.json.write_text(json.dumps(document, indent=1) + "\n")
    verdicts = [verdict(r) for r in results]
    missed = verdicts.count("MISSED")
    print("%d figures, %d goals missed, %d lost in noise"
          % (len(results), missed, verdicts.count("noise")))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
