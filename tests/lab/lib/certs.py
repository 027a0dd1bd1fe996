# SPDX-License-Identifier: Apache-2.0
"""certs.py - an authority and the certificates it signs, made by the openssl command

    ca = Authority(directory)
    server = ca.issue("etcd", san=["192.168.64.241"])
    client = ca.issue("flannel", cn="flannel", server=False)
    ca.issue("flannel", cn="flannel", server=False)            # renewed: the same files
    ca.issue("old", cn="flannel", server=False, ends_in=-3600)     # expired an hour ago
"""

import datetime
import ipaddress
import os
import subprocess

_DAY = 86400

_CONFIG = """\
[ca]
default_ca = lab
[lab]
database = {dir}/index.txt
serial = {dir}/serial
new_certs_dir = {dir}
default_md = sha256
unique_subject = no
policy = any
copy_extensions = none
[any]
organizationName = optional
commonName = optional
[req]
distinguished_name = name
[name]
"""


class Pair:
    """A certificate and its key, as files."""

    def __init__(self, directory, name):
        self.cert = os.path.join(directory, f"{name}.crt")
        self.key = os.path.join(directory, f"{name}.key")


def _openssl(*args):
    done = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args[0]}: {done.stderr.strip()}")


def _when(seconds_from_now):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now + datetime.timedelta(seconds=seconds_from_now)).strftime("%Y%m%d%H%M%SZ")


def _san(name):
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


class Authority:
    def __init__(self, directory, name="ca"):
        self.dir = os.path.join(directory, name)
        os.makedirs(self.dir)
        self._write("openssl.cnf", _CONFIG.format(dir=self.dir))
        self._write("index.txt", "")
        self._write("serial", "1000\n")
        self._pair = Pair(self.dir, "ca")
        _openssl(
            "req", "-x509", *self._new_key(self._pair.key), "-days", "30",
            "-subj", f"/O=lab/CN=lab {name}", "-out", self.cert,
            "-addext", "basicConstraints=critical,CA:TRUE",
        )

    @property
    def cert(self):
        return self._pair.cert

    def _file(self, name):
        return os.path.join(self.dir, name)

    def _write(self, name, text):
        with open(self._file(name), "w", encoding="ascii") as f:
            f.write(text)

    def _new_key(self, path):
        return ("-config", self._file("openssl.cnf"), "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-nodes", "-keyout", path)

    def issue(self, name, cn=None, san=(), server=True, ends_in=_DAY):
        """A certificate for a server or a client, good from a day before its end (or from
        yesterday) until ends_in seconds from now. The files NAME.crt and NAME.key are each
        replaced as a whole, the key first."""
        new, pair = Pair(self.dir, f".{name}.new"), Pair(self.dir, name)
        request = self._file(f"{name}.csr")
        subject = "/O=lab" + (f"/CN={cn}" if cn else "")
        _openssl("req", "-new", *self._new_key(new.key), "-subj", subject, "-out", request)
        extensions = [f"extendedKeyUsage={'serverAuth,' if server else ''}clientAuth"]
        if san:
            extensions.append("subjectAltName=" + ",".join(map(_san, san)))
        self._write(f"{name}.ext", "\n".join(extensions) + "\n")
        _openssl(
            "ca", "-batch", "-notext", "-config", self._file("openssl.cnf"),
            "-cert", self.cert, "-keyfile", self._pair.key, "-in", request,
            "-out", new.cert, "-extfile", self._file(f"{name}.ext"),
            "-startdate", _when(min(ends_in, 0) - _DAY), "-enddate", _when(ends_in),
        )
        os.rename(new.key, pair.key)
        os.rename(new.cert, pair.cert)
        return pair
