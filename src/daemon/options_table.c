/* SPDX-License-Identifier: Apache-2.0 */
/* options_table.c - flanneld's flags
 *
 * Names and defaults are flannel's (main.go), but for --subnet-dir, --etcd-api,
 * --etcd-password-file, --state-dir, --tx-checksum and --peer-filter, which it lacks. The rows'
 * order is that of --help.
 */
#include "daemon/options_table.h"

#include "base/mem.h"
#include "daemon/options.h"
#include "daemon/pattern.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#define FIELD(member) .offset = offsetof(struct options, member)

static int check_annotation_prefix(const char *value, struct err *err)
{
	const char *slash = strchr(value, '/');

	if (slash && strchr(slash + 1, '/'))
		return err_set(err, -EINVAL, "may hold at most one slash");
	return 0;
}

static int check_pattern(const char *value, struct err *err)
{
	struct pattern *pattern;
	int r = pattern_new(value, &pattern, err);

	if (r < 0)
		return r;
	pattern_free(pattern);
	return 0;
}

static int check_not_empty(const char *value, struct err *err)
{
	return *value ? 0 : err_set(err, -EINVAL, "may not be empty");
}

static const char *const etcd_api_names[] = {
	[ETCD_API_AUTO] = "auto",
	[ETCD_API_V2] = "v2",
	[ETCD_API_V3] = "v3",
	[ETCD_API_COUNT] = NULL,
};
static_assert(sizeof(enum etcd_api_choice) == sizeof(unsigned), "OPTION_CHOICE writes an unsigned");

static const char *const tx_checksum_names[] = {
	[TX_CHECKSUM_AUTO] = "auto",
	[TX_CHECKSUM_ON] = "on",
	[TX_CHECKSUM_OFF] = "off",
	[TX_CHECKSUM_COUNT] = NULL,
};
static_assert(sizeof(enum tx_checksum) == sizeof(unsigned), "OPTION_CHOICE writes an unsigned");

const struct option_row option_rows[] = {
	{OPTION_HEADING, .help = "Where leases are kept"},
	{OPTION_STRING, "subnet-dir", FIELD(subnet_dir), .fallback = "", .arg = "DIR",
	 .help = "Keep the network config and the leases in this directory, without a datastore: "
		 "DIR/config and DIR/subnets/. Hosts that share the directory, or are sent its "
		 "files, form one network. See STORE."},
	{OPTION_BOOL, "kube-subnet-mgr", FIELD(kube_subnet_mgr), .fallback = "false",
	 .help = "Take the subnet from the Kubernetes API (the node's podCIDR) and publish there, "
		 "instead of etcd."},
	{OPTION_STRING, "kube-api-url", FIELD(kube_api_url), .fallback = "", .arg = "URL",
	 .help = "The Kubernetes API server. Not needed inside a pod."},
	{OPTION_STRING, "kubeconfig-file", FIELD(kubeconfig_file), .fallback = "", .arg = "FILE",
	 .help = "Address and credentials of the API server. Not needed inside a pod."},
	{OPTION_STRING, "kube-annotation-prefix", FIELD(kube_annotation_prefix),
	 .fallback = "flannel.alpha.coreos.com", .arg = "PREFIX", .check = check_annotation_prefix,
	 .help = "Prefix of the node annotations; at most one slash, appended when missing."},
	{OPTION_STRING, "net-config-path", FIELD(net_config_path),
	 .fallback = "/etc/kube-flannel/net-conf.json", .arg = "FILE",
	 .help = "The network config in Kubernetes mode."},
	{OPTION_BOOL, "set-node-network-unavailable", FIELD(set_node_network_unavailable),
	 .fallback = "true",
	 .help = "Set the node's condition NetworkUnavailable to False once the network is up."},
	{OPTION_STRING, "etcd-endpoints", FIELD(etcd_endpoints),
	 .fallback = "http://127.0.0.1:4001,http://127.0.0.1:2379", .arg = "URLS",
	 .check = check_not_empty,
	 .help = "The members of the etcd cluster, comma separated: http:// or https://, which is "
		 "also taken where a client certificate is given and the endpoint names neither; "
		 "the port is 2379 when it is left out."},
	{OPTION_STRING, "etcd-prefix", FIELD(etcd_prefix), .fallback = "/coreos.com/network",
	 .arg = "KEY", .help = "The key below which config and leases are."},
	{OPTION_STRING, "etcd-cafile", FIELD(etcd_cafile), .fallback = "", .arg = "FILE",
	 .help = "Certificates of the authorities that etcd is checked by."},
	{OPTION_STRING, "etcd-certfile", FIELD(etcd_certfile), .fallback = "", .arg = "FILE",
	 .help = "The client certificate shown to etcd."},
	{OPTION_STRING, "etcd-keyfile", FIELD(etcd_keyfile), .fallback = "", .arg = "FILE",
	 .help = "The private key of the client certificate."},
	{OPTION_CHOICE, "etcd-api", FIELD(etcd_api), .fallback = "auto", .arg = "auto|v2|v3",
	 .choices = etcd_api_names,
	 .help = "Which of etcd's two stores holds the config and the leases. \"auto\": v3, or v2 "
		 "when v3 has no config and v2 has one."},
	{OPTION_STRING, "etcd-username", FIELD(etcd_username), .fallback = "", .arg = "NAME",
	 .help = "The user to authenticate to etcd as."},
	{OPTION_STRING, "etcd-password", FIELD(etcd_password), .fallback = "", .arg = "PASSWORD",
	 .secret = true,
	 .help = "The user's password. It never appears in the log, and is wiped from the command "
		 "line at the start; until then every user of the host can read it there, so "
		 "prefer the variable or the file."},
	{OPTION_STRING, "etcd-password-file", FIELD(etcd_password_file), .fallback = "",
	 .arg = "FILE",
	 .help = "The password is the first line of this file, which is read again whenever it is "
		 "needed."},
	{OPTION_STRING, "state-dir", FIELD(state_dir), .fallback = "/var/lib/flannel", .arg = "DIR",
	 .help = "Where the last good state of a remote datastore is kept, to be used when that is "
		 "away at the start; empty: nowhere."},
	{OPTION_INT, "subnet-lease-renew-margin", FIELD(subnet_lease_renew_margin_min),
	 .fallback = "60", .arg = "MINUTES", .min = 1, .max = 1439,
	 .help = "How long before its expiry (24 hours) the lease is renewed."},
	{OPTION_STRING, "subnet-file", FIELD(subnet_file), .fallback = "/run/flannel/subnet.env",
	 .arg = "FILE", .check = check_not_empty,
	 .help = "Where this host's subnet, the MTU and the masquerade setting are written for "
		 "the CNI plugin and for Docker."},

	{OPTION_HEADING, .help = "Which interface carries the traffic"},
	{OPTION_LIST, "iface", FIELD(iface), .fallback = "", .arg = "NAME|IP", .env_commas = true,
	 .help = "The interface, by name or by one of its addresses. May be repeated: the first "
		 "that exists and has an address is taken. Without any of these flags it is the "
		 "interface of the main table's default route."},
	{OPTION_LIST, "iface-regex", FIELD(iface_regex), .fallback = "", .arg = "REGEX",
	 .check = check_pattern,
	 .help = "The first interface that has an address, or else a name, with a match for this "
		 "regular expression. May be repeated; tried after every --iface."},
	{OPTION_IP, "iface-can-reach", FIELD(iface_can_reach), .fallback = "", .arg = "IP",
	 .host_address = true,
	 .help = "The interface that the kernel would use towards this address, as \"ip route "
		 "get\" answers. Tried after every --iface and --iface-regex."},
	{OPTION_IP, "public-ip", FIELD(public_ip[IP_V4]), .fallback = "", .arg = "IP",
	 .family = IP_V4, .host_address = true,
	 .help = "The IPv4 address at which the other hosts reach this one, when it is not the "
		 "interface's own. Without --iface flags, the interface that has it is taken."},
	{OPTION_IP, "public-ipv6", FIELD(public_ip[IP_V6]), .fallback = "", .arg = "IP",
	 .family = IP_V6, .host_address = true, .help = "The same for IPv6."},

	{OPTION_HEADING, .help = "Data path"},
	{OPTION_CHOICE, "tx-checksum", FIELD(tx_checksum), .fallback = "auto", .arg = "auto|on|off",
	 .choices = tx_checksum_names,
	 .help = "Transmit checksum offload of tunnel devices. \"auto\" leaves the kernel's "
		 "choice; \"off\" cures connections that hang for seconds behind a NIC or a NAT "
		 "which breaks checksums of encapsulated packets."},
	{OPTION_BOOL, "peer-filter", FIELD(peer_filter), .fallback = "true",
	 .help = "Accept encapsulated packets from the addresses of known peers only. When off, "
		 "whoever can send to the tunnel's port can send packets into pods."},
	{OPTION_BOOL, "ip-blackhole-route", FIELD(ip_blackhole_route), .fallback = "false",
	 .help = "Add a blackhole route for this host's subnet, so that packets to pods that do "
		 "not exist do not leave by the default route."},

	{OPTION_HEADING, .help = "Masquerade and forwarding"},
	{OPTION_BOOL, "ip-masq", FIELD(ip_masq), .fallback = "false",
	 .help = "Masquerade traffic of pods that leaves the network, in iptables, or in nftables "
		 "where the network config has EnableNFTables. See RULES."},
	{OPTION_BOOL, "ip-masq-fully-random-disable", FIELD(ip_masq_fully_random_disable),
	 .fallback = "false", .help = "Masquerade without fully random source ports."},
	{OPTION_BOOL, "iptables-forward-rules", FIELD(iptables_forward_rules), .fallback = "true",
	 .help = "Accept forwarded traffic from and to the network, in iptables or nftables, also "
		 "where Docker, ufw or firewalld would drop it."},
	{OPTION_INT, "iptables-resync", FIELD(iptables_resync_s), .fallback = "5", .arg = "SECONDS",
	 .min = 1, .max = 86400,
	 .help = "How often rules in iptables are compared and repaired. In nftables, and where "
		 "iptables works on nftables, changes are noticed without."},

	{OPTION_HEADING, .help = "Health and log"},
	{OPTION_IP, "healthz-ip", FIELD(healthz_ip), .fallback = "0.0.0.0", .arg = "IP",
	 .help = "The address that the health server listens on; 0.0.0.0 is every address, IPv6 "
		 "included."},
	{OPTION_INT, "healthz-port", FIELD(healthz_port), .fallback = "0", .arg = "PORT", .min = 0,
	 .max = 65535, .help = "Its port; 0: no health server."},
	{OPTION_INT, "v", FIELD(verbosity), .fallback = "0", .arg = "LEVEL", .min = 0,
	 .max = INT_MAX, .help = "Log more: 1 and above show what normally goes without saying."},
	{OPTION_STRING, "vmodule", FIELD(vmodule), .fallback = "", .arg = "FILE=LEVEL,...",
	 .help = "The same for single source files, such as node=2,dir*=1."},
	{OPTION_STRING, "log_backtrace_at", FIELD(log_backtrace_at), .fallback = "",
	 .arg = "FILE:LINE", .help = "Accepted for compatibility, without effect."},
	{OPTION_HEADING, .help = "Other"},
	{OPTION_BOOL, "cleanup", FIELD(cleanup), .fallback = "false",
	 .help = "Remove what flanneld has left on this host (rules, routes, devices), say what "
		 "that was, and exit. No flanneld may be running; the lease stays in the "
		 "datastore, and forwarding stays on."},
	{OPTION_BOOL, "cleanup-files", FIELD(cleanup_files), .fallback = "false",
	 .help = "With --cleanup, remove the subnet file and the state file, too: those that "
		 "--subnet-file and --state-dir name."},
	{OPTION_BOOL, "version", FIELD(version), .fallback = "false",
	 .help = "Print the version and exit."},
	{OPTION_BOOL, "help", 'h', FIELD(help), .fallback = "false",
	 .help = "Print this list and exit."},
};

const size_t option_n_rows = ARRAY_SIZE(option_rows);
static_assert(ARRAY_SIZE(option_rows) <= OPTION_ROWS_MAX, "raise OPTION_ROWS_MAX");

const char *option_env_name(const struct option_row *row, char buf[OPTION_ENV_MAX])
{
	static const char prefix[] = "FLANNELD_";
	size_t n = sizeof(prefix) - 1;

	memcpy(buf, prefix, n);
	for (const char *c = row->name; *c && n < OPTION_ENV_MAX - 1; c++)
		buf[n++] = (char)(*c == '-' ? '_' : toupper((unsigned char)*c));
	buf[n] = '\0';
	return buf;
}
