#!/bin/sh
# Fails the bake where the image is not what the recipe says it is.
set -eu

fail() { echo "$1" >&2; exit 1; }

passwd --status root | grep -q '^root L' || fail "root's password is not locked"
for unit in ssh prometheus-node-exporter; do
    systemctl is-enabled --quiet "$unit.service" || fail "$unit is not enabled"
done

mkdir -p /run/sshd
sshd -T > /tmp/sshd
for line in 'permitrootlogin no' 'passwordauthentication no' 'x11forwarding no'; do
    grep -qx "$line" /tmp/sshd || fail "sshd does not say: $line"
done
