/* SPDX-License-Identifier: Apache-2.0 */
/* wait.h - waiting for a state while the loop runs: the test brings turn(), one round of it */
#pragma once

#include "io/loop.h"

/* Runs the loop until the state is reached. */
#define WAIT_MS(ms, condition)                                                                     \
	do {                                                                                       \
		int64_t _until = loop_now_ms() + (ms);                                             \
		while (!(condition)) {                                                             \
			if (loop_now_ms() > _until)                                                \
				fail_msg("not reached: %s", #condition);                           \
			turn();                                                                    \
		}                                                                                  \
	} while (0)
