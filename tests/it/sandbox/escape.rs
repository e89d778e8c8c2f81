//! Attempts to escape (`tests/probes/escape.c`), each made from a plain chroot with the host's /dev, /proc and
//! /sys bound, as bakers have always done it, and on the host itself (the controls: it must work in one of them),
//! as a script inside the sandbox, and as a package's postinst inside the sandbox (there it must be blocked).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bakehouse::sandbox::Network;

use crate::support::host::{has, own_mounts, run};
use crate::support::metadata::{ABSTRACT, Place};
use crate::support::roots::{Root, argv, can_make, sh};

const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probes/escape.c");

/// At least so many attempts must work outside and be blocked inside, or the test shows too little.
const ENOUGH: usize = 45;

/// Things of the host that attempts reach for; gone when dropped.
struct Outside {
    marker: tempfile::NamedTempFile,
    process: std::process::Child,
    shm: std::path::PathBuf,
    segment: String,
}

impl Outside {
    fn new() -> Self {
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let shm = Path::new("/dev/shm").join(format!("bakehouse-probe-{}", process.id()));
        std::fs::write(&shm, "x").unwrap();
        // "Shared memory id: 7"
        let made = run("ipcmk", &["-M", "4096"]);
        let segment = made.rsplit(' ').next().unwrap().trim().to_owned();
        Self { marker: tempfile::Builder::new().tempfile_in("/var/tmp").unwrap(), process, shm, segment }
    }

    /// The probe's arguments; `first` is the process that it looks into.
    fn arguments(&self, first: u32) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let key = table
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(&self.segment))
            .and_then(|line| line.split_whitespace().next())
            .unwrap();
        let marker = self.marker.path().to_str().unwrap().to_owned();
        vec![marker, self.process.id().to_string(), ABSTRACT.to_owned(), key.to_owned(), first.to_string()]
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _gone_already = (self.process.kill(), self.process.wait());
        let _removed =
            (std::fs::remove_file(&self.shm), Command::new("ipcrm").args(["-m", &self.segment]).status());
    }
}

/// The root with the probe, and with a package whose postinst runs it.
fn prepare(root: &Root, arguments: &[String]) {
    let path = root.path();
    std::fs::create_dir(path.join("probes")).unwrap();
    let probe = path.join("probes/escape");
    run("cc", &["-static", "-O1", "-o", probe.to_str().unwrap(), PROBE]);
    // As if the base had brought it along.
    let mode = nix::sys::stat::Mode::S_IRUSR;
    let null = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::mknod(&path.join("var/planted-null"), nix::sys::stat::SFlag::S_IFCHR, mode, null)
        .unwrap();

    let package = tempfile::tempdir().unwrap();
    let control = package.path().join("DEBIAN");
    std::fs::create_dir(&control).unwrap();
    std::fs::write(
        control.join("control"),
        "Package: escape\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: escapes\n",
    )
    .unwrap();
    let words: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
    let postinst = control.join("postinst");
    std::fs::write(&postinst, format!("#!/bin/sh\n/probes/escape {}\n", words.join(" "))).unwrap();
    run("chmod", &["755", postinst.to_str().unwrap()]);
    for folder in ["var/lib", "var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"] {
        std::fs::create_dir(path.join(folder)).unwrap();
    }
    std::fs::write(path.join("var/lib/dpkg/status"), "").unwrap();
    let deb = path.join("probes/escape.deb");
    let built = package.path().to_str().unwrap();
    run("dpkg-deb", &["--root-owner-group", "--build", built, deb.to_str().unwrap()]);
}

/// Runs the probe as bakers without a sandbox run things, or on the host as it is; its mounts are its own.
fn control(root: &Path, arguments: &[String], chroot: bool) -> Verdicts {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            own_mounts();
            let path = root.to_str().unwrap();
            let probe = format!("{path}/probes/escape");
            let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            if !chroot {
                return run(&probe, &words);
            }
            for folder in ["dev", "proc", "sys", "usr"] {
                run("mount", &["--rbind", &format!("/{folder}"), &format!("{path}/{folder}")]);
            }
            words.splice(0..0, [path, "/probes/escape"]);
            run("chroot", &words)
        });
        by_name(&thread.join().unwrap())
    })
}

/// A root on a disk of its own, as a bake's is: an ext4 filesystem on a loop device.
struct OnDisk {
    root: Root,
    image: tempfile::NamedTempFile,
}

impl OnDisk {
    /// Made in the mount namespace of this thread: gone with it, if not before.
    fn new() -> Self {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(256 << 20).unwrap();
        let (path, folder) = (image.path().to_str().unwrap(), tempfile::tempdir().unwrap());
        run("mkfs.ext4", &["-q", "-F", path]);
        run("mount", &["-o", "loop", path, folder.path().to_str().unwrap()]);
        Self { root: Root::at(folder), image }
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        run("umount", &[self.root.path().to_str().unwrap()]);
        assert!(self.image.path().exists());
    }
}

#[test]
fn no_attempt_to_escape_works() {
    let programs =
        ["cc", "dpkg", "dpkg-deb", "chroot", "ip", "ipcmk", "ipcrm", "mkfs.ext4", "mount", "umount"];
    if !can_make() || !has(&programs) {
        return;
    }
    Place::enter(|_place| {
        let (disk, outside) = (OnDisk::new(), Outside::new());
        let root = &disk.root;
        let (looking_in, looking_out) = (outside.arguments(1), outside.arguments(outside.process.id()));
        prepare(root, &looking_in);

        let order = std::fs::read_to_string(PROBE).unwrap();
        let chroot = control(root.path(), &looking_out, true);
        let host = control(root.path(), &looking_out, false);
        let mut words = vec!["/probes/escape"];
        words.extend(looking_in.iter().map(String::as_str));
        let mut as_script = argv(&words);
        as_script.network = Network::Host;
        let script = by_name(&root.go(&as_script).good());
        let mut as_package = sh("dpkg --install /probes/escape.deb");
        as_package.network = Network::Host;
        let package = by_name(&root.go(&as_package).good());
        report(&order, [&chroot, &host, &script, &package]);
    });
}

/// What a kernel before 6.12 cannot keep from those inside, as `doctor` and docs/security.md say.
fn beyond_this_kernel(name: &str) -> bool {
    let lacking =
        || bakehouse::sandbox::walls().into_iter().find(|wall| wall.what.starts_with("abstract unix"));
    name == "abstract unix socket of the host" && lacking().is_some_and(|wall| wall.lacking.is_some())
}

/// Verdict and detail of each attempt by its name.
type Verdicts = BTreeMap<String, (String, String)>;

fn by_name(out: &str) -> Verdicts {
    let parts = |line: &str| {
        let mut parts = line.splitn(3, '\t').map(str::to_owned);
        Some((parts.next()?, (parts.next()?, parts.next()?)))
    };
    out.lines().filter_map(parts).collect()
}

/// Prints the table, in the order of the probe's own, and judges it.
fn report(order: &str, [chroot, host, script, package]: [&Verdicts; 4]) {
    println!("| attempt | in a chroot | on the host | as a script | as a postinst | what happened inside |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let names = order.lines().filter_map(|line| line.strip_prefix("    {\"")?.split_once("\", "));
    let (mut all, mut shown, mut failed) = (0, 0, Vec::new());
    for (name, _) in names {
        let verdict = |verdicts: &Verdicts| {
            verdicts.get(name).map_or("missing", |(verdict, _)| verdict.as_str()).to_owned()
        };
        let [in_chroot, on_host, as_script, as_package] = [chroot, host, script, package].map(verdict);
        let detail = script.get(name).map_or("", |(_, detail)| detail);
        println!("| {name} | {in_chroot} | {on_host} | {as_script} | {as_package} | {detail} |");
        let works = in_chroot == "worked" || on_host == "worked";
        // What this host does not have at all shows nothing, but must not be there inside either.
        let held = |verdict: &str| verdict == "blocked" || (!works && verdict == "n/a");
        let beyond = beyond_this_kernel(name);
        if (!held(&as_script) || !held(&as_package)) && !beyond {
            failed.push(name);
        }
        all += 1;
        shown += usize::from(works && as_script == "blocked" && as_package == "blocked");
    }
    println!("{all} attempts; {shown} work outside and are blocked inside");
    assert!(failed.is_empty(), "not blocked: {failed:?}");
    assert!(shown >= ENOUGH, "only {shown} attempts show anything");
}
