//! The capabilities that root keeps inside.

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use crate::sys::process;

/// What is kept: name, number, and what needs it. All others are taken out of the bounding set, so that no
/// set-id or file-capability program inside can get them back.
pub const KEPT: &[(&str, u32, &str)] = &[
    ("CHOWN", 0, "package managers set owners"),
    ("DAC_OVERRIDE", 1, "root writes everywhere in its own root"),
    ("FOWNER", 3, "modes and times of files of other owners"),
    ("FSETID", 4, "set-id bits survive a write or a chown"),
    ("KILL", 5, "scripts end the daemons that they started as another user"),
    ("SETGID", 6, "su, runuser, apt's _apt user"),
    ("SETUID", 7, "su, runuser, apt's _apt user"),
    ("SETPCAP", 8, "programs that drop capabilities of their own"),
    ("NET_BIND_SERVICE", 10, "a package's self-test listens below port 1024"),
    ("SYS_CHROOT", 18, "dpkg --root, rpm --root and scripts call chroot"),
    ("AUDIT_WRITE", 29, "su and useradd fail where PAM's audit record is refused"),
    ("SETFCAP", 31, "file capabilities of packaged programs (ping)"),
];

/// Kept only where a run asks to mount.
const SYS_ADMIN: u32 = 21;

/// Cuts the calling process down to what is kept. Irrevocable.
pub(super) fn drop_to_kept(mounts: bool) -> Result<()> {
    let wanted = kept(mounts);
    for number in 0..64 {
        if wanted >> number & 1 == 0 {
            match process::drop_from_bounding_set(number) {
                // Numbers beyond the kernel's last capability.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(errno) => {
                    return Err(errno).context(format!("taking capability {number} from the bounding set"));
                }
            }
        }
    }
    process::clear_ambient_set().context("emptying the ambient capabilities")?;
    // A builder in a container may itself lack some of them.
    let held = process::permitted_capabilities().context("asking for the capabilities held")?;
    process::set_capabilities(wanted & held).context("dropping capabilities")
}

fn kept(mounts: bool) -> u64 {
    let named = KEPT.iter().fold(0, |set, (_, number, _)| set | 1 << number);
    if mounts { named | 1 << SYS_ADMIN } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_dangerous_is_kept() {
        // SYS_MODULE 16, SYS_RAWIO 17, SYS_PTRACE 19, SYS_ADMIN 21, SYS_BOOT 22, SYS_TIME 25, MKNOD 27,
        // NET_ADMIN 12, NET_RAW 13, DAC_READ_SEARCH 2, AUDIT_CONTROL 30, MAC_* 32 33, PERFMON 38, BPF 39.
        for number in [2, 12, 13, 16, 17, 19, 21, 22, 25, 27, 30, 32, 33, 38, 39] {
            assert_eq!(kept(false) >> number & 1, 0, "capability {number}");
        }
        assert_eq!(kept(true) & !kept(false), 1 << 21);
    }
}
