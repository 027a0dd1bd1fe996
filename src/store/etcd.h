/* SPDX-License-Identifier: Apache-2.0 */
/* etcd.h - the etcd store, v3 and v2 */
#pragma once

#include "store/etcd_link.h"
#include "store/store.h"

enum etcd_api_choice { ETCD_API_AUTO, ETCD_API_V2, ETCD_API_V3, ETCD_API_COUNT };

/* @settings are borrowed for the store's life, and checked here: 0 or an error for the
 * person who gave the flags. */
int store_etcd_new(struct loop *loop, const struct etcd_settings *settings,
		   enum etcd_api_choice choice, struct peers *peers,
		   const struct store_events *events, struct store **ret_store, struct err *err);
