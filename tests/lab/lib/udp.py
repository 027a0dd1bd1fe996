# SPDX-License-Identifier: Apache-2.0
"""udp.py - what the tests of backend udp share: configs, its kernel objects, its packets"""

import select
import socket
import struct
import time

from . import expect, traffic

NETWORK = "10.5.0.0/16"
PORT = 8285
ETH_P_IP = 0x0800
IP_RECVERR = 11


def config(type_="udp", **options):
    # Records that are written by hand are below.
    return {"Network": NETWORK, "SubnetMin": "10.5.160.0", "Backend": {"Type": type_, **options}}


def vxlan():
    return config("vxlan")


def tun_of(host, name="flannel0"):
    """What COMPAT.md section 6 says of the device, in one comparable value."""
    for link in host.ip_json("addr", "show"):
        if link["ifname"] == name:
            return {
                "kind": link.get("linkinfo", {}).get("info_kind"),
                "mtu": link["mtu"],
                "up": "UP" in link["flags"],
                "alias": link.get("ifalias"),
                "addresses": [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]
                              if a["scope"] == "global"],
            }
    return None


def wanted(host, mtu=1472):
    return {"kind": "tun", "mtu": mtu, "up": True, "alias": f"weft {NETWORK}",
            "addresses": [f"{host.subnet().network_address}/32"]}


def routes(host):
    return host.pod_routes([NETWORK])


def route(device="flannel0"):
    return {NETWORK: f"dev {device} proto 87"}


def is_udp(host, device="flannel0", mtu=1472):
    return tun_of(host, device) == wanted(host, mtu) and routes(host) == route(device)


def metrics(host):
    """{'name{label="value"}': number} of GET /metrics."""
    status, text = host.get("/metrics")
    assert status == 200
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def start(topo, conf=None, *flags, hosts=None):
    topo.store.write_config(conf or config())
    for host in hosts or topo.hosts:
        host.start_flanneld(*flags, wait=False)
    for host in hosts or topo.hosts:
        host.wait_ready()
    return topo


def pods_of(topo):
    return [host.pods[0] for host in topo]


def assert_meshed(topo, timeout=5.0):
    traffic.assert_all_to_all(pods_of(topo), timeout=timeout)


class Wire:
    """The IPv4 packets that pass a port of a switch, from the beginning of the with block."""

    def __init__(self, switch, port):
        self.socket = switch.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((port, 3))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def datagram(self, match, timeout=3.0):
        """(outer header, UDP header, payload) of the first datagram to PORT that matches."""
        deadline = time.monotonic() + timeout * expect.TIME_FACTOR
        while True:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.socket], [], [], left)[0], "no such datagram"
            frame = self.socket.recv(65536)
            if struct.unpack("!H", frame[12:14])[0] != ETH_P_IP:
                continue
            ip = frame[14:]
            total = struct.unpack("!H", ip[2:4])[0]
            head, udp, payload = ip[:20], ip[20:28], ip[28:total]
            if ip[9] == 17 and struct.unpack("!H", udp[2:4])[0] == PORT and match(payload):
                return head, udp, payload


class Connection:
    """A TCP connection between two pods that says a word from time to time."""

    def __init__(self, a, b):
        with b.ns.socket(kind=socket.SOCK_STREAM) as listener:
            listener.bind((b.addresses[0], 0))
            listener.listen()
            listener.settimeout(5)
            self.near = a.ns.socket(kind=socket.SOCK_STREAM)
            self.near.settimeout(10 * expect.TIME_FACTOR)
            self.near.connect(listener.getsockname())
            self.far, _ = listener.accept()
            self.far.settimeout(10 * expect.TIME_FACTOR)

    def works(self):
        for tx, rx in ((self.near, self.far), (self.far, self.near)):
            words = b"are you there?" * 1000
            tx.sendall(words)
            got = b""
            while len(got) < len(words):
                more = rx.recv(65536)
                assert more, "closed"
                got += more
            assert got == words
        return True

    def close(self):
        self.near.close()
        self.far.close()
