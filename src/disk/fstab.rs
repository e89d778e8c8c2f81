//! An image's /etc/fstab, and which of its lines mean a partition of the image's own disk.

use std::path::{Path, PathBuf};

use super::lvm;
use super::survey::{Area, Survey};

/// A line of an fstab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What is mounted, unescaped.
    pub source: String,
    /// Where, unescaped.
    pub target: PathBuf,
    /// The filesystem, or `auto`.
    pub kind: String,
    /// The options, in order.
    pub options: Vec<String>,
}

/// Reads an fstab; lines that are none are passed over, as mount(8) does.
pub fn parse(text: &str) -> Vec<Entry> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let mut fields = line.split_ascii_whitespace();
    let (source, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
    let options = fields.next().unwrap_or("defaults");
    Some(Entry {
        source: unescape(source),
        target: PathBuf::from(unescape(target)),
        kind: kind.to_owned(),
        options: options.split(',').filter(|option| !option.is_empty()).map(unescape).collect(),
    })
}

/// Replaces `\040` and its like (fstab(5)) by what they stand for.
fn unescape(field: &str) -> String {
    let mut plain = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                plain.push(char::from(code));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

impl Entry {
    /// Whether an option stands in it.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option)
    }

    /// The value of `name=value`, the last one where there are several.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// The options of Btrfs that decide what is seen or written: subvolume and compression.
    pub fn btrfs_options(&self) -> String {
        let kept = |option: &&String| {
            ["subvol=", "subvolid=", "compress=", "compress-force="]
                .iter()
                .any(|name| option.starts_with(name))
                || matches!(option.as_str(), "compress" | "compress-force")
        };
        self.options.iter().filter(kept).map(String::as_str).collect::<Vec<_>>().join(",")
    }
}

/// The line that says what is mounted at `/`.
pub fn root(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().find(|entry| entry.target == Path::new("/"))
}

/// The lines to mount beneath the root: those of filesystems, outermost first.
pub fn beneath_root(entries: &[Entry]) -> Vec<&Entry> {
    let mut found: Vec<&Entry> = entries
        .iter()
        .filter(|entry| entry.target.is_absolute() && entry.target != Path::new("/"))
        .filter(|entry| {
            // noauto with an automount unit is how some images mount /boot/efi on first use.
            let on_demand = entry.has("x-systemd.automount");
            (!entry.has("noauto") || on_demand) && !entry.has("bind") && !entry.has("rbind")
        })
        .filter(|entry| entry.kind != "swap" && !entry.target.starts_with("/proc"))
        .collect();
    found.sort_by_key(|entry| entry.target.components().count());
    found
}

/// The areas of the disk that a source means: none where it is elsewhere, several where a label is not unique.
/// `root` is the root's own source in the same fstab, and its partition's number: by it is told which device
/// name the image gives to its own disk.
pub fn resolve<'a>(source: &str, survey: &'a Survey, root: Option<(&str, u32)>) -> Vec<&'a Area> {
    let matching = |test: &dyn Fn(&Area) -> bool| survey.areas.iter().filter(|area| test(area)).collect();
    let same = |a: &Option<String>, b: &str| a.as_deref().is_some_and(|a| a.eq_ignore_ascii_case(b));
    let (tag, value) = match source.split_once('=') {
        Some((tag, value)) => (tag, value.trim_matches('"').to_owned()),
        None => {
            let links = [
                ("/dev/disk/by-uuid/", "UUID"),
                ("/dev/disk/by-label/", "LABEL"),
                ("/dev/disk/by-partuuid/", "PARTUUID"),
                ("/dev/disk/by-partlabel/", "PARTLABEL"),
            ];
            match links.iter().find_map(|(folder, tag)| Some((*tag, source.strip_prefix(folder)?))) {
                Some((tag, name)) => (tag, unescape_link(name)),
                None => {
                    if let Some(name) = lvm::volume_named(source) {
                        return matching(&|area| area.volume.as_ref() == Some(&name));
                    }
                    let number = own_partition(source, root);
                    return matching(&|area| number.is_some() && area.number == number);
                }
            }
        }
    };
    match tag {
        "UUID" => matching(&|area| same(&area.content.uuid, &value)),
        "LABEL" => matching(&|area| area.content.label.as_deref() == Some(value.as_str())),
        "PARTUUID" => matching(&|area| same(&area.part_uuid, &value)),
        "PARTLABEL" => matching(&|area| area.part_label.as_deref() == Some(value.as_str())),
        _ => Vec::new(),
    }
}

/// The number in a device name such as `/dev/xvda2`, where the disk in it is the image's own: that of the
/// root's line, or else a name that only a first disk has.
fn own_partition(source: &str, root: Option<(&str, u32)>) -> Option<u32> {
    let (disk, number) = split_device(source)?;
    let own = match root.and_then(|(source, number)| Some((split_device(source)?, number))) {
        Some(((root_disk, root_number), found)) => root_number == found && root_disk == disk,
        None => matches!(disk, "/dev/sda" | "/dev/vda" | "/dev/xvda" | "/dev/hda" | "/dev/nvme0n1"),
    };
    own.then_some(number)
}

/// `/dev/nvme0n1p2` → (`/dev/nvme0n1`, 2).
fn split_device(source: &str) -> Option<(&str, u32)> {
    if !source.starts_with("/dev/") {
        return None;
    }
    let stem = source.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = source.get(stem.len()..)?.parse().ok()?;
    let disk = match stem.strip_suffix('p') {
        Some(disk) if disk.ends_with(|c: char| c.is_ascii_digit()) => disk,
        _ => stem,
    };
    // `/dev/nvme0n1` itself is a disk, not a partition 1 of `/dev/nvme0n`.
    if disk == stem && stem.strip_prefix("/dev/nvme").is_some() { None } else { Some((disk, number)) }
}

/// Undoes udev's `\x20` in the names of links.
fn unescape_link(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::survey::tests::area;
    use proptest::prelude::*;

    // From a Debian cloud image, an Ubuntu cloud image and a Fedora one.
    const DEBIAN: &str = "# /etc/fstab: static file system information\n\
        PARTUUID=ee9b7a91-01 / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n\
        PARTUUID=ee9b7a91-0f /boot/efi vfat defaults 0 0\n";
    const UBUNTU: &str = "LABEL=cloudimg-rootfs\t/\t ext4\tdiscard,commit=30,errors=remount-ro\t0 1\n\
        LABEL=BOOT\t/boot\text4\tdefaults\t0 2\nLABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1\n";
    const FEDORA: &str = "UUID=6f8ec0e5-0001 / btrfs compress=zstd:1,defaults,subvol=root 0 0\n\
        UUID=6F8EC0E5-0001 /home btrfs compress=zstd:1,subvol=home 0 0\n\
        UUID=aa /boot ext4 defaults 0 0\nnone /tmp tmpfs size=50%,nosuid 0 0\n\n/swapfile none swap sw 0 0\n";

    fn survey() -> Survey {
        let mut areas: Vec<Area> = [1, 2, 15, 16].into_iter().map(|number| area(number, "ext4")).collect();
        areas[0].content.label = Some("cloudimg-rootfs".into());
        areas[0].content.uuid = Some("6f8ec0e5-0001".into());
        areas[1].content.label = Some("my data".into());
        areas[2].content.label = Some("UEFI".into());
        areas[3].content.label = Some("BOOT".into());
        areas[3].part_label = Some("boot".into());
        Survey { table: None, areas }
    }

    fn numbers(source: &str, root: Option<(&str, u32)>) -> Vec<u32> {
        resolve(source, &survey(), root).iter().filter_map(|area| area.number).collect()
    }

    #[test]
    fn reads_real_ones() {
        let debian = parse(DEBIAN);
        assert_eq!(root(&debian).unwrap().source, "PARTUUID=ee9b7a91-01");
        assert_eq!(beneath_root(&debian)[0].target, Path::new("/boot/efi"));
        let ubuntu = parse(UBUNTU);
        let targets: Vec<_> = beneath_root(&ubuntu).iter().map(|entry| entry.target.clone()).collect();
        assert_eq!(targets, [PathBuf::from("/boot"), PathBuf::from("/boot/efi")]);
        let fedora = parse(FEDORA);
        assert_eq!(root(&fedora).unwrap().btrfs_options(), "compress=zstd:1,subvol=root");
        assert_eq!(root(&fedora).unwrap().value("subvol"), Some("root"));
    }

    #[test]
    fn sources_are_resolved_on_the_disk_only() {
        assert_eq!(numbers("PARTUUID=EE9B7A91-0F", None), [15]);
        assert_eq!(numbers("LABEL=UEFI", None), [15]);
        assert_eq!(numbers("LABEL=\"BOOT\"", None), [16]);
        assert_eq!(numbers("PARTLABEL=boot", None), [16]);
        assert_eq!(numbers("UUID=6F8EC0E5-0001", None), [1]);
        assert_eq!(numbers("/dev/disk/by-label/my\\x20data", None), [2]);
        assert_eq!(numbers("UUID=elsewhere", None), [0; 0]);
        assert_eq!(numbers("LABEL=", None), [0; 0]);
        assert_eq!(numbers("/dev/mapper/vg-root", None), [0; 0]);
    }

    #[test]
    fn device_names_are_those_of_the_images_own_disk() {
        assert_eq!(numbers("/dev/xvda15", None), [15]);
        assert_eq!(numbers("/dev/nvme0n1p2", None), [2]);
        assert_eq!(numbers("/dev/nvme0n1", None), [0; 0]);
        assert_eq!(numbers("/dev/sdb2", None), [0; 0]);
        assert_eq!(numbers("/dev/sdb2", Some(("/dev/sdb1", 1))), [2]);
        assert_eq!(numbers("/dev/sda2", Some(("/dev/sdb1", 1))), [0; 0]);
        // The root's line names another partition than the root was found on: nothing can be told from it.
        assert_eq!(numbers("/dev/sdb2", Some(("/dev/sdb3", 1))), [0; 0]);
    }

    #[test]
    fn escapes_are_undone() {
        let entries = parse("LABEL=my\\040data /srv/my\\040data ext4\nbad\\9 /x\\04 ext4 a,,b\n");
        assert_eq!(entries[0].source, "LABEL=my data");
        assert_eq!(entries[0].target, Path::new("/srv/my data"));
        assert_eq!(entries[0].options, ["defaults"]);
        assert_eq!((entries[1].source.as_str(), entries[1].options.len()), ("bad\\9", 2));
    }

    #[test]
    fn what_is_not_mounted_at_boot_is_left() {
        let text = "a /a ext4 noauto\nb /b ext4 noauto,x-systemd.automount\nc none swap sw\n/x /d none bind\n\
            proc /proc proc defaults\n# e /e ext4\n f /f/g ext4\n h /h ext4\n";
        let entries = parse(text);
        let targets: Vec<_> = beneath_root(&entries).iter().map(|e| e.target.display().to_string()).collect();
        assert_eq!(targets, ["/b", "/h", "/f/g"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC*") {
            let entries = parse(&text);
            for entry in &entries {
                let _areas = resolve(&entry.source, &survey(), Some((&entry.source, 1)));
                let _options = entry.btrfs_options();
            }
        }

        #[test]
        fn written_lines_are_read_back(source in "[ -~]{1,12}", target in "/[ -~]{0,12}") {
            let escape = |text: &str| text.bytes().map(|b| format!("\\{b:03o}")).collect::<String>();
            let entries = parse(&format!("{} {} ext4 rw 0 0", escape(&source), escape(&target)));
            prop_assert_eq!(&entries[0].source, &source);
            prop_assert_eq!(&entries[0].target, &PathBuf::from(target));
        }
    }
}
