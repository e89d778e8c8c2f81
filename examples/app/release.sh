#!/bin/sh
# The version, where the application and people look for it.
set -eu
echo "$1" > /srv/app/VERSION
echo "hello $1" > /etc/motd
