//! What of the sandbox this host can build: for `doctor`.

use crate::sys;

/// One wall of the sandbox, and whether this host has what it is built of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Wall {
    /// What it keeps in or out.
    pub what: &'static str,
    /// None: it stands. Else what is lacking, and what that means.
    pub lacking: Option<String>,
    /// Whether nothing runs without it.
    pub needed: bool,
}

/// Looks at this host, changing nothing.
pub fn walls() -> Vec<Wall> {
    let exists = |path: &str| std::path::Path::new(path).exists();
    let lacking = |there: bool, why: &str| (!there).then(|| why.to_owned());
    let cgroup = match super::cgroup::hierarchy() {
        Ok(Some(_)) => None,
        Ok(None) => Some(
            "cgroups of version 2 are not mounted: the metadata service cannot be refused, so steps need network = \"none\"; `mount -t cgroup2 none /sys/fs/cgroup/unified`"
                .to_owned(),
        ),
        Err(error) => Some(format!("{error:#}")),
    };
    vec![
        Wall {
            what: "namespaces of mounts, processes, IPC, host name, cgroups and network",
            lacking: lacking(
                ["mnt", "pid", "ipc", "uts", "cgroup", "net"]
                    .iter()
                    .all(|kind| exists(&format!("/proc/self/ns/{kind}"))),
                "this kernel lacks one of them",
            ),
            needed: true,
        },
        Wall {
            what: "mounts restricted as a whole (Linux 5.12)",
            lacking: lacking(sys::mount::can_set_attributes(), "this kernel has no mount_setattr"),
            needed: true,
        },
        Wall {
            what: "system call filter",
            lacking: lacking(exists("/proc/sys/kernel/seccomp"), "this kernel has no seccomp filters"),
            needed: true,
        },
        Wall { what: "no instance credentials on the builder's network", lacking: cgroup, needed: false },
        Wall {
            what: "abstract unix sockets of the builder out of reach (Linux 6.12)",
            lacking: lacking(
                sys::process::landlock_version() >= 6,
                "this kernel's Landlock cannot: programs inside can connect to the builder's abstract unix sockets unless the step has network = \"none\"",
            ),
            needed: false,
        },
    ]
}
