# SPDX-License-Identifier: Apache-2.0
"""store.py - the embedded datastore as a person with a shell sees it: a directory

DIR/config is the network config, DIR/subnets/10.5.52.0-24 a lease.
"""

import datetime
import json
import os


class Records:
    """What all datastores of the lab have in common, whoever keeps the records. They have
    file() (where a thing is, for messages), write(), keys(), lease(), put_lease(), remove()."""

    def environment(self, host):
        """What a host's flanneld needs in its environment to use it."""
        return {}

    def wait_told(self, hosts, flags):
        """Waits for what a flanneld that is ready has yet to write."""

    def write_config(self, config):
        self.write("config", config if isinstance(config, str) else json.dumps(config))

    def leases(self):
        """{key: record}; a record that goes away meanwhile is left out."""
        found = {}
        for key in self.keys():
            try:
                found[key] = self.lease(key)
            except (OSError, LookupError, ValueError):
                continue
        return found

    def lease_of(self, address):
        """(key, record) of the host with this public address, or None."""
        for key, record in self.leases().items():
            if address in (record.get("PublicIP"), record.get("PublicIPv6")):
                return key, record
        return None

    def put_peer(self, key, public_ip, mac=None, vni=1, expires_in=86400, **more):
        """A record as another host's daemon would write it: vxlan with mac, else host-gw."""
        record = {"PublicIP": public_ip, "BackendType": "vxlan" if mac else "host-gw"}
        if mac:
            record["BackendData"] = {"VNI": vni, "VtepMAC": mac}
        record.update(more)
        self.put_lease(key, record, expires_in)


class Store(Records):
    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.join(path, "subnets"), exist_ok=True)

    def flanneld_flags(self):
        return [f"--subnet-dir={self.path}"]

    def file(self, *names):
        return os.path.join(self.path, *names)

    def write(self, name, text):
        """Replaces a file as a whole, as an editor or a config manager does."""
        temporary = self.file(f".{os.path.basename(name)}.new")
        with open(temporary, "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(temporary, self.file(name))

    def keys(self):
        try:
            names = os.listdir(self.file("subnets"))
        except OSError:
            return []
        return sorted(n for n in names if n[:1].isalnum() and "-" in n and "." not in n[-4:])

    def lease(self, key):
        with open(self.file("subnets", key), encoding="utf-8") as f:
            return json.load(f)

    def put_lease(self, key, record, expires_in=86400):
        """Writes a record by hand; expires_in seconds, None: a reservation."""
        record = dict(record)
        if expires_in is not None:
            record["Expiration"] = rfc3339(expires_in)
        self.write(os.path.join("subnets", key), json.dumps(record))

    def remove(self, key):
        os.unlink(self.file("subnets", key))


def rfc3339(seconds_from_now):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now + datetime.timedelta(seconds=seconds_from_now)).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text):
    """Unix time."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def key_to_net(key):
    """`10.5.52.0-24` to `10.5.52.0/24`."""
    return key.replace("-", "/")
