# Runs inside a fresh root of any distribution and installs GRUB, with the root's own.
# Variables: ROOT_UUID, FILESYSTEM: the root's; DISK, where a BIOS is to boot it: the disk's node; ESP, EFI_TARGET,
# EFI_FILE, where UEFI is: a folder for what belongs in its partition, GRUB's name of the machine, the file's name.
set -eu

fail() { echo "$1" >&2; exit 1; }

# Fedora and its kin call it grub2.
for grub in grub grub2 ''; do
    [ -n "$grub" ] || fail 'the root has no grub-install'
    command -v "$grub-install" >/dev/null && break
done
set -- /boot/vmlinuz*
[ -e "$1" ] || fail 'the root has no kernel: no /boot/vmlinuz*'

case $FILESYSTEM in ext4) module=ext2 ;; *) module=$FILESYSTEM ;; esac

if [ -n "${DISK:-}" ]; then
    [ -d /usr/lib/grub/i386-pc ] || fail 'the root has no GRUB for a BIOS: /usr/lib/grub/i386-pc'
    "$grub-install" --target=i386-pc --modules="part_gpt part_msdos $module" "$DISK" >&2
fi

if [ -n "${ESP:-}" ]; then
    modules=/usr/lib/grub/$EFI_TARGET
    [ -d "$modules" ] || fail "the root has no GRUB for UEFI: $modules"
    # As grub-install would, which wants the partition mounted: the builder's kernel may have no vfat.
    mkdir -p "$ESP/EFI/BOOT" "/boot/$grub/$EFI_TARGET" "/boot/$grub/fonts"
    cp "$modules"/*.mod "$modules"/*.lst "/boot/$grub/$EFI_TARGET/"
    printf 'search.fs_uuid %s root\nset prefix=($root)/boot/%s\n' "$ROOT_UUID" "$grub" > /tmp/early.cfg
    "$grub-mkimage" -O "$EFI_TARGET" -c /tmp/early.cfg -p "/boot/$grub" -o "$ESP/EFI/BOOT/$EFI_FILE" \
        part_gpt part_msdos fat "$module" search_fs_uuid normal >&2
fi

if command -v update-grub >/dev/null; then
    update-grub >&2
else
    "$grub-mkconfig" -o "/boot/$grub/grub.cfg" >&2
fi
