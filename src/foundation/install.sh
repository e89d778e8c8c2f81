# Runs inside a fresh Debian root into which the essential packages and apt were extracted, and installs it: here, in the
# sandbox, packages' scripts run for the first time. There is no network: all archives were fetched before.
# Arguments: the packages besides. /run/bakehouse/bootstrap/extracted: the archives of what was extracted.
set -eu

# No service starts: invoke-rc.d and deb-systemd-invoke ask this.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

# All at once, for dpkg knows no Pre-Depends; apt would not run base-passwd's preinst, which makes /etc/passwd, first.
echo 'I: installing essential packages...' >&2
dpkg --force-depends --force-unsafe-io --install $(cat /run/bakehouse/bootstrap/extracted)

echo 'I: installing remaining packages...' >&2
# The archives are the builder's, for reading alone.
apt-get --yes \
    -o APT::Install-Recommends=false -o Acquire::Languages=none -o APT::Keep-Downloaded-Packages=true \
    -o APT::Sandbox::User=root -o Debug::NoLocking=true -o Dpkg::Options::=--force-unsafe-io \
    install '?and(?priority(required),?not(?essential))' "$@"

rm -f /usr/sbin/policy-rc.d
# Of this installation, not of the image.
find /var/lib/apt/lists -type f -delete
rm -rf /var/lib/apt/lists/auxfiles
rm -f /var/cache/apt/*.bin /var/log/dpkg.log /var/log/apt/history.log /var/log/apt/term.log /var/log/apt/eipp.log.xz \
    /var/log/alternatives.log /var/cache/ldconfig/aux-cache
