//! The local store and its subcommands, on real files.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use bakehouse::disk::loopdev::LoopDevice;
use nix::mount::MsFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::bases::{self, debian_base, rpm_base, store_with, tiny_base};
use crate::support::host::{has, in_own_mounts, run};
use crate::support::images::mounted;

/// A folder with a store, and the command that uses it.
struct Kitchen {
    folder: tempfile::TempDir,
}

impl Kitchen {
    fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("bakehouse-local-").tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn local(&self, arguments: &[&str]) -> Output {
        self.bakehouse(&[&["local"], arguments].concat())
    }

    fn bakehouse(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakehouse"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("BAKEHOUSE_CLOUD", "local")
            .env("BAKEHOUSE_STORE", self.path("store"))
            .env("BAKEHOUSE_STATE", self.path("state"))
            .env("BAKEHOUSE_CACHE", self.path("cache"))
            .env_remove("BAKEHOUSE_OUTPUT");
        command
    }

    /// A raw disk of 64 MiB with something in it.
    fn disk(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let file = fs::File::create(&path).unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
        file.write_all_at(&bytes, 1 << 20).unwrap();
        file.write_all_at(b"the last bytes", (64 << 20) - 4096).unwrap();
        file.set_len(64 << 20).unwrap();
        path
    }

    fn disks(&self) -> usize {
        fs::read_dir(self.path("store/disks")).map_or(0, Iterator::count)
    }
}

fn done(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    out.trim().to_owned()
}

#[track_caller]
fn refused(output: &Output, status: i32, says: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{err}");
    assert!(err.contains(says), "{err}");
    assert!(output.stdout.is_empty(), "a failure has no result");
}

#[test]
fn an_image_comes_in_and_goes_out_in_every_format_with_the_same_content() {
    if !has(&["qemu-img"]) {
        return;
    }
    let kitchen = Kitchen::new();
    let raw = kitchen.disk("disk.raw");
    let id = done(&kitchen.local(&["import", "disk.raw", "--name", "first", "--tag", "source_ami=ami-0abc"]));
    let stored = fs::read_dir(kitchen.path("store/disks")).unwrap().next().unwrap().unwrap();
    assert!(stored.metadata().unwrap().blocks() * 512 < 8 << 20, "zeroes came in as holes");
    for (format, more) in [("raw", &[][..]), ("qcow2", &["--compress"]), ("vmdk", &[])] {
        let file = format!("out.{format}");
        assert_eq!(done(&kitchen.local(&[&["export", "first", &file], more].concat())), file);
        run(
            "qemu-img",
            &[
                "compare",
                "-f",
                "raw",
                "-F",
                format,
                raw.to_str().unwrap(),
                kitchen.path(&file).to_str().unwrap(),
            ],
        );
        done(&kitchen.local(&["import", &file, "--name", &format!("again-{format}")]));
        let back = format!("back-{format}.raw");
        done(&kitchen.local(&["export", &format!("again-{format}"), &back]));
        assert!(
            fs::read(&raw).unwrap() == fs::read(kitchen.path(&back)).unwrap(),
            "{format} came back the same"
        );
    }
    let list: serde_json::Value =
        serde_json::from_str(&done(&kitchen.bakehouse(&["images", "--output", "json"]))).unwrap();
    let names: Vec<_> =
        list.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["again-vmdk", "again-qcow2", "again-raw", "first"]);
    assert_eq!(list[3]["tags"]["source_ami"], "ami-0abc");
    assert_eq!(done(&kitchen.local(&["remove", "first"])), id);
    assert_eq!(kitchen.disks(), 3);
}

#[test]
fn an_export_never_writes_over_a_file_unasked_and_leaves_nothing_half_done() {
    if !has(&["qemu-img"]) {
        return;
    }
    let kitchen = Kitchen::new();
    kitchen.disk("disk.raw");
    done(&kitchen.local(&["import", "disk.raw", "--name", "web"]));
    fs::write(kitchen.path("there.qcow2"), "precious").unwrap();
    symlink("nowhere", kitchen.path("link.qcow2")).unwrap();
    for name in ["there.qcow2", "link.qcow2"] {
        refused(&kitchen.local(&["export", "web", name]), 2, "is there already");
    }
    assert_eq!(fs::read(kitchen.path("there.qcow2")).unwrap(), b"precious");
    done(&kitchen.local(&["export", "web", "there.qcow2", "--force"]));
    refused(&kitchen.local(&["export", "web", "web.iso"]), 2, ".raw, .qcow2 or .vmdk");
    refused(&kitchen.local(&["export", "nope", "nope.raw"]), 5, "no image nope");
    let left: Vec<_> = fs::read_dir(kitchen.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".bakehouse"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn what_cannot_come_in_is_told_and_leaves_nothing() {
    if !has(&["qemu-img"]) {
        return;
    }
    let kitchen = Kitchen::new();
    kitchen.disk("disk.raw");
    done(&kitchen.local(&["import", "disk.raw", "--name", "web"]));
    refused(&kitchen.local(&["import", "disk.raw", "--name", "web"]), 12, "the name web is taken");
    refused(&kitchen.local(&["import", "disk.raw", "--name", "a|b"]), 12, "cannot be an image's name");
    refused(&kitchen.local(&["import", "none.raw", "--name", "none"]), 5, "none.raw");
    fs::write(kitchen.path("empty.raw"), "").unwrap();
    refused(&kitchen.local(&["import", "empty.raw", "--name", "empty"]), 5, "empty");
    fs::write(kitchen.path("text.qcow2"), "not a disk").unwrap();
    let wrong = ["import", "text.qcow2", "--name", "text", "--format", "qcow2"];
    refused(&kitchen.local(&wrong), 5, "cannot be read as a disk image");
    // What somebody else made may name any file of this host.
    let backed = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", "x.qcow2"];
    assert!(
        Command::new("qemu-img").args(backed).current_dir(kitchen.folder.path()).status().unwrap().success()
    );
    refused(&kitchen.local(&["import", "x.qcow2", "--name", "leak"]), 5, "/etc/passwd");
    assert_eq!(kitchen.disks(), 1);
}

#[test]
fn too_little_room_is_told_before_the_disk_is_full() {
    if !has(&["qemu-img"]) {
        return;
    }
    in_own_mounts(|| {
        let kitchen = Kitchen::new();
        fs::create_dir(kitchen.path("store")).unwrap();
        nix::mount::mount(
            Some("none"),
            &kitchen.path("store"),
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=24m"),
        )
        .unwrap();
        // Nothing but data, more than there is room for.
        fs::write(kitchen.path("large.raw"), vec![7; 40 << 20]).unwrap();
        let output = kitchen.local(&["import", "large.raw", "--name", "large"]);
        refused(&output, 4, "needs 40 MiB in the local store, which has 24 MiB");
        assert_eq!(kitchen.disks(), 0);
        nix::mount::umount(&kitchen.path("store")).unwrap();
    });
}

#[test]
fn a_foundation_is_laid_out_and_settled_as_a_vendors_image() {
    if !has(bases::NEEDED) {
        return;
    }
    let base = debian_base();
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), "base", &base);
    let disk = store.disk_of(&store.image("base").unwrap());
    in_own_mounts(move || {
        let device = LoopDevice::attach(&disk).unwrap();
        let partitions = device.partitions().unwrap();
        let numbers: Vec<_> = partitions.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 14]);
        let node = partitions[0].1.clone();
        run("e2fsck", &["-f", "-n", node.to_str().unwrap()]);
        let target = tempfile::tempdir().unwrap();
        mounted(&node, "ext4", "", target.path(), |root| {
            let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
            assert_eq!(
                fs::read_link(root.join("etc/resolv.conf")).unwrap(),
                Path::new("../run/systemd/resolve/stub-resolv.conf")
            );
            assert_eq!(read("etc/machine-id"), "");
            let uuid = run("blkid", &["-o", "value", "-s", "UUID", node.to_str().unwrap()]);
            assert!(read("etc/fstab").starts_with(&format!("UUID={} / ext4 ", uuid.trim())));
            let grub = read("boot/grub/grub.cfg");
            assert!(grub.contains(&format!("root=UUID={}", uuid.trim())) && !grub.contains("root=/dev/loop"));
            assert!(grub.contains("console=ttyS0"), "{grub}");
            assert!(
                read("etc/shadow").lines().any(|line| line.starts_with("root:*:")),
                "nobody can log in as root"
            );
            for gone in ["etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "dev/loop0"] {
                assert!(!root.join(gone).exists(), "{gone}");
            }
            let archives = fs::read_dir(root.join("var/cache/apt/archives")).unwrap();
            assert!(archives.flatten().all(|entry| entry.path().extension().is_none_or(|end| end != "deb")));
            assert!(
                root.join("etc/apt/sources.list.d/debian.sources").exists()
                    || root.join("etc/apt/sources.list").exists()
            );
        });
        device.detach().unwrap();
    });
}

#[test]
fn a_foundation_that_was_interrupted_leaves_nothing() {
    if !has(bases::NEEDED) {
        return;
    }
    let kitchen = Kitchen::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bakehouse"))
        .args(["local", "create-base", "debian-12", "--variant", "tiny"])
        .env("BAKEHOUSE_STORE", kitchen.path("store"))
        .env("BAKEHOUSE_CACHE", kitchen.path("cache"))
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let begun = lines.any(|line| line.contains("apt-get update"));
    assert!(begun, "mmdebstrap is at work");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let said: Vec<_> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{said:?}");
    assert_eq!(kitchen.disks(), 0);
    assert!(crate::support::host::loops_of(&kitchen.path("store")).is_empty());
}

/// Ubuntu's apt trusts Ubuntu's keys alone: Debian's are found all the same, of a mirror that is named too.
#[test]
fn a_host_whose_apt_does_not_know_debians_keys_makes_a_base_of_debian() {
    use std::io::{BufRead as _, BufReader};
    if !has(bases::NEEDED) {
        return;
    }
    for more in ["", "--mirror http://deb.debian.org/debian"] {
        let kitchen = Kitchen::new();
        fs::write(kitchen.path("os-release"), "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n").unwrap();
        let script = format!(
            "mount --bind os-release \"$(readlink -f /etc/os-release)\"\n\
             mount -t tmpfs tmpfs /etc/apt/trusted.gpg.d\n\
             exec {} local create-base debian-12 --variant tiny {more}",
            env!("CARGO_BIN_EXE_bakehouse")
        );
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-euc", &script])
            .current_dir(kitchen.folder.path())
            .env("BAKEHOUSE_STORE", kitchen.path("store"))
            .env("BAKEHOUSE_CACHE", kitchen.path("cache"))
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        // Then the lists are verified; the packages are those of any base.
        let mut said = Vec::new();
        let verified = lines
            .by_ref()
            .inspect(|line| said.push(line.clone()))
            .any(|line| line.contains("downloading packages"));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        // Where it has failed it is gone.
        let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        said.extend(lines);
        let status = child.wait().unwrap().code();
        assert!(verified, "{more}: {status:?} {said:#?}");
    }
}

/// Waits for what the command does, without a word to wait for.
fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !met() {
        assert!(Instant::now() < deadline, "{what}: not within two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_second_signal_waits_for_nothing() {
    if !has(&["qemu-img"]) {
        return;
    }
    let kitchen = Kitchen::new();
    kitchen.disk("disk.raw");
    done(&kitchen.local(&["import", "disk.raw", "--name", "web"]));
    // Whoever changes which images there are waits for whoever has this, and hears no signal there.
    let lock = fs::File::open(kitchen.path("store/lock")).unwrap();
    let _held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let mut command = kitchen.command(&["local", "import", "disk.raw", "--name", "second"]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let (pid, waits) = (Pid::from_raw(i32::try_from(child.id()).unwrap()), format!(" {} ", child.id()));
    until("it waits for the store", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&waits))
    });
    kill(pid, Signal::SIGTERM).unwrap();
    let mut lines = lines.skip_while(|line| !line.contains("stopping: "));
    assert!(lines.next().is_some(), "it heard the first");
    kill(pid, Signal::SIGINT).unwrap();
    let mut status = None;
    until("the command ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(143));
    assert!(lines.any(|line| line.contains("a second signal asked")));
}

/// Processes of this host that have a word among their arguments.
fn running(word: &str) -> usize {
    let lines = fs::read_dir("/proc").unwrap().flatten().map(|entry| fs::read(entry.path().join("cmdline")));
    let has = |line: &Vec<u8>| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes());
    lines.flatten().filter(has).count()
}

#[test]
fn an_export_that_is_killed_leaves_no_file_and_no_program() {
    if !has(&["qemu-img", "setpriv", "unshare"]) {
        return;
    }
    let kitchen = Kitchen::new();
    kitchen.disk("disk.raw");
    done(&kitchen.local(&["import", "disk.raw", "--name", "web"]));
    let (bin, mark) = (kitchen.path("bin"), kitchen.path("mark"));
    fs::create_dir(&bin).unwrap();
    let slow = bin.join("qemu-img");
    let mark = mark.to_str().unwrap();
    fs::write(&slow, format!("#!/bin/sh\necho > {mark}\nexec sh -c 'sleep 1000; true' {mark}\n")).unwrap();
    fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    fs::create_dir(kitchen.path("out")).unwrap();
    let mut command = kitchen.command(&["local", "export", "web", "out/web.qcow2"]);
    let mut child = command.env("PATH", path).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("qemu-img runs", || running(mark) > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    until("qemu-img ends", || running(mark) == 0);
    assert_eq!(fs::read_dir(kitchen.path("out")).unwrap().count(), 0);
}

#[test]
fn a_foundation_that_was_killed_leaves_what_gc_removes() {
    if !has(bases::NEEDED) {
        return;
    }
    let kitchen = Kitchen::new();
    let temporary = kitchen.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = kitchen.command(&["local", "create-base", "debian-12", "--variant", "tiny"]);
    command.env("TMPDIR", &temporary).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("apt-get update")), "mmdebstrap is at work");
    let own = format!("create-base-{}-", child.id());
    let places = || {
        let entries = fs::read_dir("/run/bakehouse").unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)).count()
    };
    done(&kitchen.bakehouse(&["gc", "--yes"]));
    assert_eq!(places(), 1, "a live maker's stays");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(places(), 1);
    done(&kitchen.bakehouse(&["gc", "--yes"]));
    assert_eq!((places(), fs::read_dir(&temporary).unwrap().count()), (0, 0));
    until("its disk is let go", || crate::support::host::loops_of(&kitchen.path("store")).is_empty());
}

/// Debian's own dnf, run in the root as a bake would: from the repository, with a dependency and a scriptlet.
#[test]
fn the_rpm_base_installs_packages_with_dnf() {
    if !has(&[bases::NEEDED, bases::NEEDED_FOR_RPM].concat()) {
        return;
    }
    let base = rpm_base();
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), "base", &base);
    let disk = store.disk_of(&store.image("base").unwrap());
    in_own_mounts(move || {
        let device = LoopDevice::attach(&disk).unwrap();
        let node = device.partitions().unwrap()[0].1.clone();
        let target = tempfile::tempdir().unwrap();
        mounted(&node, "ext4", "", target.path(), |root| {
            // Never the host's own /dev: what is done to this root must not reach it.
            run("mount", &["-t", "tmpfs", "none", root.join("dev").to_str().unwrap()]);
            run("mount", &["-t", "proc", "none", root.join("proc").to_str().unwrap()]);
            for (name, minor) in [("null", "3"), ("zero", "5"), ("random", "8"), ("urandom", "9")] {
                run("mknod", &["-m", "666", root.join("dev").join(name).to_str().unwrap(), "c", "1", minor]);
            }
            let inside = |arguments: &[&str]| {
                run(
                    "chroot",
                    &[&[root.to_str().unwrap(), "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin"], arguments]
                        .concat(),
                )
            };
            inside(&["dnf", "-y", "-q", "install", "bakery-bread-1.2*"]);
            assert_eq!(
                inside(&["rpm", "-q", "bakery-bread", "bakery-flour"]),
                "bakery-bread-1.2.3-4.noarch\nbakery-flour-1.0-1.noarch\n"
            );
            assert_eq!(fs::read_to_string(root.join("usr/share/bakery-bread/configured")).unwrap(), "1\n");
            inside(&["dnf", "-y", "-q", "upgrade"]);
            assert_eq!(fs::read_to_string(root.join("usr/share/bakery-bread/version")).unwrap(), "1.3.0\n");
            for name in ["proc", "dev"] {
                run("umount", &[root.join(name).to_str().unwrap()]);
            }
        });
        device.detach().unwrap();
    });
}

#[test]
fn the_tiny_base_is_small() {
    if !has(bases::NEEDED) {
        return;
    }
    let blocks = fs::metadata(tiny_base()).unwrap().blocks();
    assert!(blocks * 512 < 400 << 20, "{} MiB", (blocks * 512) >> 20);
}
