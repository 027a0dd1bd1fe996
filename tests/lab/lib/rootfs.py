# SPDX-License-Identifier: Apache-2.0
"""rootfs.py - a root file system for containers: a static busybox, and links to it"""

import io
import shutil
import tarfile


def tar(applets, files=None):
    """The bytes of a tar. files: {path: text}"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(shutil.which("busybox"), "bin/busybox")
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for path, text in (files or {}).items():
            info = tarfile.TarInfo(path)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()
