/* SPDX-License-Identifier: Apache-2.0 */
/* options_doc.c - the option table for people: --help and flanneld(8)
 *
 * The man page's running text is roff, written out below; its OPTIONS section and
 * the help come from the table, so that a flag cannot exist undocumented.
 */
#include "daemon/options.h"
#include "daemon/options_table.h"

#include <string.h>

#define HELP_COLUMNS 80
#define HELP_INDENT  8

/* @text in lines of at most HELP_COLUMNS, indented. */
static void print_wrapped(FILE *out, const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column && column + 1 + n > HELP_COLUMNS) {
			(void)fputc('\n', out);
			column = 0;
		}
		if (column) {
			(void)fputc(' ', out);
			column++;
		} else {
			column = (size_t)fprintf(out, "%*s", HELP_INDENT, "");
		}
		column += (size_t)fprintf(out, "%.*s", (int)n, text);
		text += n;
		text += strspn(text, " ");
	}
	(void)fputc('\n', out);
}

static void print_help_row(FILE *out, const struct option_row *row)
{
	(void)fprintf(out, "  ");
	if (row->alias)
		(void)fprintf(out, "-%c, ", row->alias);
	(void)fprintf(out, "%s%s", row->name[1] ? "--" : "-", row->name);
	if (row->arg)
		(void)fprintf(out, "%c%s", row->name[1] ? '=' : ' ', row->arg);
	if (*row->fallback && strcmp(row->fallback, "false") != 0)
		(void)fprintf(out, "  (default %s)", row->fallback);
	(void)fputc('\n', out);
	print_wrapped(out, row->help);
}

void options_print_help(FILE *out)
{
	(void)fprintf(out, "Usage: flanneld [OPTION]...\n"
			   "Joins this host to the network of its peers: leases a subnet, carries "
			   "its pods' packets.\n");
	for (const struct option_row *row = option_rows; row < option_rows + option_n_rows; row++) {
		if (row->type == OPTION_HEADING)
			(void)fprintf(out, "\n%s:\n", row->help);
		else
			print_help_row(out, row);
	}
	(void)fprintf(out,
		      "\nA boolean is switched off by --name=false. Every option can be set by "
		      "a variable\ninstead: --subnet-dir is FLANNELD_SUBNET_DIR. More: "
		      "flanneld(8).\n");
}

/* Plain text as roff: nothing in it is a command or changes its look. */
static void print_roff(FILE *out, const char *text)
{
	for (const char *c = text; *c; c++) {
		if (c == text && (*c == '.' || *c == '\''))
			(void)fputs("\\&", out);
		if (*c == '\\')
			(void)fputs("\\e", out);
		else if (*c == '-')
			(void)fputs("\\-", out);
		else
			(void)fputc(*c, out);
	}
}

static void print_man_row(FILE *out, const struct option_row *row)
{
	(void)fputs(".TP\n", out);
	if (row->alias)
		(void)fprintf(out, "\\fB\\-%c\\fR, ", row->alias);
	(void)fprintf(out, "\\fB%s", row->name[1] ? "\\-\\-" : "\\-");
	print_roff(out, row->name);
	(void)fputs("\\fR", out);
	if (row->arg) {
		(void)fprintf(out, "%c\\fI", row->name[1] ? '=' : ' ');
		print_roff(out, row->arg);
		(void)fputs("\\fR", out);
	}
	(void)fputc('\n', out);
	print_roff(out, row->help);
	(void)fputc('\n', out);
	if (row->type == OPTION_INT)
		(void)fprintf(out, "From %d to %d.\n", row->min, row->max);
	if (*row->fallback) {
		(void)fputs("Default: ", out);
		print_roff(out, row->fallback);
		(void)fputs(".\n", out);
	}
}

static const char man_head[] =
	".TH FLANNELD 8 \"\" weft \"Weft\"\n"
	".SH NAME\n"
	"flanneld \\- network daemon of a container host\n"
	".SH SYNOPSIS\n"
	".B flanneld\n"
	".RI [ OPTION ]...\n"
	".SH DESCRIPTION\n"
	"Every host that runs\n"
	".B flanneld\n"
	"with the same store leases a subnet of one large network and gives its pods\n"
	"addresses from it.\n"
	".B flanneld\n"
	"programs the kernel so that a pod reaches every other pod by that pod's own\n"
	"address, whichever host it is on.\n"
	".PP\n"
	"The daemon compares what the leases ask for with what the kernel has, and repairs\n"
	"the difference: a peer that joined, a route that somebody deleted and a tunnel\n"
	"device that vanished are treated alike. The data path is the kernel's; it goes on\n"
	"working while the daemon is stopped.\n"
	".PP\n"
	".B flanneld\n"
	"needs the capability CAP_NET_ADMIN.\n"
	".SH OPTIONS\n"
	"Options are written\n"
	".BI \\-\\-name= value\n"
	"or\n"
	".BI \\-\\-name \" value\" ;\n"
	"one dash is as good as two. A boolean stands alone, or as\n"
	".BR \\-\\-name=false .\n"
	"There are no other arguments.\n";

static const char man_environment[] =
	".SH ENVIRONMENT\n"
	"Every option has a variable: its name in upper case after FLANNELD_, with\n"
	"underscores for dashes.\n"
	".B FLANNELD_SUBNET_DIR\n"
	"is\n"
	".BR \\-\\-subnet\\-dir .\n"
	"An option on the command line wins; an empty variable does not count.\n"
	".B FLANNELD_IFACE\n"
	"may hold several values, comma separated;\n"
	".B FLANNELD_IFACE_REGEX\n"
	"is one regular expression, commas included.\n"
	".TP\n"
	".B NODE_NAME\n"
	"The name of this node in Kubernetes.\n"
	".TP\n"
	".BR POD_NAME ,\\  POD_NAMESPACE\n"
	"Without NODE_NAME: the pod that the daemon runs in, from which the node's name is\n"
	"read.\n"
	".TP\n"
	".BR KUBERNETES_SERVICE_HOST ,\\  KUBERNETES_SERVICE_PORT\n"
	"In a pod: where the API server is.\n"
	".TP\n"
	".BR HTTPS_PROXY ,\\  HTTP_PROXY ,\\  NO_PROXY\n"
	"The proxy on the way to the Kubernetes API, where the kubeconfig names none; also in\n"
	"small letters.\n"
	".TP\n"
	".BR EVENT_QUEUE_DEPTH ,\\  CONT_WHEN_CACHE_NOT_READY\n"
	"Accepted for compatibility, without effect: there is no queue that could be too\n"
	"short, and the daemon always waits for its peers without blocking.\n"
	".TP\n"
	".B NOTIFY_SOCKET\n"
	"Where\n"
	".BR systemd (1)\n"
	"is told READY=1, STATUS= and STOPPING=1; see\n"
	".BR sd_notify (3).\n";

static const char man_files[] =
	".SH FILES\n"
	".TP\n"
	".I /run/flannel/subnet.env\n"
	"Written when the subnet is known, replaced as a whole:\n"
	".IP\n"
	".EX\n"
	"FLANNEL_NETWORK=10.5.0.0/16\n"
	"FLANNEL_SUBNET=10.5.52.1/24\n"
	"FLANNEL_MTU=1450\n"
	"FLANNEL_IPMASQ=false\n"
	".EE\n"
	".IP\n"
	"With IPv6 also FLANNEL_IPV6_NETWORK and FLANNEL_IPV6_SUBNET. After a restart the\n"
	"daemon asks for the subnet that is in this file.\n"
	".TP\n"
	".IR DIR /config\n"
	"The network config, with\n"
	".BI \\-\\-subnet\\-dir= DIR\\fR.\n"
	".TP\n"
	".IR DIR /subnets/\n"
	"One lease a file.\n"
	".TP\n"
	".I /var/lib/flannel/run\\-flannel\\-subnet.env.state\n"
	"The last good state of a remote datastore: network config, own lease, peers; in\n"
	".BR \\-\\-state\\-dir ,\n"
	"named after the subnet file.\n"
	".SH STORE\n"
	"Without\n"
	".BR \\-\\-subnet\\-dir \" and \" \\-\\-kube\\-subnet\\-mgr\n"
	"the store is etcd. Its keys are\n"
	".I PREFIX/config\n"
	"and\n"
	".I PREFIX/subnets/\n"
	"below\n"
	".BR \\-\\-etcd\\-prefix ;\n"
	"a lease is a key under an etcd lease of 24 hours, a key without one is a reservation.\n"
	"Endpoints are tried in turn until one works; certificates and the password's file\n"
	"are read again for each connection. While etcd is away everything stays as it is;\n"
	"when it is away at the start, the last good state is used.\n"
	".PP\n"
	"With\n"
	".B \\-\\-kube\\-subnet\\-mgr\n"
	"the hosts are the nodes of a Kubernetes cluster, and their leases the podCIDRs that\n"
	"kube-controller-manager assigns. The network config is the file of\n"
	".BR \\-\\-net\\-config\\-path ,\n"
	"whose changes are followed, also those of a ConfigMap. What peers need to know is in\n"
	"annotations of the node, which are put back when somebody takes them away. An\n"
	"administrator may set\n"
	".I PREFIX/public\\-ip\\-overwrite\n"
	"(published in place of our address) and\n"
	".I PREFIX/node\\-public\\-ip\n"
	"(as\n"
	".BR \\-\\-public\\-ip ),\n"
	"or their twins for IPv6; both are followed at once. It takes the rights to get, list\n"
	"and watch nodes and to patch nodes/status, and without\n"
	".B NODE_NAME\n"
	"to get pods. SubnetLen, SubnetMin and SubnetMax do not count here. While the API is\n"
	"away, what is said of etcd holds as well.\n"
	".PP\n"
	"The directory of\n"
	".B \\-\\-subnet\\-dir\n"
	"holds the same JSON that etcd would. It may be shared between hosts, or filled by\n"
	"whatever distributes files. The daemon sees changes at once.\n"
	".PP\n"
	".I config\n"
	"describes the network; keys match in any case:\n"
	".PP\n"
	".in +4n\n"
	".EX\n"
	"{\n"
	"  \"Network\": \"10.5.0.0/16\",\n"
	"  \"SubnetLen\": 24,\n"
	"  \"Backend\": { \"Type\": \"vxlan\", \"DirectRouting\": true }\n"
	"}\n"
	".EE\n"
	".in\n"
	".PP\n"
	"For IPv6 add\n"
	".B EnableIPv6\n"
	"and\n"
	".BR IPv6Network ;\n"
	"without IPv4, set\n"
	".B EnableIPv4\n"
	"to false.\n"
	".BR SubnetLen \" (24, IPv6 64)\n"
	"is the length of a lease's prefix;\n"
	".BR SubnetMin \" and \" SubnetMax ,\n"
	"each a subnet's base address, narrow the range that leases come from; by default the\n"
	"first subnet is left out. The names for IPv6 begin with IPv6, as in\n"
	".BR IPv6SubnetLen .\n"
	"The network must not contain addresses of the hosts' own networks. A change is\n"
	"followed at once; what would take their addresses from pods is refused, named in the\n"
	"log and in\n"
	".BR /readyz ,\n"
	"and the last good config stays in force.\n"
	".PP\n"
	"A lease is a file in\n"
	".I subnets\n"
	"whose name is the subnet with a dash for the slash; in dual-stack both subnets,\n"
	"joined by an ampersand, as in\n"
	".IR 10.5.52.0\\-24&fc00:1::\\-64 .\n"
	"The file\n"
	".I subnets/10.5.52.0\\-24\n"
	"may hold:\n"
	".PP\n"
	".in +4n\n"
	".EX\n"
	"{\n"
	"  \"PublicIP\": \"192.168.64.3\",\n"
	"  \"BackendType\": \"vxlan\",\n"
	"  \"BackendData\": { \"VNI\": 1, \"VtepMAC\": \"c6:d2:32:6f:8f:44\" },\n"
	"  \"Expiration\": \"2026-02-21T14:31:23Z\"\n"
	"}\n"
	".EE\n"
	".in\n"
	".PP\n"
	"A lease without\n"
	".B Expiration\n"
	"is a reservation: the subnet belongs to the host with that\n"
	".B PublicIP\n"
	"for good. It may be written before the host comes, with no more than\n"
	".BR PublicIP ,\n"
	"and is completed by the host; it stays a reservation. A host that holds a lease\n"
	"already moves to its reservation at its next start, or at once when that lease's file\n"
	"is deleted; pods with old addresses must then be restarted.\n"
	".PP\n"
	"A record that cannot be read is named in the log and affects no other; names that\n"
	"begin with a dot, such as the temporary files of\n"
	".BR rsync (1),\n"
	"are passed over. Whatever distributes the files must carry a host's own record to the\n"
	"others, too, and should replace files by renaming. A push that deletes the own record\n"
	"does no harm: the host writes it again at once, with the same subnet.\n";

static const char man_backends[] =
	".SH BACKENDS\n"
	".B Type\n"
	"in the config's\n"
	".B Backend\n"
	"says how packets travel between hosts, the other members how exactly.\n"
	".SS vxlan\n"
	"Packets travel inside UDP, so that it works over any network, through routers and,\n"
	"with\n"
	".BR \\-\\-public\\-ip ,\n"
	"behind a NAT that forwards the port. Hosts must let each other's UDP through.\n"
	".TP\n"
	".BR VNI \" (1)\"\n"
	"The number of the VXLAN. The device is called flannel.1 after it, flannel-v6.1 for\n"
	"IPv6. Networks on the same hosts need different ones.\n"
	".TP\n"
	".BR Port \" (8472)\"\n"
	"The UDP port.\n"
	".TP\n"
	".BR MTU \" (the interface's)\"\n"
	"The largest packet that the hosts' network carries. Pods get 50 bytes less over IPv4,\n"
	"70 less over IPv6. Without it, a change of the interface's MTU is followed.\n"
	".TP\n"
	".BR DirectRouting \" (false)\"\n"
	"Peers inside a prefix of the interface's own addresses get plain routes instead.\n"
	".TP\n"
	".BR Learning \", \" GBP \" (false)\"\n"
	"As in\n"
	".BR ip\\-link (8):\n"
	"learn from packets; carry group policy marks.\n"
	".SS host-gw\n"
	"Plain routes by the public IP of each peer, without a device and at full MTU. All\n"
	"hosts must be on one L2 network; a public IP that is not the interface's own is\n"
	"refused.\n"
	".SS udp\n"
	"Packets travel as they are, each in one UDP datagram, carried by the daemon itself\n"
	"through a tun device, flannel0, and only while it runs. For hosts where vxlan does not\n"
	"pass. IPv4 only.\n"
	".TP\n"
	".BR Port \" (8285)\"\n"
	"The UDP port.\n"
	".TP\n"
	".BR Offload \" (auto)\"\n"
	".BR gso \", \" mmsg \" or \" plain\n"
	"use less of what the kernel offers for handling packets in batches.\n"
	".TP\n"
	".BR BusyPoll \" (0)\"\n"
	"Microseconds to look for another packet before sleeping.\n"
	".TP\n"
	".BR Mode \" (userspace)\"\n"
	"With\n"
	".B kernel\n"
	"the kernel sends and receives the same bytes by its modules ipip and fou, faster, and\n"
	"also while the daemon is not running.\n"
	".SS alloc\n"
	"Hands out subnets, and programs nothing.\n";

static const char man_rules[] =
	".SH RULES\n"
	"With\n"
	".B \\-\\-ip\\-masq\n"
	"a pod keeps its address when it talks to another pod, and takes its host's when it\n"
	"leaves the network. Unless\n"
	".BR \\-\\-iptables\\-forward\\-rules=false ,\n"
	"forwarded packets from and to pods are accepted, also beside Docker, ufw and firewalld.\n"
	"The rules are in iptables (chains FLANNEL\\-POSTRTG and FLANNEL\\-FWD), or, with\n"
	".B EnableNFTables\n"
	"in the network config, in nftables (tables ip flannel\\-ipv4 and ip6 flannel\\-ipv6).\n"
	"What somebody else removes comes back: at once in nftables, after\n"
	".B \\-\\-iptables\\-resync\n"
	"in iptables.\n"
	".PP\n"
	"The config's list\n"
	".B nonMasqueradeCIDRs\n"
	"names up to 32 networks, of either family, towards which pods keep their address.\n"
	"net.ipv4.ip_forward (with IPv6 net.ipv6.conf.all.forwarding) is set to 1. In iptables\n"
	"kernel module br_netfilter must be loaded. One daemon of a host keeps the rules: a\n"
	"second one, of another network, says so, and leaves them alone until it is restarted\n"
	"without the first.\n"
	"The rules stay when the daemon ends;\n"
	".B \\-\\-cleanup\n"
	"removes them, with everything else that is ours, but leaves forwarding on.\n";

static const char man_tail[] =
	".SH SIGNALS\n"
	".TP\n"
	".BR SIGTERM ,\\  SIGINT\n"
	"Exit with status 0 within a second. Devices, routes and rules stay, and the pods\n"
	"stay connected; the next start takes them over. With backend udp in user space no\n"
	"packet passes between hosts until then.\n"
	".TP\n"
	".B SIGHUP\n"
	"Look at the interface and the whole kernel state again. Not needed to reload: files and\n"
	"kernel are watched.\n"
	".SH HEALTH\n"
	"With\n"
	".B \\-\\-healthz\\-port\n"
	"a small HTTP server answers from the first moment on:\n"
	".TP\n"
	".B /healthz\n"
	"200 while the daemon runs.\n"
	".TP\n"
	".B /readyz\n"
	"200 when pods can be served: subnet leased, peers known and programmed, rules in force,\n"
	"subnet file written. 503 otherwise, with a line for each part that is missing. Lines that "
	"begin\n"
	"with\n"
	".B warning\n"
	"come with either: what works on and wants somebody's attention, such as a config that\n"
	"was refused, or one peer that cannot be programmed.\n"
	".TP\n"
	".B /metrics\n"
	"Counters in the text format of Prometheus; those of backend udp are named\n"
	"flannel_udp_*.\n"
	".SH EXIT STATUS\n"
	".TP\n"
	".B 0\n"
	"Ended by a signal, or after\n"
	".BR \\-\\-help ,\n"
	".BR \\-\\-version \" or \" \\-\\-cleanup .\n"
	".TP\n"
	".B 1\n"
	"The network cannot work as configured, or no interface of the name that\n"
	".B \\-\\-iface\n"
	"gives exists, or\n"
	".B \\-\\-cleanup\n"
	"could not remove something; the last line of the log says why.\n"
	".TP\n"
	".B 2\n"
	"Wrong usage: an unknown option or a bad value.\n"
	".PP\n"
	"Whatever may come by itself, such as a config, an address or a default route, is\n"
	"waited for.\n"
	".SH EXAMPLES\n"
	"A network between hosts that share\n"
	".IR /srv/weft :\n"
	".PP\n"
	".in +4n\n"
	".EX\n"
	"# mkdir \\-p /srv/weft\n"
	"# echo \\(aq{\"Network\": \"10.5.0.0/16\", \"Backend\": {\"Type\": \"vxlan\"}}\\(aq \\e\n"
	"      >/srv/weft/config\n"
	"# flanneld \\-\\-subnet\\-dir=/srv/weft\n"
	".EE\n"
	".in\n"
	".PP\n"
	"Over the interface of a private network, with a health server:\n"
	".PP\n"
	".in +4n\n"
	".EX\n"
	"# flanneld \\-\\-subnet\\-dir=/srv/weft \\-\\-iface\\-regex=\\(aq^192\\e.168\\e.\\(aq "
	"\\e\n"
	"      \\-\\-healthz\\-port=8081\n"
	"# curl http://127.0.0.1:8081/readyz\n"
	".EE\n"
	".in\n"
	".SH SEE ALSO\n"
	".BR ip\\-route (8),\n"
	".BR bridge (8),\n"
	".BR systemd.service (5)\n";

void options_print_man(FILE *out)
{
	(void)fputs(man_head, out);
	for (const struct option_row *row = option_rows; row < option_rows + option_n_rows; row++) {
		if (row->type == OPTION_HEADING)
			(void)fprintf(out, ".SS %s\n", row->help);
		else
			print_man_row(out, row);
	}
	(void)fputs(man_environment, out);
	(void)fputs(man_files, out);
	(void)fputs(man_backends, out);
	(void)fputs(man_rules, out);
	(void)fputs(man_tail, out);
}
