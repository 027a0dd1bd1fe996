#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh TARGET CORPUS FOUND - runs CORPUS through a libFuzzer target, then FUZZ_SECONDS (3)
# of new inputs. What is worth keeping goes to FOUND/corpus, what breaks it to FOUND/.
#
# libFuzzer's own exit status for a crash is 77, which meson takes for a skipped test.
set -eu
target=$1 corpus=$2 found=$3
mkdir -p "$found/corpus"
exec "$target" -max_total_time="${FUZZ_SECONDS:-3}" -timeout=10 -rss_limit_mb=1024 \
	-error_exitcode=1 -print_final_stats=1 -artifact_prefix="$found/" "$found/corpus" "$corpus"
