#!/bin/sh
# What neither a file nor a parameter of `system` can say. Runs in the image; nothing is started.
set -eu

# Nobody logs in by root's password, and new files are nobody else's business.
passwd --quiet --lock root
sed -i 's/^UMASK.*/UMASK 027/' /etc/login.defs

# Upgrades come by a new image; an instance that lives long still gets the security ones.
printf '%s\n' 'APT::Periodic::Update-Package-Lists "1";' 'APT::Periodic::Unattended-Upgrade "1";' \
    > /etc/apt/apt.conf.d/20auto-upgrades
