//! Looking into an image's root from outside, with paths that cannot lead out of it: an absolute symlink of
//! the image, or `..`, starts again at the image's root (openat2, RESOLVE_IN_ROOT, Linux 5.6).

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// More than any file read here can sensibly be, bytes.
const LIMIT: u64 = 1 << 20;

/// Opens a folder of the host by which paths beneath it are resolved.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::open(path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))
}

fn open(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        match openat2(&root, path, how) {
            // A rename elsewhere on the host while ".." was followed: the kernel could not be sure.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Opens a folder beneath a root; `None` where there is none of that name.
pub(super) fn folder(root: impl AsFd, path: &Path) -> Result<Option<OwnedFd>> {
    match open(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("opening {} in the image", path.display())),
    }
}

/// Reads a text file beneath a root; `None` where there is no plain file of that name.
pub(super) fn text(root: impl AsFd, path: &Path) -> Result<Option<String>> {
    // Without O_NONBLOCK a fifo in the image would hold us up for ever.
    let file = match open(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO | Errno::EACCES) => return Ok(None),
        Err(errno) => return Err(errno).with_context(|| format!("opening {} in the image", path.display())),
    };
    let reading = || format!("reading {} in the image", path.display());
    let metadata = file.metadata().with_context(reading)?;
    if !metadata.is_file() || metadata.file_type().is_fifo() {
        return Ok(None);
    }
    if metadata.len() > LIMIT {
        bail!("{} in the image is {} bytes long: not what it should be", path.display(), metadata.len());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).with_context(reading)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The host's path of an open folder, as it is now.
pub(super) fn path_of(folder: &OwnedFd) -> Result<PathBuf> {
    handle(folder).read_link().context("asking for the path of a folder in the image")
}

/// A path that names an open folder itself, whatever its name has become.
pub(super) fn handle(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("usr/lib/os-release"), "ID=inside\n").unwrap();
        symlink("/usr/lib/os-release", root.path().join("etc/os-release")).unwrap();
        symlink("../../../../../usr/lib/os-release", root.path().join("etc/relative")).unwrap();
        symlink("/proc/self", root.path().join("boot")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        nix::unistd::mkfifo(&root.path().join("fifo"), Mode::S_IRUSR).unwrap();
        let fd = open_root(root.path()).unwrap();
        let read = |path: &str| text(&fd, Path::new(path)).unwrap();
        assert_eq!(read("etc/os-release").as_deref(), Some("ID=inside\n"));
        assert_eq!(read("/etc/relative").as_deref(), Some("ID=inside\n"));
        assert_eq!(read("etc/passwd"), None);
        assert_eq!(read("fifo"), None);
        assert_eq!(read("loop"), None);
        assert_eq!(read("etc"), None);
        assert!(folder(&fd, Path::new("/boot")).unwrap().is_none());
        let inside = folder(&fd, Path::new("/usr/lib")).unwrap().unwrap();
        assert_eq!(path_of(&inside).unwrap(), root.path().canonicalize().unwrap().join("usr/lib"));
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = File::create(root.path().join("fstab")).unwrap();
        file.set_len(LIMIT + 1).unwrap();
        assert!(text(open_root(root.path()).unwrap(), Path::new("fstab")).is_err());
    }
}
