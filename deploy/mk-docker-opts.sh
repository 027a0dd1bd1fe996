#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mk-docker-opts.sh - turns flanneld's subnet file into options for dockerd
#
# FLANNEL_SUBNET, FLANNEL_MTU and FLANNEL_IPMASQ become a file for systemd's EnvironmentFile=:
#
#	DOCKER_OPT_BIP="--bip=10.5.52.1/24"
#	DOCKER_OPT_IPMASQ="--ip-masq=false"
#	DOCKER_OPT_MTU="--mtu=1450"
#	DOCKER_OPTS=" --bip=10.5.52.1/24 --ip-masq=false --mtu=1450"
#
# Every byte is as flannel's script of this name has it, the blanks too. As there, variables
# may also come from the environment: other DOCKER_OPT_* are copied, and what DOCKER_OPTS
# (or the name that -k gives) holds already comes first.
#
# It ends with 1 on a wrong option or value or when it cannot write, and the output file is as
# it was; also when the subnet is routed to another host, but then the file is written.
file=/run/flannel/subnet.env
out=/run/docker_opts.env
key=DOCKER_OPTS
each=no
all=no
masq=yes

nl='
'

say() {
	printf 'mk-docker-opts.sh: %s\n' "$*" >&2
}

die() {
	say "$@"
	exit 1
}

usage() {
	cat >&2 <<-END
		usage: $0 [-i] [-c] [-m] [-f FILE] [-d FILE] [-k NAME]

		Turns flanneld's subnet file into options for dockerd.

		  -f FILE  read this subnet file ($file)
		  -d FILE  write this file ($out)
		  -i       one variable for each option: DOCKER_OPT_MTU="--mtu=1450"
		  -c       one variable for all of them; without -i and -c: both
		  -k NAME  what that one is called ($key)
		  -m       no --ip-masq (for a Docker that does not know it)
	END
	exit 1
}

# network_of ADDRESS/LENGTH: sets network, written as `ip route` writes it, or fails.
network_of() {
	case $1 in
	*/*/* | */ | *[!0-9./]*) return 1 ;;
	*.*.*.*/*) ;;
	*) return 1 ;;
	esac
	bits=${1#*/} rest=${1%/*}. network=''
	is_number "$bits" 32 || return 1
	length=$bits
	while [ -n "$rest" ]; do
		byte=${rest%%.*} rest=${rest#*.}
		is_number "$byte" 255 || return 1
		keep=$((bits > 8 ? 8 : bits))
		bits=$((bits - keep))
		network=$network.$((byte & (256 - (1 << (8 - keep)))))
	done
	network=${network#.}
	case $network in
	*.*.*.*.*) return 1 ;;
	esac
	[ "$length" = 32 ] || network=$network/$length
}

# is_number TEXT MAXIMUM: decimal, no leading zeros (which arithmetic takes for octal).
is_number() {
	case $1 in
	'' | *[!0-9]* | 0?* | ??????*) return 1 ;;
	esac
	[ "$1" -le "$2" ]
}

# The names of all variables DOCKER_OPT_*, in order. A line of `set` may as well be a part of
# a value that has several.
option_names() {
	set | while IFS= read -r line; do
		case $line in
		DOCKER_OPT_*=*) line=${line%%=*} ;;
		*) continue ;;
		esac
		case $line in
		*[!A-Za-z0-9_]*) ;;
		*) eval "[ -z \"\${$line+x}\" ]" || printf '%s\n' "$line" ;;
		esac
	done | LC_ALL=C sort -u
}

# Replaces $out as a whole. What is no plain file (/dev/stdout, a symbolic link) stays what it
# is, and is written into; so is a file that is mounted alone, or in a read-only directory.
write_out() {
	if [ -L "$out" ] || { [ -e "$out" ] && [ ! -f "$out" ]; }; then
		printf '%s' "$1" >"$out" || die "cannot write $out"
		return
	fi
	new=$out.$$.new done=no
	trap 'rm -f "$new"' EXIT
	trap 'exit 1' HUP INT TERM
	rm -f "$new" 2>/dev/null
	if (set -C && : >"$new") 2>/dev/null; then
		{ printf '%s' "$1" >"$new" && chmod 0644 "$new"; } || die "cannot write $new"
		mv -f "$new" "$out" 2>/dev/null && done=yes
	fi
	rm -f "$new"
	trap - EXIT HUP INT TERM
	[ $done = yes ] || printf '%s' "$1" >"$out" || die "cannot write $out"
}

# foreign_route NETWORK: prints the route to this network through a gateway, if there is one.
# The next hops of a multipath route are lines of their own.
foreign_route() {
	dst=''
	ip -4 route show 2>/dev/null | while read -r word rest; do
		[ "$word" = nexthop ] || dst=$word
		[ "$dst" = "$1" ] || continue
		case " $rest" in
		*' via '*)
			printf '%s\n' "$dst $rest"
			break
			;;
		esac
	done
}

while getopts 'f:d:icmk:?h' option; do
	case $option in
	f) file=$OPTARG ;;
	d) out=$OPTARG ;;
	i) each=yes ;;
	c) all=yes ;;
	m) masq=no ;;
	k) key=$OPTARG ;;
	*) usage ;;
	esac
done
if [ $each = no ] && [ $all = no ]; then
	each=yes all=yes
fi
case $key in
'' | [0-9]* | *[!A-Za-z0-9_]*) die "-k: '$key' is no name of a variable" ;;
esac

from='the environment'
none="there is no $file"
if [ -f "$file" ]; then
	[ -r "$file" ] || die "cannot read $file"
	from=$file
	none="$file has no FLANNEL_SUBNET"
	case $file in
	*/*) ;;
	*) file=./$file ;; # without a slash it would be looked for in PATH
	esac
	# shellcheck source=/dev/null
	. "$file"
fi

if [ -n "${FLANNEL_SUBNET:-}" ]; then
	network_of "$FLANNEL_SUBNET" ||
		die "$from: FLANNEL_SUBNET is '$FLANNEL_SUBNET', no IPv4 address with a length"
	# shellcheck disable=SC2034 # found by option_names
	DOCKER_OPT_BIP="--bip=$FLANNEL_SUBNET"
else
	say "$none: Docker will choose a subnet of its own"
fi
if [ -n "${FLANNEL_MTU:-}" ]; then
	is_number "$FLANNEL_MTU" 65536 ||
		die "$from: FLANNEL_MTU is '$FLANNEL_MTU', no number of bytes"
	# shellcheck disable=SC2034
	DOCKER_OPT_MTU="--mtu=$FLANNEL_MTU"
fi
# Who masquerades: flanneld, then Docker must not, or the reverse.
if [ $masq = yes ]; then
	# shellcheck disable=SC2034
	case ${FLANNEL_IPMASQ:-} in
	'') ;;
	true) DOCKER_OPT_IPMASQ=--ip-masq=false ;;
	false) DOCKER_OPT_IPMASQ=--ip-masq=true ;;
	*) die "$from: FLANNEL_IPMASQ is '$FLANNEL_IPMASQ', neither true nor false" ;;
	esac
fi

eval "combined=\${$key:-}"
combined=${combined:+$combined }
text=''
for name in $(option_names); do
	value=''
	eval "value=\$$name"
	[ $each = no ] || text="$text$name=\"$value\"$nl"
	combined="$combined $value"
done
[ $all = no ] || text="$text$key=\"$combined\"$nl"
write_out "$text"

if [ -n "${FLANNEL_SUBNET:-}" ]; then
	route=$(foreign_route "$network")
	[ -z "$route" ] || die "the subnet of this host is routed to another one: $route"
fi
