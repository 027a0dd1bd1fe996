/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - flannel, the CNI plugin: what the runtime asks, done */
#include "cni/error.h"

#include <stdio.h>

int main(void)
{
	(void)fprintf(stderr, "CNI plugin flannel %s\n", WEFT_VERSION);
	return 0;
}
