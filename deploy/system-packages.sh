#!/usr/bin/env bash
# Installs the system packages Tieline likes to have (a real MQTT broker), when that needs no question to be asked.
# Without them the demo runs on its embedded broker; in CI a missing broker is an error.
set -u
missing=()
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing ${missing[*]}"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >/tmp/tieline-apt.log 2>&1 \
    || echo "apt could not install ${missing[*]} (see /tmp/tieline-apt.log); going on with the embedded broker"
else
  echo "not installed and not root: ${missing[*]}; going on with the embedded broker"
fi
exit 0
