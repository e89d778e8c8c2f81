//! Small disk images with roots of every kind, made with the real tools.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bakehouse::disk::Filesystem;
use bakehouse::disk::loopdev::LoopDevice;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::host::{loops_of, run, run_with};

/// A disk image in a folder of its own. When it goes, so does the file, and no loop device may be left on it.
pub struct Image {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Image {
    /// A sparse file of zeroes.
    pub fn empty(mib: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("bakehouse-disk-").tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("disk.img");
        fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Self { folder, path }
    }

    /// One with a partition table: a script for sfdisk.
    pub fn partitioned(mib: u64, script: &str) -> Self {
        let image = Self::empty(mib);
        run_with("sfdisk", &["--quiet", image.path.to_str().unwrap()], script);
        image
    }

    /// A copy, bit for bit.
    pub fn copy(&self) -> Self {
        let copy = Self::empty(1);
        run("cp", &["--sparse=always", self.path.to_str().unwrap(), copy.path.to_str().unwrap()]);
        copy
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An empty folder to mount on.
    pub fn target(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("root")
    }

    /// Makes the disk larger.
    pub fn extend(&self, mib: u64) {
        fs::OpenOptions::new().write(true).open(&self.path).unwrap().set_len(mib << 20).unwrap();
    }

    /// Runs `work` with the node of a partition (0: the whole disk).
    pub fn with_node<T>(&self, partition: u32, work: impl FnOnce(&Path) -> T) -> T {
        let device = LoopDevice::attach(&self.path).unwrap();
        let node = match partition {
            0 => device.path().to_owned(),
            _ => {
                let partitions = device.partitions().unwrap();
                partitions.into_iter().find(|(number, _)| *number == partition).unwrap().1
            }
        };
        let result = work(&node);
        device.detach().unwrap();
        result
    }

    /// Runs `work` with the nodes of all its partitions, by number. A node's name is told, never made of another's:
    /// there is a `p1` in `/dev/loop1p2` too.
    pub fn with_nodes<T>(&self, work: impl FnOnce(&[&Path]) -> T) -> T {
        let device = LoopDevice::attach(&self.path).unwrap();
        let partitions = device.partitions().unwrap();
        let nodes: Vec<&Path> = partitions.iter().map(|(_, node)| node.as_path()).collect();
        let result = work(&nodes);
        device.detach().unwrap();
        result
    }

    /// Makes a filesystem on a partition and fills it.
    pub fn format(
        &self,
        partition: u32,
        filesystem: Filesystem,
        label: &str,
        fill: impl FnOnce(&Path),
    ) -> &Self {
        self.with_node(partition, |node| {
            let name = node.to_str().unwrap();
            match filesystem {
                Filesystem::Ext => run("mkfs.ext4", &["-q", "-L", label, name]),
                Filesystem::Xfs => run("mkfs.xfs", &["-q", "-f", "-L", label, name]),
                Filesystem::Btrfs => run("mkfs.btrfs", &["-q", "-f", "-L", label, name]),
            };
            mounted(node, filesystem.name(), "", &self.target(), fill);
        });
        self
    }

    /// Makes a filesystem on a partition with a root in it.
    pub fn with_root(&self, partition: u32, filesystem: Filesystem, fstab: &str) -> &Self {
        self.format(partition, filesystem, "root", |root| fill_root(root, fstab))
    }

    /// Writes bytes into a partition (0: the whole disk): signatures of what has no tools here.
    pub fn write(&self, partition: u32, writes: &[(u64, &[u8])]) -> &Self {
        use std::os::unix::fs::FileExt as _;
        self.with_node(partition, |node| {
            let file = fs::OpenOptions::new().write(true).open(node).unwrap();
            for (offset, bytes) in writes {
                file.write_all_at(bytes, *offset).unwrap();
            }
            file.sync_all().unwrap();
        });
        self
    }

    /// Checks a filesystem thoroughly, writing nothing.
    pub fn fsck(&self, partition: u32, filesystem: Filesystem) {
        self.with_node(partition, |node| {
            let node = node.to_str().unwrap();
            match filesystem {
                Filesystem::Ext => run("e2fsck", &["-f", "-n", node]),
                Filesystem::Xfs => run("xfs_repair", &["-n", node]),
                Filesystem::Btrfs => run("btrfs", &["check", "--readonly", node]),
            };
        });
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let left = loops_of(&self.path);
        if !left.is_empty() && !std::thread::panicking() {
            panic!("left on {}: {left:?}", self.path.display());
        }
    }
}

/// Mounts, works, unmounts; for making images, without the code under test.
///
/// When `work` panics, the mount and all that is mounted below it come off first: whoever made the target may
/// remove it with all that is in it.
pub fn mounted<T>(node: &Path, kind: &str, options: &str, target: &Path, work: impl FnOnce(&Path) -> T) -> T {
    struct Mounted<'t>(&'t Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                nix::mount::umount2(self.0, MntFlags::MNT_DETACH).expect("taking a mount off");
            }
        }
    }
    // Another process may claim the device for a moment.
    let start = Instant::now();
    loop {
        match nix::mount::mount(Some(node), target, Some(kind), MsFlags::empty(), Some(options)) {
            Err(Errno::EBUSY) if start.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(errno) => panic!("mounting {}: {errno}; who has it:\n{}", node.display(), users_of(node)),
            Ok(()) => break,
        }
    }
    let guard = Mounted(target);
    let result = work(target);
    drop(guard);
    // A program that another thread starts has, until it is executed, all files open that this one had at that moment.
    let start = Instant::now();
    loop {
        match nix::mount::umount(target) {
            Err(Errno::EBUSY) if start.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(errno) => panic!("unmounting {}: {errno}; who has it:\n{}", node.display(), users_of(node)),
            Ok(()) => return result,
        }
    }
}

/// Who has a device open or mounted, in every process's own view.
fn users_of(node: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let device = fs::metadata(node).map(|meta| meta.rdev()).unwrap_or_default();
    let number = format!(" {}:{} ", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let mut users = format!("{} is{number}\n", node.display());
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let folder = process.path();
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let mounts = fs::read_to_string(folder.join("mountinfo")).unwrap_or_default();
        let mounted = mounts.lines().filter(|line| line.contains(&number)).map(str::to_owned);
        let open = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten().filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            (target == node).then(|| format!("{} open", target.display()))
        });
        for use_of_it in mounted.chain(open) {
            users.push_str(&format!("{} {}: {use_of_it}\n", folder.display(), name.trim()));
        }
    }
    users
}

/// The least that makes a root.
pub fn fill_root(root: &Path, fstab: &str) {
    for folder in ["etc", "usr/lib", "boot", "srv"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("usr/lib/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
    symlink("/usr/lib/os-release", root.join("etc/os-release")).unwrap();
    fs::write(root.join("etc/fstab"), fstab).unwrap();
}

/// Copies a program of this host, and what it is linked with, into a root.
pub fn copy_program(root: &Path, program: &str) {
    let linked = run("ldd", &[program]);
    for path in linked.split_whitespace().filter(|word| word.starts_with('/')).chain([program]) {
        let to = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}
