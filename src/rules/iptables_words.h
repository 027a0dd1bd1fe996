/* SPDX-License-Identifier: Apache-2.0 */
/* iptables_words.h - why iptables-restore failed, or waits, in words that help */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* From the complaint of @program (its stderr) about @text, which it was given, to what it
 * was about: what the kernel or iptables lacks (first, since the end may be cut), and the rule
 * of ours. @ended: "exit code 2:
 * iptables-restore: line 5 failed". Pure. */
void iptables_explain_failure(const char *program, const char *ended, const char *text, char *buf,
			      size_t size);

/* "/run/xtables.lock is held by kubelet (pid 4711)" into @buf when somebody other than @self
 * holds it; else @buf is "". */
void iptables_explain_lock(pid_t self, char *buf, size_t size);
