/* SPDX-License-Identifier: Apache-2.0 */
/* manpage.c - prints flanneld(8); run by the build */
#include "daemon/options.h"

int main(void)
{
	options_print_man(stdout);
	return fflush(stdout) == 0 ? 0 : 1;
}
