#!/usr/bin/env bash
# What the tests of live pictures need besides Python packages: an RTSP server, a browser and an MQTT broker. Installed
# if this user may, named if not. Usage: scripts/live.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/apt.sh

missing=()
for package in gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-{base,good,bad,ugly} chromium mosquitto; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed' ||
        missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit

install_packages "${missing[@]}" ||
    echo "Tests of streams and of the view will be skipped; they need: sudo apt-get install ${missing[*]}" >&2
