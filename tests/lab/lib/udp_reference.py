# SPDX-License-Identifier: Apache-2.0
"""udp_reference.py - the reference peer (tests/peer/udp_reference.c) as a host's data path

It is C and plain, so that its bytes are right and its speed is what people have; it is built
beside flanneld, and speaks with it or with another of its kind.
"""

import contextlib
import os
import subprocess

from . import node
from .udp import NETWORK, PORT, start

PROGRAM = os.path.join(os.path.dirname(node.FLANNELD), "udp_reference")


class Reference:
    """Carries packets between a tun of its own and the peers, {subnet: address}, until closed."""

    def __init__(self, host, device, tun_address, peers, port=PORT):
        host.ip(f"tuntap add dev {device} mode tun", f"link set {device} mtu 1472 "
                "addrgenmode none up")
        self.process = host.popen(PROGRAM, device, host.address, str(port), tun_address,
                                  *(f"{net}={ip}" for net, ip in peers.items()),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        self.process.stdout.close()

    def close(self):
        self.process.kill()
        self.process.wait()


def become(host, subnet, peers):
    """Makes a host, whose flanneld does not run, one of flannel with the subnet."""
    base = str(subnet).split("/", maxsplit=1)[0]
    gateway = base.rpartition(".")[0] + ".1"
    with open(host.subnet_file, "w", encoding="ascii") as f:
        f.write(f"FLANNEL_NETWORK={NETWORK}\nFLANNEL_SUBNET={gateway}/24\n"
                "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n")
    reference = Reference(host, "flannel0", base, peers)
    host.ip(f"addr add {base}/32 dev flannel0", f"route add {NETWORK} dev flannel0")
    return reference


@contextlib.contextmanager
def third_of_flannel(topo):
    """Starts the first two of three hosts; the third is one of flannel."""
    h1, h2, h3 = topo.hosts
    topo.store.put_lease("10.5.190.0-24", {"PublicIP": h3.address})
    start(topo, hosts=[h1, h2])
    peers = {str(h.subnet()): h.address for h in (h1, h2)}
    with contextlib.closing(become(h3, "10.5.190.0/24", peers)):
        yield topo
