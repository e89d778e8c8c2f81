//! The system calls that the filter has rules for, and their numbers on each architecture.
//!
//! Numbers are those of the kernel's tables (arch/x86/entry/syscalls, arch/arm/tools/syscall.tbl,
//! include/uapi/asm-generic/unistd.h) and never change. Those of 424 and above are the same everywhere.

use super::seccomp::Rule;

/// The calls of one architecture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// AUDIT_ARCH_* of linux/audit.h.
    pub(super) architecture: u32,
    /// Whether numbers with bit 30 set are another variant's.
    pub(super) has_x32: bool,
    column: fn(&Call) -> Option<u32>,
}

/// A call's name and its numbers.
type Call = (&'static str, Option<u32>, Option<u32>, Option<u32>, Option<u32>);

impl Table {
    /// The numbers of those of the named calls that this architecture has.
    pub(super) fn numbers(&self, names: &[&str]) -> Vec<u32> {
        CALLS.iter().filter(|call| names.contains(&call.0)).filter_map(self.column).collect()
    }
}

/// The architectures that this kernel may run.
pub(super) fn tables() -> [Table; 2] {
    if cfg!(target_arch = "aarch64") {
        [
            Table { architecture: 0xC000_00B7, has_x32: false, column: |call| call.3 },
            Table { architecture: 0x4000_0028, has_x32: false, column: |call| call.4 },
        ]
    } else {
        [
            Table { architecture: 0xC000_003E, has_x32: true, column: |call| call.1 },
            Table { architecture: 0x4000_0003, has_x32: false, column: |call| call.2 },
        ]
    }
}

const fn everywhere(name: &'static str, number: u32) -> Call {
    (name, Some(number), Some(number), Some(number), Some(number))
}

const fn each(name: &'static str, x86_64: u32, i386: u32, arm64: u32, arm: u32) -> Call {
    (name, Some(x86_64), Some(i386), Some(arm64), Some(arm))
}

/// Name, x86_64, i386, arm64, arm.
const CALLS: &[Call] = &[
    each("kexec_load", 246, 283, 104, 347),
    ("kexec_file_load", Some(320), None, Some(294), Some(401)),
    each("init_module", 175, 128, 105, 128),
    each("finit_module", 313, 350, 273, 379),
    each("delete_module", 176, 129, 106, 129),
    each("reboot", 169, 88, 142, 88),
    each("swapon", 167, 87, 224, 87),
    each("swapoff", 168, 115, 225, 115),
    each("acct", 163, 51, 89, 51),
    each("syslog", 103, 103, 116, 103),
    ("iopl", Some(172), Some(110), None, None),
    ("ioperm", Some(173), Some(101), None, None),
    each("add_key", 248, 286, 217, 309),
    each("request_key", 249, 287, 218, 310),
    each("keyctl", 250, 288, 219, 311),
    each("bpf", 321, 357, 280, 386),
    each("perf_event_open", 298, 336, 241, 364),
    each("open_by_handle_at", 304, 342, 265, 371),
    each("userfaultfd", 323, 374, 282, 388),
    each("clone", 56, 120, 220, 120),
    everywhere("clone3", 435),
    each("unshare", 272, 310, 97, 337),
    each("setns", 308, 346, 268, 375),
    each("mount", 165, 21, 40, 21),
    ("umount", None, Some(22), None, Some(22)),
    each("umount2", 166, 52, 39, 52),
    each("pivot_root", 155, 217, 41, 218),
    everywhere("move_mount", 429),
    everywhere("fsopen", 430),
    everywhere("fsconfig", 431),
    everywhere("fsmount", 432),
    everywhere("fspick", 433),
    everywhere("mount_setattr", 442),
    everywhere("open_tree_attr", 467),
    each("quotactl", 179, 131, 60, 131),
    everywhere("quotactl_fd", 443),
    each("ioctl", 16, 54, 29, 54),
    everywhere("io_uring_setup", 425),
    everywhere("io_uring_enter", 426),
    everywhere("io_uring_register", 427),
    ("mknod", Some(133), Some(14), None, Some(14)),
    each("mknodat", 259, 297, 33, 324),
    each("socket", 41, 359, 198, 281),
    each("socketpair", 53, 360, 199, 288),
    each("setrlimit", 160, 75, 164, 75),
    each("prlimit64", 302, 340, 261, 369),
    each("fsync", 74, 118, 82, 118),
    each("fdatasync", 75, 148, 83, 148),
    each("sync", 162, 36, 81, 36),
    each("syncfs", 306, 344, 267, 373),
    each("msync", 26, 144, 227, 144),
    each("sync_file_range", 277, 314, 84, 341),
];

const CLONE_NEWUSER: u32 = 0x1000_0000;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;

/// The kernel itself, keys, and what leads around the other walls.
const REFUSED: &[&str] = &[
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "syslog",
    "iopl",
    "ioperm",
    "add_key",
    "request_key",
    "keyctl",
    "bpf",
    "perf_event_open",
    "open_by_handle_at",
    "userfaultfd",
    "setns",
    "quotactl",
    "quotactl_fd",
];

/// What a run that may mount is not refused. (`open_tree` is left open to all: without the right to clone a
/// mount it only opens a file.)
const MOUNTS: &[&str] = &[
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "open_tree_attr",
];

/// Answered as a kernel without them would, upon which programs use their older kin: `clone3`, whose flags are
/// in memory where a filter cannot look, and io_uring, whose operations no filter sees.
const UNKNOWN: &[&str] = &["clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"];

/// How the limit on core files is set. It stays as the sandbox set it (see `payload`), and programs are told that
/// all is well: scripts that forbid core files with `ulimit -c 0` are many, and get none.
const RLIMIT_CORE: u32 = 4;

const SYNC: &[&str] = &["fsync", "fdatasync", "sync", "syncfs", "msync", "sync_file_range"];

/// Unix, IPv4, IPv6 and netlink. Not vsock above all, by which a virtual machine talks to its host.
const FAMILIES: &[u32] = &[1, 2, 10, 16];

/// The rules, each for the calls that it names.
pub(super) fn rules(suppress_sync: bool, mounts: bool) -> Vec<(&'static [&'static str], Rule)> {
    let mut rules: Vec<(&'static [&'static str], Rule)> = vec![
        (REFUSED, Rule::Fail(libc::EPERM)),
        (UNKNOWN, Rule::Fail(libc::ENOSYS)),
        (&["clone", "unshare"], Rule::RefuseBits(0, CLONE_NEWUSER)),
        (&["ioctl"], Rule::RefuseValues(1, &[TIOCSTI, TIOCLINUX])),
        (&["mknod"], Rule::RefuseDevices(1)),
        (&["mknodat"], Rule::RefuseDevices(2)),
        (&["setrlimit"], Rule::Pretend(0, RLIMIT_CORE, 1)),
        (&["prlimit64"], Rule::Pretend(1, RLIMIT_CORE, 2)),
        (&["socket", "socketpair"], Rule::AllowFamilies(FAMILIES)),
    ];
    if !mounts {
        rules.push((MOUNTS, Rule::Fail(libc::EPERM)));
    }
    if suppress_sync {
        rules.push((SYNC, Rule::Succeed));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_names_a_known_call_and_no_call_is_named_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for name in rules(true, false).iter().flat_map(|(names, _)| *names) {
            assert!(CALLS.iter().any(|call| call.0 == *name), "{name}");
            assert!(seen.insert(*name), "{name}");
        }
        assert_eq!(seen.len(), CALLS.len());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_numbers_are_the_c_librarys() {
        let number = |name: &str| CALLS.iter().find(|call| call.0 == name).unwrap().1.map(i64::from);
        assert_eq!(number("bpf"), Some(libc::SYS_bpf));
        assert_eq!(number("keyctl"), Some(libc::SYS_keyctl));
        assert_eq!(number("open_by_handle_at"), Some(libc::SYS_open_by_handle_at));
        assert_eq!(number("finit_module"), Some(libc::SYS_finit_module));
        assert_eq!(number("mknodat"), Some(libc::SYS_mknodat));
        assert_eq!(number("sync_file_range"), Some(libc::SYS_sync_file_range));
        assert_eq!(number("perf_event_open"), Some(libc::SYS_perf_event_open));
    }
}
