//! From what was seen on a host to what it lacks. Pure.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::disk::NEEDED;

/// How a host stands in one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// It has what is needed.
    Good,
    /// It lacks what only some bakes or subcommands need.
    Without,
    /// It lacks what every bake needs.
    Lacking,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How the host stands.
    pub grade: Grade,
    /// What was seen.
    pub said: Option<String>,
    /// The command, or the deed, that mends it.
    pub mend: Option<String>,
}

/// How packages are installed on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// By apt.
    Deb,
    /// By dnf.
    Rpm,
    /// By dnf, on Amazon Linux 2023.
    Amazon,
    /// In a way that is not known here.
    Other,
}

/// What was seen on a host.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether this is root.
    pub root: bool,
    /// The effective capabilities, as bits (capabilities(7)).
    pub capabilities: u64,
    /// How packages are installed.
    pub family: Family,
    /// The programs that are there.
    pub programs: BTreeSet<String>,
    /// The filesystems that the kernel has or can load.
    pub filesystems: BTreeSet<String>,
    /// Whether there is a loop control device.
    pub loop_control: bool,
    /// What the sandbox is built of: what it is, what is lacking, whether it is always needed.
    pub walls: Vec<(String, Option<String>, bool)>,
    /// The store's folder, or the nearest above it that is there.
    pub store: String,
    /// Free bytes there.
    pub free: u64,
    /// The other folders of the settings: what is in it, the folder (or the nearest above it that is there), free bytes.
    pub rooms: Vec<(&'static str, String, u64)>,
    /// Whether files of the store can share blocks; none where it could not be tried.
    pub reflink: Option<bool>,
    /// Whether /dev/kvm can be opened.
    pub kvm: bool,
}

/// A program, what it is for, its packages (deb, rpm).
const PROGRAMS: &[(&str, &str, &str, &str)] = &[
    ("mmdebstrap", "makes foundation images", "mmdebstrap", "mmdebstrap"),
    ("qemu-img", "imports and exports disk images", "qemu-utils", "qemu-img"),
    ("qemu-system-x86_64", "boots images", "qemu-system-x86", "qemu-system-x86-core"),
];

/// The packages of other RPM distributions that Amazon Linux 2023 has not.
const NOT_ON_AMAZON: &[&str] = &["btrfs-progs", "mmdebstrap", "qemu-img", "qemu-system-x86-core"];

/// The capabilities without which no disk is mounted and no root entered: their numbers (linux/capability.h).
const CAPABILITIES: &[(&str, u32)] =
    &[("CAP_SYS_ADMIN", 21), ("CAP_SYS_CHROOT", 18), ("CAP_MKNOD", 27), ("CAP_SETUID", 7), ("CAP_CHOWN", 0)];

/// Less room than this is too little for a bake on a foundation image.
const LITTLE_ROOM: u64 = 3 << 30;

/// The other folders: what is in it, how many bytes free are too few, how the host stands then, what makes room.
const ROOMS: &[(&str, u64, Grade, &str)] = &[
    ("journals", 16 << 20, Grade::Lacking, "make room there, or set --state to a larger filesystem"),
    (
        "caches",
        1 << 30,
        Grade::Without,
        "`bakehouse gc --caches-older-than 0s --yes`, or set --cache to a larger filesystem",
    ),
    (
        "logs",
        64 << 20,
        Grade::Without,
        "`bakehouse gc --logs-older-than 7d --yes`, or set --logs to a larger filesystem",
    ),
];

/// How a host stands in every point.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![root(facts)];
    for needed in NEEDED {
        let grade = if needed.always { Grade::Lacking } else { Grade::Without };
        findings.push(program(facts, needed.program, needed.purpose, (needed.deb, needed.rpm), grade));
    }
    for (name, purpose, deb, rpm) in PROGRAMS {
        findings.push(program(facts, name, purpose, (deb, rpm), Grade::Without));
    }
    for (name, grade) in [("ext4", Grade::Lacking), ("xfs", Grade::Without), ("btrfs", Grade::Without)] {
        let there = facts.filesystems.contains(name);
        let mend = format!("sudo modprobe {name}, or a kernel that has it");
        findings.push(point(format!("{name} in the kernel"), there, grade, "not there", mend));
    }
    let mend = "sudo modprobe loop; in a container, run on the host itself".to_owned();
    findings.push(point(
        "loop devices".to_owned(),
        facts.loop_control,
        Grade::Lacking,
        "no /dev/loop-control",
        mend,
    ));
    for (what, lacking, needed) in &facts.walls {
        let grade = match lacking {
            None => Grade::Good,
            Some(_) if *needed => Grade::Lacking,
            Some(_) => Grade::Without,
        };
        findings.push(Finding { what: what.clone(), grade, said: lacking.clone(), mend: None });
    }
    findings.extend(store(facts));
    findings.extend(rooms(facts));
    findings.push(point(
        "hardware virtualization".to_owned(),
        facts.kvm,
        Grade::Without,
        "/dev/kvm cannot be used",
        "`bakehouse local boot` emulates by software instead, which is slower".to_owned(),
    ));
    findings
}

fn root(facts: &Facts) -> Finding {
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(_, number)| facts.capabilities & (1 << number) == 0)
        .map(|(name, _)| *name)
        .collect();
    let (said, mend) = match (facts.root, missing.is_empty()) {
        (true, true) => (None, None),
        (false, _) => (
            Some("not root: images are listed and recipes validated, nothing is baked".to_owned()),
            Some("run it with sudo".to_owned()),
        ),
        (true, false) => (
            Some(format!("root without {}", missing.join(", "))),
            Some("run on the host itself, or in a container with these capabilities".to_owned()),
        ),
    };
    let grade = if said.is_none() { Grade::Good } else { Grade::Lacking };
    Finding { what: "root".to_owned(), grade, said, mend }
}

fn program(facts: &Facts, name: &str, purpose: &str, packages: (&str, &str), grade: Grade) -> Finding {
    let mend = match (facts.family, packages) {
        (Family::Deb, (deb, _)) => format!("sudo apt-get install {deb}"),
        (Family::Amazon, (_, rpm)) if NOT_ON_AMAZON.contains(&rpm) => {
            format!("not on Amazon Linux 2023: a builder with Debian or Ubuntu has it ({rpm})")
        }
        (Family::Rpm | Family::Amazon, (_, rpm)) => format!("sudo dnf install {rpm}"),
        (Family::Other, (deb, rpm)) => format!("install the package {deb} (deb) or {rpm} (rpm)"),
    };
    point(format!("{name} ({purpose})"), facts.programs.contains(name), grade, "not found", mend)
}

fn point(what: String, there: bool, grade: Grade, said: &str, mend: String) -> Finding {
    if there {
        return Finding { what, grade: Grade::Good, said: None, mend: None };
    }
    Finding { what, grade, said: Some(said.to_owned()), mend: Some(mend) }
}

fn store(facts: &Facts) -> [Finding; 2] {
    let mib = facts.free >> 20;
    let room = point(
        format!("room for the local store in {}", facts.store),
        facts.free >= LITTLE_ROOM,
        Grade::Without,
        &format!("{mib} MiB"),
        "remove images with `bakehouse local remove`, or set --store to a larger filesystem".to_owned(),
    );
    let reflink = point(
        "copies that share blocks".to_owned(),
        facts.reflink != Some(false),
        Grade::Without,
        "the store's filesystem cannot: a disk's data is copied",
        "put the store on XFS or Btrfs; a bake starts some tenths of a second sooner then".to_owned(),
    );
    [room, reflink]
}

fn rooms(facts: &Facts) -> impl Iterator<Item = Finding> {
    facts.rooms.iter().filter_map(|(what, folder, free)| {
        let (_, wanted, grade, mend) = ROOMS.iter().find(|room| room.0 == *what)?;
        let said = format!("{} MiB", free >> 20);
        Some(point(format!("room for {what} in {folder}"), free >= wanted, *grade, &said, (*mend).to_owned()))
    })
}

/// How packages are installed, by os-release(5).
pub fn family(os_release: &str) -> Family {
    let ids: Vec<_> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        .collect();
    let any = |names: &[&str]| ids.iter().any(|id| names.contains(id));
    if any(&["debian", "ubuntu"]) {
        Family::Deb
    } else if any(&["amzn"]) {
        Family::Amazon
    } else if any(&["fedora", "rhel", "centos"]) {
        Family::Rpm
    } else {
        Family::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Facts {
        let names = NEEDED.iter().map(|needed| needed.program).chain(PROGRAMS.iter().map(|(name, ..)| *name));
        Facts {
            root: true,
            capabilities: u64::MAX,
            family: Family::Deb,
            programs: names.map(str::to_owned).collect(),
            filesystems: ["ext4", "xfs", "btrfs"].map(str::to_owned).into(),
            loop_control: true,
            walls: vec![("a wall".to_owned(), None, true)],
            store: "/var/lib".to_owned(),
            free: 100 << 30,
            rooms: ROOMS.iter().map(|room| (room.0, "/var".to_owned(), room.1)).collect(),
            reflink: Some(true),
            kvm: true,
        }
    }

    fn wrong(facts: &Facts) -> Vec<(Grade, String)> {
        judge(facts)
            .into_iter()
            .filter(|finding| finding.grade != Grade::Good)
            .map(|finding| {
                (finding.grade, format!("{} | {}", finding.what, finding.mend.unwrap_or_default()))
            })
            .collect()
    }

    #[test]
    fn a_host_that_has_everything_lacks_nothing() {
        assert_eq!(wrong(&complete()), []);
    }

    #[test]
    fn a_program_that_every_bake_needs_is_lacking_and_its_package_named_for_the_host() {
        let mut facts = complete();
        facts.programs.remove("sfdisk");
        facts.programs.remove("qemu-img");
        let found = wrong(&facts);
        assert!(matches!(&found[..], [(Grade::Lacking, sfdisk), (Grade::Without, qemu)]
            if sfdisk.ends_with("sudo apt-get install fdisk") && qemu.ends_with("sudo apt-get install qemu-utils")));
        facts.family = Family::Rpm;
        assert!(wrong(&facts)[0].1.ends_with("sudo dnf install util-linux"));
    }

    #[test]
    fn a_package_that_amazon_linux_has_not_is_not_told_to_be_installed_there() {
        let mut facts = complete();
        facts.family = Family::Amazon;
        for name in ["mmdebstrap", "btrfs", "qemu-img", "qemu-system-x86_64", "mcopy"] {
            facts.programs.remove(name);
        }
        for (grade, told) in wrong(&facts) {
            assert_eq!(grade, Grade::Without, "{told}");
            let installed = told.ends_with("| sudo dnf install mtools");
            assert_eq!(installed, told.starts_with("mcopy"), "{told}");
            assert_eq!(!installed, told.contains("| not on Amazon Linux 2023"), "{told}");
        }
    }

    #[test]
    fn root_in_a_container_is_not_root_enough() {
        let mut facts = complete();
        facts.capabilities = !(1 << 21);
        let found = judge(&facts).remove(0);
        assert_eq!(
            (found.grade, found.said.as_deref()),
            (Grade::Lacking, Some("root without CAP_SYS_ADMIN"))
        );
        facts.root = false;
        assert_eq!(judge(&facts).remove(0).mend.as_deref(), Some("run it with sudo"));
    }

    #[test]
    fn a_wall_that_is_not_always_needed_is_a_thing_to_be_without() {
        let mut facts = complete();
        facts.walls = vec![
            ("w".to_owned(), Some("why".to_owned()), false),
            ("n".to_owned(), Some("x".to_owned()), true),
        ];
        facts.free = 1;
        facts.reflink = None;
        let grades: Vec<_> = wrong(&facts).into_iter().map(|(grade, _)| grade).collect();
        assert_eq!(grades, [Grade::Without, Grade::Lacking, Grade::Without]);
    }

    #[test]
    fn room_is_looked_for_in_every_folder() {
        let mut facts = complete();
        for room in &mut facts.rooms {
            room.2 -= 1;
        }
        let found = wrong(&facts);
        let told: Vec<_> = found.iter().map(|(grade, told)| (*grade, told.as_str())).collect();
        assert!(
            matches!(told[..], [(Grade::Lacking, state), (Grade::Without, cache), (Grade::Without, logs)]
                if state.starts_with("room for journals in /var | make room")
                    && cache.contains("--caches-older-than") && logs.contains("--logs-older-than")),
            "{told:?}"
        );
    }

    #[test]
    fn families_are_told_by_os_release() {
        assert_eq!(family("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Family::Deb);
        assert_eq!(
            family("NAME=\"Amazon Linux\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n"),
            Family::Amazon
        );
        assert_eq!(family("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Family::Rpm);
        assert_eq!(family("ID=nixos\n"), Family::Other);
    }
}
