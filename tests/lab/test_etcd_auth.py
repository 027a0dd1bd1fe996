# SPDX-License-Identifier: Apache-2.0
"""TLS, users and passwords of etcd: what works, and that what does not is said in one line
that names the endpoint and what to do. No secret shows anywhere.

     h1     h2     e1
    -+------+------+- sw1
"""

import os
import re
import shutil
import time

import pytest

from lib import expect, traffic
from lib.certs import Authority
from lib.etcd import CLIENT_PORT, PREFIX
from lib.expect import stays, wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan", "etcd")

CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
# Every password of these tests has this word in it.
SECRET = "secret"
PASSWORD = "flannel-secret-1"
NEW_PASSWORD = "flannel-secret-2"


def assert_no_secret(host):
    """Nowhere that a person or another program looks."""
    with open(f"/proc/{host.process.pid}/cmdline", "rb") as f:
        seen = {"cmdline": f.read().decode()}
    seen.update(log=host.log_text(), readyz=str(host.get("/readyz")), notify=str(host.states))
    for directory, _, names in os.walk(host.state_dir):
        for name in names:
            with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as f:
                seen[name] = f.read()
    assert not [where for where, text in seen.items() if SECRET in text], seen


def write(path, text):
    """As a config manager renews a file."""
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write(text)
    os.rename(path + ".new", path)
    return path


@pytest.fixture
def make_etcd(make_topo):
    """A topology with one etcd that has the config; topo.etcds[0] is the cluster."""

    def make(hosts=1, **how):
        topo = make_topo(hosts)
        topo.etcd(**how).v3.write_config(CONFIG)
        return topo, topo.etcds[0]

    return make


def enable_auth(etcd, password=PASSWORD, **how):
    etcd.add_user("flannel", password, **how)
    etcd.enable_auth()


# -- what works ------------------------------------------------------------------------


def test_the_server_alone_shows_a_certificate(make_etcd):
    """--etcd-cafile is all that is given, and the connection is no plain one for that."""
    topo, etcd = make_etcd(2, tls="server")
    assert set(etcd.client) == {"etcd-endpoints", "etcd-cafile"}
    topo.start()
    traffic.assert_all_to_all(topo.pods())


def test_both_show_certificates(make_etcd):
    topo, _ = make_etcd(2, tls="mutual")
    topo.start()
    traffic.assert_all_to_all(topo.pods())


def test_a_user_by_the_name_in_the_certificate(make_etcd):
    topo, etcd = make_etcd(2, tls="mutual")
    enable_auth(etcd, password=None)
    topo.start()
    topo.follow_the_store()
    traffic.assert_all_to_all(topo.pods())


@pytest.mark.parametrize("tls, given", [
    (None, "flag"), (None, "file"), (None, "environment"), ("server", "file"),
    ("mutual", "environment"),
])
def test_user_and_password(make_etcd, tls, given, tmp_path):
    topo, etcd = make_etcd(tls=tls)
    enable_auth(etcd)
    etcd.client["etcd-username"] = "flannel"
    if tls == "mutual":  # without a name in it that could count instead
        etcd.client.update({"etcd-certfile": etcd.admin.cert, "etcd-keyfile": etcd.admin.key})
    env = {}
    if given == "flag":
        etcd.client["etcd-password"] = PASSWORD
    elif given == "file":
        etcd.client["etcd-password-file"] = write(str(tmp_path / "pw"), PASSWORD + "\n")
    else:
        env["FLANNELD_ETCD_PASSWORD"] = PASSWORD
    topo.start(None, env=env)
    topo.follow_the_store()
    assert etcd.v3.ttl(topo["h1"].key())[1] == 86400
    assert_no_secret(topo["h1"])


def test_a_password_that_is_not_asked_for_is_no_obstacle(make_etcd):
    topo, etcd = make_etcd()
    topo.allow_log("W", "authentication")
    etcd.client["etcd-username"] = "flannel"
    topo.start(None, env={"FLANNELD_ETCD_PASSWORD": PASSWORD})
    topo.follow_the_store()


@pytest.mark.parametrize("flag, env", [
    ("etcd-username", {}), ("etcd-prefix", {"FLANNELD_ETCD_PASSWORD": PASSWORD}),
], ids=["user", "password"])
def test_half_of_user_and_password_is_named_and_has_no_effect(make_etcd, flag, env):
    """As in the original."""
    topo, etcd = make_etcd()
    topo.allow_log("W", "no effect")
    etcd.client[flag] = "flannel" if flag == "etcd-username" else PREFIX
    topo.start(None, env=env)
    topo["h1"].wait_log("--etcd-username")


def test_a_role_on_the_directory_is_enough(make_etcd):
    """What people grant: the prefix with a slash at its end."""
    topo, etcd = make_etcd()
    enable_auth(etcd, prefixes=[f"{PREFIX}/"])
    etcd.client["etcd-username"] = "flannel"
    topo.start(None, env={"FLANNELD_ETCD_PASSWORD": PASSWORD})
    topo.follow_the_store()


# -- changes while running -------------------------------------------------------------


def test_auth_is_switched_on_and_off_under_load(make_etcd):
    topo, etcd = make_etcd(2)
    topo.allow_log("W", "etcd|[Dd]atastore|auth")
    etcd.add_user("flannel", PASSWORD)
    etcd.client["etcd-username"] = "flannel"
    topo.start(None, env={"FLANNELD_ETCD_PASSWORD": PASSWORD})
    before, keys = topo.overlays(), sorted(h.key() for h in topo)
    with traffic.Stream([topo.pods()]) as stream:
        for n, change in enumerate((etcd.enable_auth, etcd.disable_auth) * 2):
            change()
            topo.follow_the_store(70 + n)
            # Something that is to be written, too.
            etcd.v3.remove(topo["h1"].key())
            wait_until(lambda: etcd.v3.kv(topo["h1"].key()), 20)
            etcd.v3.remove(f"10.5.{70 + n}.0-24")
        wait_equal(topo.overlays, before, 20)
    assert stream.report.lost == 0, stream.report
    assert etcd.v3.keys() == keys


def test_tokens_that_run_out_are_renewed(make_topo):
    """One second of use, three of none: the watch goes on, the next call has a new token."""
    topo = make_topo(2)
    topo.allow_log("W", "etcd|[Dd]atastore|was deleted")
    etcd = topo.etcd(flags=["--auth-token-ttl=1"])
    etcd.v3.write_config(CONFIG)
    enable_auth(etcd)
    etcd.client["etcd-username"] = "flannel"
    topo.start(None, env={"FLANNELD_ETCD_PASSWORD": PASSWORD})
    key = topo["h1"].key()
    stays(lambda: all(h.process.poll() is None for h in topo), 3)
    etcd.v3.remove(key)
    wait_until(lambda: etcd.v3.kv(key))
    topo.follow_the_store()


def test_the_password_changes_and_the_file_is_rewritten(make_etcd, tmp_path):
    """In either order, and with etcd restarted in between: the new one is read by itself."""
    topo, etcd = make_etcd(2)
    topo.allow_log("W", "etcd|[Dd]atastore|was deleted")
    enable_auth(etcd)
    path = write(str(tmp_path / "pw"), PASSWORD)
    etcd.client.update({"etcd-username": "flannel", "etcd-password-file": path})
    topo.start()
    before = topo.overlays()
    with traffic.Stream([topo.pods()]) as stream:
        etcd.change_password("flannel", NEW_PASSWORD)
        etcd.restart()
        topo["h1"].wait_log(f"{etcd['e1'].url}.*password", timeout=20)
        stays(lambda: topo.overlays() == before, 0.5)
        write(path, NEW_PASSWORD + "\n")
        topo.follow_the_store(77)
        write(path, PASSWORD)
        etcd.change_password("flannel", PASSWORD)
        etcd.v3.remove(topo["h1"].key())
        wait_until(lambda: etcd.v3.kv(topo["h1"].key()), 20)
        topo.follow_the_store(78)
    assert stream.report.lost == 0, stream.report
    for host in topo:
        assert_no_secret(host)


def test_a_client_certificate_expires_and_is_renewed_on_disk(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", "etcd|[Dd]atastore")
    etcd = topo.etcd(tls="mutual")
    # Both have to be connected before it ends.
    lasts = int(5 * expect.TIME_FACTOR)
    etcd.ca.issue("flannel", cn="flannel", server=False, ends_in=lasts)
    ends = time.monotonic() + lasts + 1
    topo.start(CONFIG)
    before = topo.overlays()
    with traffic.Stream([topo.pods()]) as stream:
        # A connection that stands is not asked again.
        stays(lambda: topo.overlays() == before, max(1, ends - time.monotonic()))
        etcd.restart()
        topo["h1"].wait_log("expired", timeout=20)
        topo["h1"].wait_readyz(None, "expired")
        etcd.ca.issue("flannel", cn="flannel", server=False)
        topo.follow_the_store()
    assert stream.report.lost == 0, stream.report


def test_the_certificate_of_the_server_expires_and_is_renewed(make_topo):
    topo = make_topo(1)
    topo.allow_log("W", "etcd|[Dd]atastore")
    etcd = topo.etcd(tls="server")
    topo.start(CONFIG)
    etcd.issue_server(ends_in=-60)
    etcd["e1"].restart()
    topo["h1"].wait_log(f"{etcd['e1'].url}.*expired", timeout=20)
    etcd.issue_server()
    topo.follow_the_store()


def test_the_authority_changes(make_topo):
    """First the clients learn of the new one, then the server shows its certificate."""
    topo = make_topo(1)
    topo.allow_log("W", "etcd|[Dd]atastore")
    etcd = topo.etcd(tls="server")
    topo.start(CONFIG)
    old, new = etcd.ca, Authority(etcd.dir, "new")
    with open(old.cert, encoding="ascii") as f, open(new.cert, encoding="ascii") as g:
        write(old.cert, f.read() + g.read())
    pair = new.issue("server", cn="etcd", san=[etcd["e1"].address])
    shutil.copy(pair.key, etcd.server.key)
    shutil.copy(pair.cert, etcd.server.cert)
    etcd.restart()
    topo.follow_the_store()


# -- what does not work, and what is said ----------------------------------------------


def wait_refused(host, etcd, pattern, env=None, timeout=10.0):
    """flanneld runs on, is not ready, and has said why with the endpoint in the line."""
    host.allow_log("W", "etcd|[Dd]atastore")
    host.start_flanneld(wait=False, env=env)
    line = host.wait_log(f"^[WE].*{re.escape(etcd.client['etcd-endpoints'])}.*{pattern}.*$",
                         timeout=timeout)[0]
    print(line)
    host.wait_readyz(503, pattern)
    assert host.process.poll() is None
    assert_no_secret(host)
    # A line for a change of state, not one for each try.
    stays(lambda: len(re.findall("^[WE]", host.log_text(host.log_mark), re.M)) <= 3, 1)


def test_a_wrong_authority(make_etcd):
    """And the right one put in its place: no restart is needed."""
    topo, etcd = make_etcd(tls="server")
    wrong = Authority(etcd.dir, "wrong")
    etcd.client["etcd-cafile"] = wrong.cert
    wait_refused(topo["h1"], etcd, "(authority|issuer|etcd-cafile)")
    shutil.copy(etcd.ca.cert, wrong.cert)
    topo["h1"].wait_ready(20)


def test_no_authority_at_all(make_etcd):
    topo, etcd = make_etcd(tls="server")
    del etcd.client["etcd-cafile"]
    wait_refused(topo["h1"], etcd, "(authority|issuer|etcd-cafile)")


def test_a_certificate_for_another_host(make_etcd):
    topo, etcd = make_etcd(tls="server")
    etcd.ca.issue("server", cn="etcd", san=["etcd.example", "192.168.64.99"])
    wait_refused(topo["h1"], etcd, re.escape(etcd["e1"].address))
    etcd.issue_server()
    topo["h1"].wait_ready(20)


def test_an_expired_certificate_of_the_server(make_etcd):
    topo, etcd = make_etcd(tls="server")
    etcd.issue_server(ends_in=-60)
    wait_refused(topo["h1"], etcd, "expired")
    etcd.issue_server()
    topo["h1"].wait_ready(20)


def test_a_client_certificate_is_wanted(make_etcd):
    topo, etcd = make_etcd(tls="mutual")
    del etcd.client["etcd-certfile"], etcd.client["etcd-keyfile"]
    wait_refused(topo["h1"], etcd, "(client certificate|etcd-certfile)")


def test_a_client_certificate_of_a_stranger(make_etcd):
    topo, etcd = make_etcd(tls="mutual")
    pair = Authority(etcd.dir, "other").issue("flannel", cn="flannel", server=False)
    etcd.client.update({"etcd-certfile": pair.cert, "etcd-keyfile": pair.key})
    wait_refused(topo["h1"], etcd, "certificate")


def test_a_name_in_the_certificate_that_is_no_user(make_etcd):
    topo, etcd = make_etcd(tls="mutual")
    enable_auth(etcd, password=None)
    pair = etcd.ca.issue("nobody", cn="nobody", server=False)
    etcd.client.update({"etcd-certfile": pair.cert, "etcd-keyfile": pair.key})
    wait_refused(topo["h1"], etcd, "(user|permission|CN)")


def test_no_user_where_one_is_wanted(make_etcd):
    topo, etcd = make_etcd()
    enable_auth(etcd)
    wait_refused(topo["h1"], etcd, "etcd-username")
    etcd.disable_auth()
    topo["h1"].wait_ready(20)


def test_a_wrong_password_that_is_put_right_in_etcd(make_etcd):
    topo, etcd = make_etcd()
    enable_auth(etcd)
    etcd.client["etcd-username"] = "flannel"
    wait_refused(topo["h1"], etcd, "password", env={"FLANNELD_ETCD_PASSWORD": NEW_PASSWORD})
    etcd.change_password("flannel", NEW_PASSWORD)
    topo["h1"].wait_ready(20)


def test_a_role_without_the_range(make_etcd):
    topo, etcd = make_etcd()
    enable_auth(etcd, prefixes=["/elsewhere"])
    etcd.client["etcd-username"] = "flannel"
    wait_refused(topo["h1"], etcd, "(permission|role)", env={"FLANNELD_ETCD_PASSWORD": PASSWORD})
    etcd.ctl("role", "grant-permission", "flannel", "readwrite", "--prefix=true", PREFIX)
    topo["h1"].wait_ready(20)


def test_a_role_that_may_only_read(make_etcd):
    topo, etcd = make_etcd()
    enable_auth(etcd, prefixes=["/elsewhere"])
    etcd.ctl("role", "grant-permission", "flannel", "read", "--prefix=true", PREFIX)
    etcd.client["etcd-username"] = "flannel"
    h1 = topo["h1"]
    h1.allow_log("W", "etcd|[Dd]atastore|lease|permission")
    h1.start_flanneld(wait=False, env={"FLANNELD_ETCD_PASSWORD": PASSWORD})
    h1.wait_log("^W.*(permission|role)")
    h1.wait_readyz(503, "(permission|role)")
    etcd.ctl("role", "grant-permission", "flannel", "readwrite", "--prefix=true", PREFIX)
    h1.wait_ready(30)


def test_https_to_a_plain_port(make_etcd):
    topo, etcd = make_etcd()
    etcd.client["etcd-endpoints"] = etcd["e1"].url.replace("http:", "https:")
    wait_refused(topo["h1"], etcd, "(TLS|http:)")


def test_http_to_a_tls_port(make_etcd):
    topo, etcd = make_etcd(tls="server")
    etcd.client = {"etcd-endpoints": etcd["e1"].url.replace("https:", "http:")}
    wait_refused(topo["h1"], etcd, "(TLS|https)")


def test_a_port_where_no_etcd_listens(make_etcd):
    topo, etcd = make_etcd()
    etcd.client["etcd-endpoints"] = etcd["e1"].url.replace(str(CLIENT_PORT), "2378")
    wait_refused(topo["h1"], etcd, "refused")


def test_an_endpoint_without_a_scheme_is_plain_http(make_etcd):
    """As in the original."""
    topo, etcd = make_etcd()
    etcd.client["etcd-endpoints"] = etcd["e1"].url.replace("http://", "")
    topo.start()


def test_one_good_endpoint_among_bad_ones_is_found(make_etcd):
    topo, etcd = make_etcd()
    topo.allow_log("W", "etcd|[Dd]atastore")
    bad = ["http://192.168.64.99:2379", etcd["e1"].url.replace(str(CLIENT_PORT), "2378"),
           "http://no-such-name.invalid:2379"]
    etcd.client["etcd-endpoints"] = ",".join(bad + [etcd["e1"].url])
    topo["h1"].start_flanneld(timeout=30)
    topo.follow_the_store()


def test_an_api_that_there_is_not(make_topo):
    done = make_topo(1)["h1"].run_flanneld("--etcd-api=v4", subnet_dir=False)
    assert done.code == 2 and "--etcd-api=v4" in done.text and "auto|v2|v3" in done.text


# -- flags that cannot be meant: an exit, at once, with one line ------------------------

GOOD = "http://192.168.64.241:2379"


@pytest.mark.parametrize("flags, words", [
    (["--etcd-endpoints=http://192.168.64.241:99999"], ["99999"]),
    (["--etcd-endpoints=ftp://192.168.64.241"], ["ftp://192.168.64.241", "http"]),
    (["--etcd-endpoints=http://u:the-secret@192.168.64.241"], ["--etcd-endpoints", "password"]),
    ([f"--etcd-endpoints={GOOD},https://192.168.64.242:2379"], [GOOD, "https"]),
    (["--etcd-endpoints=,"], ["--etcd-endpoints"]),
    (["--etcd-username=a", "--etcd-password=the-secret", "--etcd-password-file=/dev/null"],
     ["--etcd-password-file"]),
    (["--etcd-username=a", "--etcd-password-file=/no/such/file"], ["/no/such/file"]),
    (["--etcd-keyfile=K"], ["--etcd-keyfile", "--etcd-certfile"]),
    (["--etcd-certfile=C"], ["--etcd-keyfile", "--etcd-certfile"]),
    (["--etcd-cafile=/no/such/file"], ["/no/such/file"]),
    (["--etcd-certfile=C", "--etcd-keyfile=OTHERKEY"], ["C", "OTHERKEY"]),
    (["--etcd-certfile=JUNK", "--etcd-keyfile=K"], ["JUNK"]),
    (["--etcd-cafile=JUNK"], ["JUNK"]),
], ids=lambda x: x[-1].lstrip("-").replace("/", "_") if x[-1].startswith("--") else "")
def test_flags_that_cannot_work_are_refused(make_topo, flags, words, tmp_path):
    topo = make_topo(1)
    ca = Authority(str(tmp_path))
    good, other = ca.issue("good"), ca.issue("other")
    names = {"C": good.cert, "K": good.key, "OTHERKEY": other.key,
             "JUNK": write(str(tmp_path / "junk"), "no PEM\n")}

    def name(text):
        return names.get(text, text)

    argv = ["=".join((flag.split("=")[0], name(flag.split("=", 1)[1]))) for flag in flags]
    if any("file=" in flag for flag in flags) and "password" not in flags[-1]:
        argv.insert(0, "--etcd-endpoints=https://192.168.64.241:2379")
    done = topo["h1"].run_flanneld(*argv, subnet_dir=False)
    errors = done.lines("E")
    print(*errors)
    assert done.code == 1 and len(errors) == 1, done.text
    assert all(name(word) in errors[0] for word in words), errors
    assert SECRET not in done.text
