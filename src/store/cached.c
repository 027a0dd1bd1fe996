#include "store/cached.h"
struct store *store_cached_new(struct loop *loop, const char *path, struct peers *peers,
			       const struct store_events *events, store_new_fn new_inner, void *arg)
{
	(void)path;
	return new_inner(loop, peers, events, arg);
}
