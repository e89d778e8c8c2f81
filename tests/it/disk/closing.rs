//! Closing: what is busy is an error that names who; and nothing is left, however it ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bakehouse::disk::Filesystem;
use bakehouse::error::{Kind, failure_of, kind_of};

use super::mount;
use crate::support::host::{has, in_own_mounts, loops_of, own_mounts};
use crate::support::images::Image;

/// A process that is ended with the test, pass or fail.
struct Holder(Child);

impl Holder {
    /// A process whose current folder is `folder`; it is there when this returns.
    fn in_folder(folder: &Path) -> Self {
        let mut child = Command::new("cat")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The program runs, so its folder is set, once it echoes.
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn image() -> Image {
    let image = Image::partitioned(64, "label: gpt\ntype=linux\n");
    image.with_root(1, Filesystem::Ext, "");
    image
}

fn wait_until(what: &str, met: impl Fn() -> bool) {
    let start = Instant::now();
    while !met() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what} within two minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_busy_root_names_who_holds_it() {
    if !has(&["sfdisk", "mkfs.ext4", "cat"]) {
        return;
    }
    in_own_mounts(|| {
        let image = image();
        let root = mount(&image);
        let holder = Holder::in_folder(&root.path().join("srv"));
        let error = root.provisioned().close().unwrap_err();
        assert_eq!(kind_of(&error), Kind::Capture);
        let said = format!("{error:#}");
        assert!(said.contains(&format!("process {} (cat): current folder", holder.0.id())), "{said}");
        assert!(failure_of(&error).unwrap().hint.is_some());
        drop(holder);
        wait_until("the loop device is let go", || loops_of(image.path()).is_empty());
    });
}

#[test]
fn a_file_open_for_writing_is_named() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = image();
        let root = mount(&image);
        let file = fs::File::create(root.path().join("srv/log")).unwrap();
        let said = format!("{:#}", root.provisioned().close().unwrap_err());
        let pid = std::process::id();
        assert!(
            said.contains("cannot be made read-only") && said.contains(&format!("process {pid} (")),
            "{said}"
        );
        assert!(said.contains("srv/log"), "{said}");
        drop(file);
        wait_until("the loop device is let go", || loops_of(image.path()).is_empty());
    });
}

#[test]
fn a_root_mounted_in_another_namespace_is_not_closed() {
    if !has(&["sfdisk", "mkfs.ext4", "unshare", "cat"]) {
        return;
    }
    in_own_mounts(|| {
        let image = image();
        let root = mount(&image);
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = Holder(unshare.spawn().unwrap());
        std::io::Write::write_all(holder.0.stdin.as_mut().unwrap(), b"x").unwrap();
        holder.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let error = root.provisioned().close().unwrap_err();
        assert_eq!(kind_of(&error), Kind::Capture);
        let said = format!("{error:#}");
        let pid = holder.0.id();
        assert!(said.contains(&format!("process {pid} (cat): mounted at")), "{said}");
        drop(holder);
        wait_until("the loop device is let go", || loops_of(image.path()).is_empty());
    });
}

/// As udev's probes and `btrfs device scan` do at any moment.
#[test]
fn a_passing_look_at_the_partition_does_not_fail_a_close() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = image();
        let root = mount(&image);
        let look = fs::File::open(&root.areas()[0].node).unwrap();
        let passing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(look);
        });
        root.provisioned().close().unwrap();
        passing.join().unwrap();
        assert!(loops_of(image.path()).is_empty());
    });
}

#[test]
fn dropping_leaves_nothing() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = image();
        drop(mount(&image));
        assert!(loops_of(image.path()).is_empty());
        drop(super::open(&image));
        assert!(loops_of(image.path()).is_empty());
        assert!(fs::read_dir(image.target()).unwrap().next().is_none());
    });
}

#[test]
fn what_others_left_mounted_in_the_root_is_unmounted() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = image();
        let root = mount(&image);
        let none = None::<&Path>;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(none, &root.path().join("srv"), Some("tmpfs"), flags, none).unwrap();
        root.provisioned().close().unwrap();
        assert!(loops_of(image.path()).is_empty());
    });
}

const KILLED: &str = "BAKEHOUSE_TEST_KILLED_WITH";

/// Not a test of its own: the process that [`a_killed_process_leaves_nothing`] kills.
#[test]
fn is_killed_with_a_root_mounted() {
    let Some(path) = std::env::var_os(KILLED) else { return };
    own_mounts();
    let target = Path::new(&path).with_file_name("root");
    let disk = bakehouse::disk::Disk::open(&bakehouse::plan::Locator::File(path.clone().into()), super::WAIT);
    let options = bakehouse::disk::MountOptions { partition: None, grow: false, target };
    let root = disk.unwrap().mount(&options).unwrap();
    fs::write(root.path().join("srv/made"), "x").unwrap();
    println!("\nmounted");
    // Until killed, or until whoever started this has gone.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_killed_process_leaves_nothing() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    // Mounted in a namespace of its own to be filled: a process that another test starts meanwhile would take a copy of
    // the mount with it.
    let image = std::thread::spawn(|| {
        own_mounts();
        image()
    });
    let image = image.join().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "disk::closing::is_killed_with_a_root_mounted", "--nocapture"])
        .env(KILLED, image.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "mounted"), "the child mounted its root");
    assert_eq!(loops_of(image.path()).len(), 1);
    drop(Holder(child));
    wait_until("the loop device is let go", || loops_of(image.path()).is_empty());
    assert!(fs::read_dir(image.target()).unwrap().next().is_none());
}
