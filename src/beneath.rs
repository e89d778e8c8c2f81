//! Reading out of an image's root from the builder, without ever leaving it.
//!
//! An image is not trusted: its `/etc/os-release` may be a link to the builder's `/etc/shadow`, a pipe that
//! never ends or a file of many gigabytes. Paths are resolved by the kernel as a process would that has the
//! root as its `/` (`openat2` with `RESOLVE_IN_ROOT`, Linux 5.6), so that absolute links and `..` stay inside.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// The largest file that [`read`] takes, in bytes. A dpkg status file of a full desktop is about 5 MB.
const LIMIT: u64 = 64 << 20;

/// Opens a folder to be used as a root.
fn open_root(root: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(root, flags, Mode::empty())
        .with_context(|| format!("opening the root {}", root.display()))
}

/// Resolves `path` as a process would that has `root` as its `/`. `O_CLOEXEC` is added to the flags.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut tries = 0;
    loop {
        match openat2(root, path, how) {
            // The kernel could not exclude that a rename elsewhere raced with a `..`: openat2(2) says to retry.
            Err(Errno::EAGAIN) if tries < 128 => tries += 1,
            result => return result,
        }
    }
}

/// Opens the regular file `path` (absolute inside, or relative to the root) beneath `root` for reading; none
/// where there is nothing.
///
/// # Errors
/// That it is no regular file, or that it cannot be read.
pub fn open(root: &Path, path: &Path) -> Result<Option<File>> {
    let what = || format!("opening {} beneath {}", path.display(), root.display());
    // Without O_NONBLOCK opening a pipe would wait for a writer for ever.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match resolve(open_root(root)?.as_fd(), path, flags) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(errno) => return Err(errno).with_context(what),
    };
    if !file.metadata().with_context(what)?.is_file() {
        bail!("{} beneath {} is not a regular file", path.display(), root.display());
    }
    Ok(Some(file))
}

/// Opens the folder `path` beneath `root` as a place for more (`O_PATH`); none where there is none.
///
/// # Errors
/// The kernel's.
pub fn folder(root: &Path, path: &Path) -> Result<Option<OwnedFd>> {
    match resolve(open_root(root)?.as_fd(), path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => {
            Err(errno).with_context(|| format!("opening {} beneath {}", path.display(), root.display()))
        }
    }
}

/// A path of the builder that names an open folder itself, whatever its name has become.
pub fn handle(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// The content of a regular file beneath `root`; none where there is nothing.
///
/// # Errors
/// Those of [`open`], or that it is larger than 64 MiB.
pub fn read(root: &Path, path: &Path) -> Result<Option<Vec<u8>>> {
    let Some(file) = open(root, path)? else { return Ok(None) };
    let mut content = Vec::new();
    let what = || format!("reading {} beneath {}", path.display(), root.display());
    file.take(LIMIT + 1).read_to_end(&mut content).with_context(what)?;
    if content.len() as u64 > LIMIT {
        bail!("{} beneath {} is larger than 64 MiB", path.display(), root.display());
    }
    Ok(Some(content))
}

/// As [`read`], as text; bytes that are not UTF-8 are replaced.
///
/// # Errors
/// Those of [`read`].
pub fn read_to_string(root: &Path, path: &Path) -> Result<Option<String>> {
    Ok(read(root, path)?.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_resolve_inside() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("usr/lib")).unwrap();
        std::fs::write(folder.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("usr/lib/os-release"), "ID=debian\n").unwrap();
        symlink("../usr/lib/os-release", root.join("etc/relative")).unwrap();
        symlink("/usr/lib/os-release", root.join("etc/absolute")).unwrap();
        symlink(folder.path().join("secret"), root.join("etc/leak")).unwrap();
        symlink("../../secret", root.join("etc/climb")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("etc/magic")).unwrap();
        let read = |path: &str| read_to_string(&root, Path::new(path)).unwrap();
        assert_eq!(read("/etc/relative").as_deref(), Some("ID=debian\n"));
        assert_eq!(read("etc/absolute").as_deref(), Some("ID=debian\n"));
        assert_eq!(read("/etc/leak"), None);
        assert_eq!(read("/etc/climb"), None);
        assert_eq!(read("/etc/magic"), None);
        assert_eq!(read("/../secret"), None);
    }

    #[test]
    fn folders_resolve_inside() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        symlink("/usr", root.path().join("inside")).unwrap();
        symlink("/proc", root.path().join("outside")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        let found = |path: &str| folder(root.path(), Path::new(path)).unwrap();
        let lib = found("/inside/lib").unwrap();
        assert_eq!(handle(&lib).read_link().unwrap(), root.path().canonicalize().unwrap().join("usr/lib"));
        for none in ["/outside", "/loop", "/inside/none"] {
            assert!(found(none).is_none(), "{none}");
        }
    }

    #[test]
    fn pipes_and_folders_are_refused_without_waiting() {
        let root = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&root.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert!(read(root.path(), Path::new("/pipe")).is_err());
        assert!(read(root.path(), Path::new("/")).is_err());
    }

    #[test]
    fn endless_files_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = File::create(root.path().join("big")).unwrap();
        file.set_len(LIMIT + 1).unwrap();
        assert!(read(root.path(), Path::new("big")).is_err());
    }
}
