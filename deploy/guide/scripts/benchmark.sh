#!/bin/sh
# The guide's benchmark: quick by default; --full, --prompt-sizes, --output-tokens, --duration, --config-file.
exec wattline replay "$@"
