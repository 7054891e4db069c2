#!/bin/sh
# The guide's quick verification: server, models, completion, benchmark, GPU metrics, tokens per watt.
exec wattline check "$@"
