#include "store/etcd_api.h"
struct etcd_api *etcd_v2_new(struct loop *loop, struct etcd_link *link)
{
	(void)link;
	(void)loop;
	__builtin_trap();
}
