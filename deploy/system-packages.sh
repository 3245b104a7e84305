#!/usr/bin/env bash
# Installs the system packages Tieline likes to have (a real MQTT broker, and a browser for the console's tests), when that
# needs no question to be asked. Without the broker the demo runs on its embedded one; without the browser its tests are
# deselected. With the argument `test` also the databases whose adapters are tested against the real thing, and the tools the
# Modbus side is compared with. In CI a missing one is an error.
set -u
missing=()
if [ "${1:-}" = test ]; then
  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
  command -v victoria-metrics >/dev/null 2>&1 || missing+=(victoria-metrics)
  command -v systemd-analyze >/dev/null 2>&1 || missing+=(systemd)
  command -v strace >/dev/null 2>&1 || missing+=(strace)
  command -v mbpoll >/dev/null 2>&1 || missing+=(mbpoll)
  command -v socat >/dev/null 2>&1 || missing+=(socat)
fi
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing ${missing[*]}"
  apt-get update >/tmp/tieline-apt.log 2>&1
  # One by one: a package this system does not have must not keep the other away.
  for package in "${missing[@]}"; do
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >>/tmp/tieline-apt.log 2>&1 \
      || echo "apt could not install $package (see /tmp/tieline-apt.log); going on without it"
  done
else
  echo "not installed and not root: ${missing[*]}; going on without"
fi
exit 0
