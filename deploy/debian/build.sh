#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh - a Debian package of built programs
#
#	deploy/debian/build.sh BUILD-DIR OUTPUT-DIR
#
# prints the path of the package. Without debhelper: dpkg-dev and binutils are all that it
# takes. The same programs make the same bytes (times are SOURCE_DATE_EPOCH, 0 unless given).
# DEB_MAINTAINER is who answers for it.
set -eu

[ $# = 2 ] || {
	echo "usage: $0 BUILD-DIR OUTPUT-DIR" >&2
	exit 2
}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
build=$(CDPATH='' cd -- "$1" && pwd)
output=$(CDPATH='' cd -- "$2" && pwd)
export LC_ALL=C SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
stage=$work/stage

# put MODE SOURCE PATH
put() {
	install -D -m "$1" "$2" "$stage/$3"
}

# packed SOURCE PATH
packed() {
	mkdir -p "$(dirname "$stage/$2")"
	gzip -9n <"$1" >"$stage/$2"
}

version=$(sed -n "s/^\tversion: '\(.*\)',/\1/p" "$root/meson.build")
architecture=$(dpkg --print-architecture)

put 0755 "$build/flanneld" usr/sbin/flanneld
put 0755 "$build/flannel" usr/lib/cni/flannel
strip --strip-all "$stage/usr/sbin/flanneld" "$stage/usr/lib/cni/flannel"
put 0755 "$root/deploy/mk-docker-opts.sh" usr/libexec/flannel/mk-docker-opts.sh
put 0644 "$root/deploy/systemd/flanneld.service" lib/systemd/system/flanneld.service
put 0644 "$root/deploy/systemd/flanneld.default" etc/default/flanneld
packed "$build/flanneld.8" usr/share/man/man8/flanneld.8.gz
doc=usr/share/doc/weft
put 0644 "$root/LICENSE" $doc/copyright
for file in "$root"/docs/*.md; do
	put 0644 "$file" "$doc/${file##*/}"
done
put 0644 "$root/deploy/systemd/docker.service.d/flannel.conf" \
	$doc/examples/docker.service.d/flannel.conf
put 0644 "$root/deploy/supervisor/flanneld.conf" $doc/examples/supervisor/flanneld.conf
put 0644 "$root/deploy/kube-flannel.yml" $doc/examples/kube-flannel.yml

# What dpkg-shlibdeps takes for a source package.
mkdir -p "$work/source/debian"
printf 'Source: weft\n\nPackage: weft\nArchitecture: any\n' >"$work/source/debian/control"
depends=$(cd "$work/source" && dpkg-shlibdeps -O "$stage/usr/sbin/flanneld" 2>"$work/log" |
	sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || {
	cat "$work/log" >&2
	exit 1
}

mkdir -p "$stage/DEBIAN"
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -print | sed 's|^\./||' | sort |
	xargs md5sum) >"$stage/DEBIAN/md5sums"
# Of the files alone: what a directory takes depends on the file system.
bytes=$(cd "$stage" && find . -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" \
	-e "s|@MAINTAINER@|${DEB_MAINTAINER:-Weft maintainers <root@localhost>}|" \
	-e "s|@SIZE@|$(((bytes + 1023) / 1024))|" -e "s|@DEPENDS@|$depends|" \
	"$root/deploy/debian/control.in" >"$stage/DEBIAN/control"
echo /etc/default/flanneld >"$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do
	put 0755 "$root/deploy/debian/$script" "DEBIAN/$script"
done

deb=$output/weft_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$stage" "$work/new.deb" >/dev/null
mv "$work/new.deb" "$deb"
printf '%s\n' "$deb"
