#!/bin/sh
# After the .deb is unpacked: the group that may read the CPU's energy counters. Nothing is started: the
# upstream and the addresses are the administrator's to choose.
set -e
getent group wattline-power >/dev/null || groupadd --system wattline-power
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
