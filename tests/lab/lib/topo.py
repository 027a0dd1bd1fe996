# SPDX-License-Identifier: Apache-2.0
"""topo.py - hosts joined by switches and routers

One L2 (the default):              Two L2s:

  h1     h2     h3                   h1     h2           h3
  |eth0  |eth0  |eth0                |eth0  |eth0        |eth0
 -+------+------+- sw1 (.254)       -+------+- sw1      -+- sw2
                                            |.254        |.254
                                            +--- r ------+

L2 number k is 192.168.(63+k).0/24 and fd00:(63+k)::/64; host number i is .(10+i) and
::(10+i); .254 and ::fe is the hosts' default route: the switch itself when there is one
L2, the router otherwise.
"""

import itertools

from .etcd import Etcd
from .expect import wait_until
from .kube_nodes import Nodes
from .kubeapi import kube_api
from .node import Host
from .store import Store

_serial = itertools.count(1)


class Nic:
    """A host's NIC: enough to make it again after it was deleted."""

    def __init__(self, name, switch, port, ipv4, ipv6, gateways, mtu):
        self.name, self.switch, self.port, self.mtu = name, switch, port, mtu
        self.ipv4, self.ipv6, self.gateways = ipv4, ipv6, gateways


class Topo:
    """hosts: one list of names per L2, or a number for one L2 of h1, h2, ..."""

    def __init__(self, lab, hosts=3, ipv4=True, ipv6=False, second_nic=False, mtu=1500,
                 store_size=None):
        self.lab, self.ipv4, self.ipv6 = lab, ipv4, ipv6
        self.number = next(_serial)
        path = f"{lab.dir}/store{self.number}"
        if store_size:
            lab.mount_tmpfs(path, store_size)
        self.store = Store(path)
        self.namespaces, self.etcds, self.kubes = [], [], []
        l2s = [[f"h{i}" for i in range(1, hosts + 1)]] if isinstance(hosts, int) else hosts
        router = self._namespace("r") if len(l2s) > 1 else None
        if router:
            self._forward(router)
        self.hosts, self.switches = [], []
        for k, names in enumerate(l2s, 1):
            switch = self._switch(k, router)
            for name in names:
                self._host(name, switch, k, mtu)
        if second_nic:
            switch = self._switch(99, None)
            for host in self.hosts:
                self._plug_second(host, switch, mtu)

    def __getitem__(self, name):
        return next(h for h in self.hosts if h.name == name)

    def __iter__(self):
        return iter(self.hosts)

    # -- building ----------------------------------------------------------------------

    def _namespace(self, name):
        suffix = f"{self.number}" if self.number > 1 else ""
        ns = self.lab.namespace(f"{name}.{suffix}" if suffix else name)
        self.namespaces.append(ns)
        return ns

    @staticmethod
    def _forward(ns):
        ns.sysctl("net/ipv4/ip_forward", 1)
        ns.sysctl("net/ipv6/conf/all/forwarding", 1)

    def _addresses(self, k, last):
        """(IPv4, IPv6) of member `last` of L2 k; None for a family that is off."""
        net4, net6 = (f"192.168.{63 + k}", f"fd00:{63 + k}") if k < 99 else ("172.20.0", "fd00:99")
        return (
            f"{net4}.{last}" if self.ipv4 else None,
            f"{net6}::{last if last != 254 else 'fe'}" if self.ipv6 else None,
        )

    def _switch(self, k, router):
        ns = self._namespace(f"sw{k}")
        (router or ns).sysctl("net/ipv6/conf/default/accept_dad", 0)
        ns.ip(
            # Snooping would hold back neighbour discovery until it has learnt the groups.
            "link add name br0 type bridge mcast_snooping 0",
            "link set br0 up",
        )
        gateway, device = (ns, "br0") if router is None else (router, f"l{k}")
        if router:
            ns.ip(
                f"link add name uplink type veth peer name {device} netns {router.name}",
                "link set dev uplink master br0 up",
            )
        else:
            self._forward(ns)
        ipv4, ipv6 = self._addresses(k, 254)
        lines = [f"link set {device} up"]
        lines += [f"addr add {ipv4}/24 dev {device}"] if ipv4 else []
        lines += [f"addr add {ipv6}/64 dev {device} nodad"] if ipv6 else []
        gateway.ip(*lines)
        self.switches.append(ns)
        return ns

    def _host(self, name, switch, k, mtu):
        ns = self._namespace(name)
        self._forward(ns)
        # As systemd sets it: without, the second address of a subnet goes with the first.
        ns.sysctl("net/ipv4/conf/all/promote_secondaries", 1)
        host = Host(self.lab, name, ns, self.store, len(self.hosts) + 1)
        ipv4, ipv6 = self._addresses(k, 10 + host.index)
        gateways = [a for a in self._addresses(k, 254) if a]
        host.nics["eth0"] = Nic("eth0", switch, name, ipv4, ipv6, gateways, mtu)
        self.plug(host)
        self.hosts.append(host)

    def _plug_second(self, host, switch, mtu):
        ipv4, ipv6 = self._addresses(99, 10 + host.index)
        host.nics["eth1"] = Nic("eth1", switch, host.name, ipv4, ipv6, [], mtu)
        self.plug(host, "eth1")

    def server(self, name, last):
        """A namespace that is no host, plugged into the first switch: (it, its addresses)."""
        ns = self._namespace(name)
        switch = self.switches[0]
        with ns.without_dad():
            switch.ip(
                f"link add name {name} type veth peer name eth0 netns {ns.name}",
                f"link set {name} master br0 up",
            )
        ipv4, ipv6 = self._addresses(1, last)
        gateways = [a for a in self._addresses(1, 254) if a]
        lines = ["link set eth0 up"]
        lines += [f"addr add {ipv4}/24 dev eth0"] if ipv4 else []
        lines += [f"addr add {ipv6}/64 dev eth0 nodad"] if ipv6 else []
        ns.ip(*lines, *(f"route add default via {g} dev eth0" for g in gateways))
        return ns, [a for a in (ipv4, ipv6) if a]

    def etcd(self, *args, **kwargs):
        """A cluster (lib/etcd.py) on the first switch, which all hosts use from now on."""
        etcd = Etcd(self, *args, **kwargs)
        self.etcds.append(etcd)
        self.use(etcd.v3)
        return etcd

    def kube(self, **how):
        """An API server (lib/kubeapi.py) on the first switch, which all hosts use from now on.
        A host's node, named like it, is for the test to make."""
        kube = kube_api(self, **how)
        self.kubes.append(kube)
        self.lab.kubes.append(kube)
        self.use(Nodes(kube))
        return kube

    def use(self, store):
        """Another datastore: for write_config() and for flanneld's next start."""
        self.store = store
        for host in self.hosts:
            host.store = store

    # -- changing it -------------------------------------------------------------------

    def plug(self, host, nic="eth0", routes=True):
        """Makes a host's NIC, with its addresses and default routes."""
        nic = host.nics[nic]
        with host.ns.without_dad():
            nic.switch.ip(
                f"link add name {nic.port} mtu {nic.mtu} type veth "
                f"peer name {nic.name} mtu {nic.mtu} netns {host.ns.name}",
                f"link set {nic.port} master br0 up",
            )
        lines = []
        lines += [f"addr add {nic.ipv4}/24 dev {nic.name}"] if nic.ipv4 else []
        lines += [f"addr add {nic.ipv6}/64 dev {nic.name} nodad"] if nic.ipv6 else []
        lines.append(f"link set {nic.name} up")
        if routes:
            lines += [f"route add default via {g} dev {nic.name}" for g in nic.gateways]
        host.ip(*lines)
        if nic.ipv6:
            wait_until(lambda: host.ns.hears_solicitations(nic.name), what=f"{host.name}: IPv6")

    @staticmethod
    def unplug(host, nic="eth0"):
        """Deletes a host's NIC as if the card were pulled."""
        host.ip(f"link del {nic}")

    @staticmethod
    def set_address(host, ipv4, nic="eth0"):
        """Gives the NIC another IPv4 address in the same L2 (the old one goes)."""
        card = host.nics[nic]
        host.ip(f"addr add {ipv4}/24 dev {nic}", f"addr del {card.ipv4}/24 dev {nic}")
        card.ipv4 = ipv4

    # -- all hosts at once -------------------------------------------------------------

    def start(self, config=None, *flags, hosts=None, **kwargs):
        """Writes the config, starts flanneld everywhere, waits until all are ready and know
        of each other."""
        if config is not None:
            self.store.write_config(config)
        started = [self[h] if isinstance(h, str) else h for h in hosts or self.hosts]
        for host in started:
            host.start_flanneld(*flags, wait=False, **kwargs)
        for host in started:
            host.wait_ready()
        self.store.wait_told(started, flags)
        self.wait_meshed()
        return self

    def wait_meshed(self, timeout=5.0):
        """Waits until every running host has a route to every other's subnets."""
        running = [h for h in self.hosts if h.process is not None]

        def check():
            for host in running:
                routes = host.pod_routes()
                for other in running:
                    for subnet in other.subnets() if other is not host else []:
                        assert str(subnet) in routes, f"{host.name} lacks {subnet} of {other.name}"
            return True

        wait_until(check, timeout, "a route from every host to every other")

    def follow_the_store(self, n=77, timeout=20.0):
        """A vxlan peer 10.5.N.0/24 that is written now appears on every running host."""
        self.store.put_peer(f"10.5.{n}.0-24", f"192.168.64.{n}", mac=f"02:00:00:00:00:{n}")
        for host in self.hosts:
            if host.process is not None:
                wait_until(lambda h=host: f"10.5.{n}.0/24" in h.pod_routes(), timeout,
                           f"{host.name} follows the store")

    def allow_log(self, severities, pattern):
        for host in self.hosts:
            host.allow_log(severities, pattern)

    def pods(self):
        """One new pod on each host."""
        return [host.pod() for host in self.hosts]

    def stop(self):
        for host in self.hosts:
            if host.process is not None:
                host.stop_flanneld()

    def overlays(self):
        return {host.name: host.overlay() for host in self.hosts}

    def close(self):
        """Stops what runs and removes the namespaces; checks nothing."""
        for host in self.hosts:
            if host.process is not None:
                host.kill_flanneld()
            for pod in host.pods:
                pod.ns.delete()
            if host in self.lab.hosts:
                self.lab.hosts.remove(host)
        for kube in self.kubes:
            self.lab.kubes.remove(kube)
        for server in self.kubes + self.etcds:
            server.close()
        for ns in self.namespaces:
            ns.delete()
