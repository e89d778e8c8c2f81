//! The mounts of a process, from `/proc/PID/mountinfo` (proc_pid_mountinfo(5)). Bytes, not text: an image may
//! name its folders as it likes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its device's major and minor number.
    pub device: (u64, u64),
    /// Where it is mounted.
    pub point: PathBuf,
    /// The filesystem.
    pub kind: String,
    /// What was mounted.
    pub source: PathBuf,
}

/// Reads mountinfo; lines that cannot be are passed over.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let point = PathBuf::from(unescape(fields.nth(1)?));
    // Optional fields end with a lone dash.
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(rest.next()?).into_owned();
    let source = PathBuf::from(unescape(rest.next()?));
    Some(Mount { device, point, kind, source })
}

fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..]) => {
                plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = behind;
            }
            _ => plain.push(*byte),
        }
    }
    OsString::from_vec(plain)
}

/// The mounts that this thread sees, in the order in which they were made.
pub(super) fn own() -> Result<Vec<Mount>> {
    let path = "/proc/thread-self/mountinfo";
    Ok(parse(&std::fs::read(path).with_context(|| format!("reading {path}"))?))
}

/// The mounts at and beneath a folder, those made last first: the order in which to unmount.
pub(super) fn at_and_beneath(folder: &Path) -> Result<Vec<Mount>> {
    let mut found: Vec<Mount> = own()?.into_iter().filter(|mount| mount.point.starts_with(folder)).collect();
    found.reverse();
    // A mount beneath another may have been made before it was moved there; depth decides first.
    found.sort_by_key(|mount| {
        std::cmp::Reverse(mount.point.as_os_str().as_bytes().split(|b| *b == b'/').count())
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_kernel_prints() {
        let text = b"36 35 98:0 /mnt1 /mnt/with\\040space rw,noatime master:1 shared:2 - ext4 /dev/root rw,errors=continue\n\
            22 1 0:21 / /sys rw - sysfs sysfs rw\n\
            40 36 7:3 / / rw - xfs /dev/loop3 rw\nnonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].point, Path::new("/mnt/with space"));
        assert_eq!((mounts[0].device, mounts[0].kind.as_str()), ((98, 0), "ext4"));
        assert_eq!(mounts[0].source, Path::new("/dev/root"));
        assert_eq!(mounts[2].device, (7, 3));
    }

    #[test]
    fn own_mounts_hold_proc() {
        assert!(own().unwrap().iter().any(|mount| mount.point == Path::new("/proc")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _mounts = parse(&bytes);
        }
    }
}
