# SPDX-License-Identifier: Apache-2.0
"""udp_peer.py - a host with backend udp as flannel itself is one: one packet per call

Knows nothing of ours but the format: the inner packet is the datagram, each end takes one off
its TTL. Run as a program it carries packets between its tun and UDP port 8285, until it is
killed; peers as JSON on argv, {"10.5.3.0/24": "192.168.64.13"}.
"""

import fcntl
import ipaddress
import json
import os
import select
import socket
import struct
import subprocess
import sys

from .expect import wait_until

PORT = 8285
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


class UdpPeer:
    """Makes a host of the lab, whose flanneld does not run, a host of flannel."""

    def __init__(self, host, network, subnet, peers):
        self.host = host
        base = ipaddress.ip_network(subnet).network_address
        with open(host.subnet_file, "w", encoding="ascii") as f:
            f.write(f"FLANNEL_NETWORK={network}\nFLANNEL_SUBNET={base + 1}/24\n"
                    "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n")
        self.process = host.popen(sys.executable, "-m", "lib.udp_peer", host.address,
                                  json.dumps(peers), stdin=subprocess.DEVNULL,
                                  cwd=os.path.dirname(os.path.dirname(__file__)))
        wait_until(lambda: host.ifindex("flannel0"), what="the peer's tun")
        host.ip(f"addr add {base}/32 dev flannel0", "link set flannel0 mtu 1472 up",
                f"route add {network} dev flannel0")

    def close(self):
        self.process.kill()
        self.process.wait()


def _hop(packet):
    """The packet with its TTL less one, or None."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[8] < 2:
        return None
    packet = bytearray(packet)
    packet[8] -= 1
    packet[10:12] = b"\0\0"
    head = packet[:4 * (packet[0] & 15)]
    total = sum(struct.unpack(f"!{len(head) // 2}H", head))
    total = (total & 0xFFFF) + (total >> 16)
    packet[10:12] = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    return bytes(packet)


def _main(address, peers):
    peers = {ipaddress.ip_network(net): ip for net, ip in json.loads(peers).items()}
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"flannel0", IFF_TUN | IFF_NO_PI))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, PORT))
    while True:
        ready, _, _ = select.select([tun, sock], [], [])
        if tun in ready:
            packet = _hop(os.read(tun, 65536))
            to = packet and ipaddress.ip_address(packet[16:20])
            for net, ip in peers.items() if packet else ():
                if to in net:
                    sock.sendto(packet, (ip, PORT))
        if sock in ready:
            packet = _hop(sock.recv(65536))
            if packet:
                os.write(tun, packet)


if __name__ == "__main__":
    _main(*sys.argv[1:])
