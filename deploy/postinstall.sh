#!/bin/sh
# After the .deb is unpacked: the group that may read the CPU's energy counters. Nothing is started: the
# upstream and the addresses are the administrator's to choose.
set -e
getent group wattline-power >/dev/null || groupadd --system wattline-power
for group in video render; do getent group $group >/dev/null || groupadd --system $group; done
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
