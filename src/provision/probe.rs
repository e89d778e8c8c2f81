//! What answers for GRUB's probe while steps run. A kernel's package runs grub-mkconfig, which asks grub-probe for
//! the root's device, UUID and modules; grub-probe looks at the disk for them, and steps see none. A bake knows the
//! answers. They are those of an instance, too, where the probe's own would name the builder's device.
//!
//! Questions beyond those of grub-mkconfig and its library go to the image's own.

use std::path::{Path, PathBuf};

use super::guard::{Placement, program};
use super::run::DiskMount;

/// GRUB's probe, for the given filesystems of the disk; nothing where none is known.
pub(super) fn grub(mounts: &[DiskMount]) -> Vec<Placement> {
    let script = script(mounts);
    // Fedora and its kin call it grub2.
    let programs = ["grub-probe", "grub2-probe"].map(|name| script.clone().map(|text| program(name, text)));
    programs.into_iter().flatten().collect()
}

fn script(mounts: &[DiskMount]) -> Option<String> {
    let mut known: Vec<(&DiskMount, PathBuf)> =
        mounts.iter().filter_map(|mount| Some((mount, device(mount)?))).collect();
    if !known.iter().any(|(mount, _)| mount.path == Path::new("/")) {
        return None;
    }
    // The deepest first: the first pattern that fits is taken.
    known.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.path.components().count()));
    let (mut devices, mut paths, mut facts) = (String::new(), String::new(), String::new());
    for (number, (mount, device)) in known.iter().enumerate() {
        let node = quoted(&mount.node);
        devices.push_str(&format!("    {} | {node}) area={number} ;;\n", quoted(device)));
        paths.push_str(&format!("    {}*) area={number} ;;\n", quoted(&mount.path.join(""))));
        for (question, answer) in answers(mount, device) {
            facts.push_str(&format!("{number}.{question}) say {} ;;\n", quoted(Path::new(&answer))));
        }
    }
    let text = SCRIPT.replace("@DEVICES@", devices.trim_end());
    Some(text.replace("@PATHS@", paths.trim_end()).replace("@FACTS@", facts.trim_end()))
}

/// The name by which an instance knows it: not the builder's, since grub-mkconfig writes it into the image where
/// that is not to use UUIDs.
fn device(mount: &DiskMount) -> Option<PathBuf> {
    let uuid = mount.uuid.as_ref().filter(|uuid| is_plain(uuid))?;
    Some(mount.volume.clone().unwrap_or_else(|| Path::new("/dev/disk/by-uuid").join(uuid)))
}

/// What it answers, by the names of grub-probe's targets.
fn answers(mount: &DiskMount, device: &Path) -> Vec<(&'static str, String)> {
    let module = match mount.kind.as_deref() {
        Some("ext2" | "ext3" | "ext4") => Some("ext2"),
        Some("vfat") => Some("fat"),
        Some("xfs") => Some("xfs"),
        Some("btrfs") => Some("btrfs"),
        _ => None,
    };
    // The disk that an instance boots from is the first to its firmware. These are but hints: GRUB searches by UUID.
    let behind = match (mount.table, mount.partition) {
        (Some(table), Some(number)) => format!("0,{table}{number}"),
        _ => "0".to_owned(),
    };
    let (drive, hints) = match mount.volume.as_ref().and_then(|name| name.file_name()) {
        Some(name) => {
            let drive = format!("lvm/{}", name.to_string_lossy());
            let hint = format!("--hint='{drive}'");
            (drive, hint)
        }
        None => (
            format!("hd{behind}"),
            format!("--hint-bios=hd{behind} --hint-efi=hd{behind} --hint-baremetal=ahci{behind}"),
        ),
    };
    let all = [
        ("device", Some(device.to_string_lossy().into_owned())),
        ("fs", module.map(str::to_owned)),
        ("fs_uuid", mount.uuid.clone()),
        ("partuuid", mount.part_uuid.clone().filter(|uuid| is_plain(uuid))),
        ("partmap", Some(mount.table.unwrap_or_default().to_owned())),
        ("abstraction", Some(if mount.volume.is_some() { "lvm" } else { "" }.to_owned())),
        ("cryptodisk_uuid", Some(String::new())),
        ("drive", Some(format!("({drive})"))),
        ("compatibility_hint", Some(drive)),
        ("hints_string", Some(hints)),
    ];
    all.into_iter().filter_map(|(question, answer)| Some((question, answer?))).collect()
}

/// It is the disk's word, and goes into GRUB's configuration.
fn is_plain(uuid: &str) -> bool {
    !uuid.is_empty() && uuid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A word of the shell.
fn quoted(text: &Path) -> String {
    format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"))
}

const SCRIPT: &str = r#"#!/bin/sh
# GRUB's probe while an image is baked: it answers what the bake knows of its disk, which steps do not see.
real() { exec @REAL@ "$@"; }
say() { if [ -n "$1" ]; then printf '%s\n' "$1"; fi; }
target=fs
device=
what=
value=
for word in "$@"; do
    if [ -n "$value" ]; then
        if [ "$value" = target ]; then target=$word; fi
        value=
        continue
    fi
    case $word in
    -d | --device) device=yes ;;
    -t | --target) value=target ;;
    -t?*) target=${word#-t} ;;
    --target=*) target=${word#--target=} ;;
    -m | --device-map) value=map ;;
    -v | --verbose | --device-map=*) ;;
    -* | '') real "$@" ;;
    *)
        if [ -n "$what" ]; then real "$@"; fi
        what=$word
        ;;
    esac
done
if [ -z "$what" ]; then real "$@"; fi
if [ -n "$device" ]; then
    case $what in
@DEVICES@
    *) real "$@" ;;
    esac
else
    path=$(readlink -f "$what") || real "$@"
    if [ ! -e "$path" ]; then real "$@"; fi
    case $path/ in
    /dev/* | /proc/* | /run/* | /sys/* | /tmp/*) real "$@" ;;
@PATHS@
    esac
fi
case $area.$target in
@FACTS@
*) real "$@" ;;
esac
"#;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn mount(path: &str, kind: &str, partition: u32) -> DiskMount {
        DiskMount {
            path: path.into(),
            node: format!("/dev/loop7p{partition}").into(),
            kind: Some(kind.into()),
            uuid: Some(format!("ABCD-{partition}")),
            part_uuid: Some(format!("0123-{partition}")),
            table: Some("gpt"),
            partition: Some(partition),
            volume: None,
        }
    }

    /// Asks it, with a program beside it that says what it was asked itself.
    fn ask(mounts: &[DiskMount], words: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let real = put("real", "#!/bin/sh\necho \"real $*\"\n");
        let script = script(mounts).unwrap().replace("@REAL@", &real.to_string_lossy());
        let probe = put("probe", &script);
        let mut command = Command::new("/bin/sh");
        let output = command.arg(probe).args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn what_grub_mkconfig_asks_is_answered_for_an_instance() {
        let mounts = [mount("/", "ext4", 1), mount("/etc", "vfat", 15)];
        let asked = [
            ("--target=device /", "/dev/disk/by-uuid/ABCD-1\n"),
            ("--target=device /usr", "/dev/disk/by-uuid/ABCD-1\n"),
            ("--target=device /etc/passwd", "/dev/disk/by-uuid/ABCD-15\n"),
            ("-t fs /", "ext2\n"),
            ("-tfs /etc", "fat\n"),
            ("/etc", "fat\n"),
            ("--device /dev/disk/by-uuid/ABCD-1 --target=fs_uuid", "ABCD-1\n"),
            ("--device /dev/loop7p1 --target=partuuid", "0123-1\n"),
            ("-m /x --device --target partmap /dev/loop7p1", "gpt\n"),
            ("--target=abstraction /", ""),
            ("--target=cryptodisk_uuid /", ""),
            ("--target=compatibility_hint /", "hd0,gpt1\n"),
            ("-t drive /", "(hd0,gpt1)\n"),
        ];
        for (words, answer) in asked {
            assert_eq!(ask(&mounts, words), answer, "{words}");
        }
        let hints = ask(&mounts, "--device /dev/loop7p1 --target=hints_string");
        assert_eq!(hints, "--hint-bios=hd0,gpt1 --hint-efi=hd0,gpt1 --hint-baremetal=ahci0,gpt1\n");
    }

    #[test]
    fn what_is_not_known_is_asked_of_the_images_own() {
        let mounts = [mount("/", "ext4", 1)];
        for words in [
            "--version",
            "--target=device /run",
            "--target=device /not/there",
            "--target=zero_check /",
            "--device /dev/sda1 --target=fs",
            "--device /dev/loop7p1 /dev/sda1 --target=fs",
            "-0 -t fs /",
        ] {
            assert_eq!(ask(&mounts, words), format!("real {words}\n"));
        }
        let strange = [mount("/", "f2fs", 1)];
        assert_eq!(ask(&strange, "--target=fs /"), "real --target=fs /\n");
    }

    #[test]
    fn volumes_and_disks_without_a_table_have_names_of_their_own() {
        let volume = DiskMount {
            partition: None,
            table: Some("msdos"),
            volume: Some("/dev/mapper/my--vg-root".into()),
            ..mount("/", "xfs", 1)
        };
        let asked = [
            ("--target=device /", "/dev/mapper/my--vg-root\n"),
            ("--target=abstraction --device /dev/mapper/my--vg-root", "lvm\n"),
            ("--target=hints_string /", "--hint='lvm/my--vg-root'\n"),
            ("--target=partmap /", "msdos\n"),
        ];
        for (words, answer) in asked {
            assert_eq!(ask(std::slice::from_ref(&volume), words), answer, "{words}");
        }
        let whole = DiskMount { partition: None, table: None, ..mount("/", "ext4", 1) };
        assert_eq!(ask(std::slice::from_ref(&whole), "--target=partmap /"), "");
        assert_eq!(ask(&[whole], "--target=compatibility_hint /"), "hd0\n");
    }

    #[test]
    fn a_disk_cannot_put_words_into_the_script() {
        let uuid = Some("x'; touch /tmp/x; '".to_owned());
        assert_eq!(script(&[DiskMount { uuid, ..mount("/", "ext4", 1) }]), None);
        assert_eq!(script(&[mount("/boot", "ext4", 1)]), None, "the root is not known");
        let odd = mount("/it's $(touch x)", "ext4", 2);
        assert_eq!(ask(&[mount("/", "ext4", 1), odd], "--target=fs_uuid /"), "ABCD-1\n");
    }
}
