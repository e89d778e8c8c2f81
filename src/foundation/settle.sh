# Runs inside a fresh Debian root and settles what a vendor's cloud image has settled.
# Variables: BOOTS, empty where it is not to boot.
set -eu

if [ -e /etc/apt/sources.list.d/0000debian.sources ]; then
    mv /etc/apt/sources.list.d/0000debian.sources /etc/apt/sources.list.d/debian.sources
fi

echo debian > /etc/hostname
printf '%s\n' '127.0.0.1 localhost' '127.0.1.1 debian' '::1 localhost ip6-localhost ip6-loopback' > /etc/hosts
echo LANG=C.UTF-8 > /etc/default/locale

# Of an instance, not of the image: made at first boot.
rm -f /etc/machine-id
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret

# As the vendor's: systemd-resolved's, which exists only once the system runs.
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf

[ -n "$BOOTS" ] || exit 0

mkdir -p /etc/systemd/network
printf '%s\n' '[Match]' 'Name=en* eth*' '' '[Network]' 'DHCP=yes' > /etc/systemd/network/70-dhcp.network
systemctl --quiet enable systemd-networkd.service systemd-resolved.service serial-getty@ttyS0.service

mkdir -p /etc/default/grub.d
cat > /etc/default/grub.d/10_cloud.cfg <<'GRUB'
GRUB_TIMEOUT=0
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_DISABLE_OS_PROBER=true
GRUB
# An upgrade of grub-pc inside a bake has no disk to write to, and an instance's is not this one.
if command -v debconf-set-selections >/dev/null; then
    echo 'grub-pc grub-pc/install_devices_empty boolean true' | debconf-set-selections
fi
