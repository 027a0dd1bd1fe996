# SPDX-License-Identifier: Apache-2.0
"""guest.py - a virtual machine that runs tests which need a kernel with more modules

Debian's kernel in QEMU without KVM: it boots in a few seconds on any machine, and runs some
ten times slower. It sees this machine's whole file system (9p, read-only, below a tmpfs), so
that programs, libraries, Python and the tests themselves are those of this machine.

The kernel is what `./dev test lab` unpacks into build-guest/ (boot/vmlinuz-*, lib/modules/).
"""

import glob
import os
import re
import shlex
import shutil
import subprocess

from .node import FLANNELD, ROOT

KERNEL = os.path.join(ROOT, "build-guest")
QEMU = "qemu-system-x86_64"
# Which others they need, they say themselves; crc32c_generic is what libcrc32c looks for.
_MODULES = ("9pnet_virtio", "9p", "virtio_pci", "overlay", "crc32c_generic", "nf_tables", "tun",
            "veth", "bridge", "vxlan", "fou", "ipip")
_INIT = """#!/busybox sh
/busybox mkdir -p /proc /sys /host /out /new
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
while read -r module; do /busybox insmod "$module" || echo "no module $module"; done </order
opt=trans=virtio,version=9p2000.L,msize=524288
/busybox mount -t 9p -o ro,cache=loose,$opt host /host
/busybox mount -t tmpfs over /out && /busybox mkdir /out/up /out/work
/busybox mount -t overlay -o lowerdir=/host,upperdir=/out/up,workdir=/out/work over /new
cd /new
/busybox mount -t proc proc proc
/busybox mount -t sysfs sys sys
/busybox mount -t devtmpfs dev dev
for d in tmp run; do /busybox mount -t tmpfs "$d" "$d"; done
/busybox mkdir -p run/netns run/out dev/net
/busybox mount -t 9p -o $opt out run/out
/busybox ip link set lo up
exec /busybox chroot /new /bin/sh /run/out/job
"""
_JOB = """export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
export HOME=/tmp FLANNELD={flanneld} PYTHONPATH={root}/tests/lab WEFT_TIME_FACTOR=6
cd {root}/tests/lab
python3 -u -m pytest -v --color=no --tb=short -p conftest -p no:cacheprovider \\
    --rootdir={root}/tests/guest --timeout=180 {tests} >/run/out/report 2>&1
mkfifo /tmp/for-ever
echo o >/proc/sysrq-trigger
read -r _ </tmp/for-ever
"""
# A line of pytest -v; who is torn down badly has two.
_VERDICT = re.compile(r"^\S*::(.+?) (PASSED|FAILED|ERROR|SKIPPED)\b.*\[ *\d+%\]$", re.M)


def missing():
    """What is not here, by name; None: a guest can run."""
    for program in (QEMU, "busybox", "setpriv"):
        if not shutil.which(program):
            return program
    if not os.path.exists(f"{KERNEL}/done"):
        return f"kernel in {os.path.basename(KERNEL)}/ (./dev test lab unpacks it)"
    return None


def _depends(path):
    with open(path, "rb") as f:
        return re.search(rb"\0depends=([^\0]*)\0", f.read()).group(1).decode().split(",")


def _modules():
    """The files of _MODULES and of what those need, in the order in which they are loaded."""
    files = {}
    for path in glob.glob(f"{KERNEL}/lib/modules/*/kernel/**/*.ko", recursive=True):
        files[os.path.basename(path)[:-3].replace("-", "_")] = path
    order = []

    def add(name):
        path = files.get(name.replace("-", "_"))
        if path and path not in order:  # else: built in
            for other in _depends(path):
                add(other)
            order.append(path)

    for name in _MODULES:
        add(name)
    return order


def _make_initramfs(directory):
    root = os.path.join(directory, "initramfs")
    os.makedirs(root)
    shutil.copy(shutil.which("busybox"), f"{root}/busybox")
    order = _modules()
    for path in order:
        shutil.copy(path, root)
    with open(f"{root}/order", "w", encoding="ascii") as f:
        f.writelines(f"/{os.path.basename(path)}\n" for path in order)
    with open(f"{root}/init", "w", encoding="ascii") as f:
        f.write(_INIT)
    os.chmod(f"{root}/init", 0o755)
    path = f"{directory}/initramfs.cpio"
    with open(path, "wb") as f:
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], stdout=f, cwd=root, check=True,
                       stderr=subprocess.DEVNULL,
                       input="\n".join(["."] + sorted(os.listdir(root))).encode())
    return path


class Outcome:
    """What became of a run: which tests passed, and what was said."""

    def __init__(self, report, console):
        self._report, self.console = report, console
        self.passed = {}  # by name, with parameters
        for name, word in _VERDICT.findall(report):
            self.passed[name] = self.passed.get(name, True) and word == "PASSED"
        if not re.search(r"^=+ .* in [0-9.]+s.* =+$", report, re.M):
            begun = re.findall(r"^\S*::(\w+)", report, re.M)
            # Perhaps not with all parameters.
            self.passed = {name: ok for name, ok in self.passed.items()
                           if name.split("[")[0] != begun[-1]}

    def story(self, name):
        """What pytest wrote of a test that did not pass."""
        title = rf"_+ (?:ERROR at \w+ of )?{re.escape(name)} _+"
        parts = re.findall(rf"^{title}\n.*?(?=^(?:_+ .+ _+|=+ .+ =+)$)", self._report, re.M | re.S)
        return "\n".join(parts) or f"{name}: see the guest's report:\n{self._report[-3000:]}"

    def end(self):
        """The last words of pytest and the kernel, of a run that came to no end."""
        return f"{self._report[-3000:]}\n-- console\n{self.console[-3000:]}"


def _read(path):
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def run_pytest(lab, directory, tests, timeout):
    """Runs tests (PATH::NAME) that may use the lab's fixtures in a guest of their own."""
    os.makedirs(f"{directory}/out")
    with open(f"{directory}/out/job", "w", encoding="utf-8") as f:
        f.write(_JOB.format(root=ROOT, flanneld=FLANNELD, tests=shlex.join(tests)))
    argv = [
        # However this process ends, the guest ends with it.
        "setpriv", "--pdeathsig", "KILL", "--",
        QEMU, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
        "-m", "1024", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-serial", f"file:{directory}/console",
        "-kernel", glob.glob(f"{KERNEL}/boot/vmlinuz-*")[0],
        "-initrd", _make_initramfs(directory),
        "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
    ]
    for tag, path, options in (("host", "/", ",readonly=on,multidevs=remap"),
                               ("out", f"{directory}/out", "")):
        argv += ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none{options}"]
    with open(f"{directory}/qemu.log", "wb") as log:
        process = lab.adopt(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                                             stderr=log))
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
    return Outcome(_read(f"{directory}/out/report"),
                   _read(f"{directory}/qemu.log") + _read(f"{directory}/console"))
