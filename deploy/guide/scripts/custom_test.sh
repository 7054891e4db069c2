#!/bin/sh
# The guide's custom test: one results_SIZE.json for each size; other sizes as arguments.
set -eu
echo "Running custom performance test..."
[ $# -gt 0 ] || set -- 1k 5k 10k 20k
for size; do
	echo "Testing size: $size"
	wattline replay --prompt-sizes "$size" --max-output-tokens 512 --task coding --json-out "results_$size.json"
	sleep 2
done
