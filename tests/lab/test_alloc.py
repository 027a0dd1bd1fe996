# SPDX-License-Identifier: Apache-2.0
"""alloc: hands out subnets, touches nothing.

     h1     h2
    -+------+- sw1
"""

from lib.expect import stays


def test_subnets_and_nothing_else(make_topo):
    topo = make_topo(2)
    topo.store.write_config({"Network": "10.5.0.0/16", "Backend": {"Type": "alloc"}})
    before = {h.name: (h.ip_json("route"), [i["ifname"] for i in h.ip_json("link")]) for h in topo}
    for host in topo:
        host.start_flanneld()
    h1, h2 = topo.hosts
    assert not h1.subnet().overlaps(h2.subnet())
    assert h1.read_subnet_env()["FLANNEL_MTU"] == "1500"
    for host in topo:
        _, record = topo.store.lease_of(host.address)
        assert record["BackendType"] == "alloc"
        assert record.get("BackendData") is None
        now = (host.ip_json("route"), [i["ifname"] for i in host.ip_json("link")])
        assert now == before[host.name]
        assert host.wait_readyz(200)
    stays(lambda: h1.pod_routes() == {}, 0.1)
