//! What hygiene takes out of a root and what it leaves, on real roots.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bakehouse::contents::hygiene::{Found, Report, clean, record};
use bakehouse::error::{Kind, kind_of};
use bakehouse::recipe::{Audit, HygieneSpec, Part};
use bakehouse::report::{Reporter, Volume};
use bakehouse::stop::Stop;

use crate::support::roots::{Root, can_make};

mod asked;
mod bake;
mod labels;

/// A base with something of everything in it.
fn base() -> Root {
    let root = Root::new();
    for (path, content) in [
        ("etc/machine-id", ""),
        ("etc/ssh/ssh_host_rsa_key", "the base's\n"),
        ("etc/shadow", "root:*:1::::::\n"),
        ("var/log/dpkg.log", "of the base\n"),
        ("var/log/apt/history.log", ""),
        ("var/lib/apt/lists/base_InRelease", "of the base\n"),
        ("var/cache/apt/archives/lock", ""),
        ("root/.bash_history", "ls\n"),
        ("var/tmp/base/file", "of the base\n"),
        ("usr/bin/su", "program"),
        ("usr/bin/sl", "program"),
        ("var/lib/cloud/seed/nocloud/user-data", "#cloud-config\n"),
    ] {
        put(root.path(), path, content);
    }
    mode(root.path(), "usr/bin/su", 0o4755);
    root
}

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn add(root: &Path, path: &str, content: &str) {
    let old = fs::read_to_string(root.join(path)).unwrap();
    put(root, path, &format!("{old}{content}"));
}

fn mode(root: &Path, path: &str, mode: u32) {
    fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

/// Gives a file the age of one that was packed long ago.
fn past(root: &Path, path: &str) {
    let file = fs::File::options().write(true).open(root.join(path)).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000)).unwrap();
}

/// Waits until what is made now is younger than what was `made`, for the audit too: it allows for 20 ms, since the clock
/// of files ticks.
fn tick(root: &Path, made: &fs::Metadata) {
    let at = |meta: &fs::Metadata| meta.ctime() * 1000 + meta.ctime_nsec() / 1_000_000;
    while {
        put(root, "tmp/clock", "");
        at(&fs::metadata(root.join("tmp/clock")).unwrap()) < at(made) + 40
    } {}
}

/// What steps leave behind: of each part one file, by which it is told whether the part was done.
const LEFT: [(Part, &str); 9] = [
    (Part::SshHostKeys, "etc/ssh/ssh_host_ed25519_key"),
    (Part::MachineId, "var/lib/dbus/machine-id"),
    (Part::RandomSeeds, "var/lib/systemd/random-seed"),
    (Part::CloudInit, "var/lib/cloud/instances/i-1/obj.pkl"),
    (Part::PackageCaches, "var/lib/apt/lists/new_InRelease"),
    (Part::Logs, "var/log/new.log"),
    (Part::Histories, "root/.python_history"),
    (Part::TemporaryFiles, "var/tmp/new/file"),
    (Part::PolicyRcD, "usr/sbin/policy-rc.d"),
];

fn leave(root: &Path) {
    for (_, path) in LEFT {
        put(root, path, "new\n");
    }
}

/// Owner, mode, times and content of everything.
fn picture(root: &Path) -> BTreeMap<PathBuf, (u32, u32, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let time = if meta.is_dir() { 0 } else { meta.mtime() };
            let inner = path.strip_prefix(root).unwrap().to_owned();
            all.insert(inner, (meta.mode(), meta.uid(), time, content));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    all
}

fn work<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Has `steps` change the root between the record and the cleaning.
fn bake(root: &Root, spec: &HygieneSpec, steps: impl FnOnce(&Path)) -> anyhow::Result<Report> {
    work(async {
        let (stop, reporter) = (Stop::default(), Reporter::new(Volume::Quiet));
        let before = record(&root.sandbox(), spec, &stop).await?;
        steps(root.path());
        clean(&root.sandbox(), spec, before, &stop, &reporter).await
    })
}

fn quiet() -> HygieneSpec {
    HygieneSpec { audit: Audit::Off, ..HygieneSpec::default() }
}

fn exists(root: &Root, path: &str) -> bool {
    root.path().join(path).symlink_metadata().is_ok()
}

#[test]
fn what_the_bake_made_goes_and_what_came_with_the_base_stays() {
    if !can_make() {
        return;
    }
    let root = base();
    let before = picture(root.path());
    let report = bake(&root, &quiet(), |root| {
        leave(root);
        put(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        add(root, "var/log/dpkg.log", "of the bake\n");
        add(root, "root/.bash_history", "rm -rf\n");
        put(root, "var/log/journal/0123456789abcdef0123456789abcdef/system.journal", "x");
        put(root, "etc/ssh/ssh_host_ed25519_key.pub", "x");
        put(root, "var/cache/dnf/repo-1/packages/x.rpm", "x");
        put(root, "home/ada/.bash_history", "x");
        symlink("instances/i-1", root.join("var/lib/cloud/instance")).unwrap();
        symlink("/etc/passwd", root.join("var/tmp/link")).unwrap();
    })
    .unwrap();
    let after = picture(root.path());
    for (path, was) in &before {
        assert_eq!(after.get(path), Some(was), "{}", path.display());
    }
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    for path in &new {
        assert!(after[*path].0 & 0o170_000 == 0o040_000, "{} is left: {new:?}", path.display());
    }
    assert!(!exists(&root, "var/log/journal/0123456789abcdef0123456789abcdef"));
    assert!(!exists(&root, "var/cache/dnf/repo-1"));
    let of = |part| report.parts.iter().find(|done| done.part == part).unwrap();
    assert_eq!(of(Part::MachineId).restored, ["/etc/machine-id"]);
    assert_eq!(of(Part::MachineId).removed, ["/var/lib/dbus/machine-id"]);
    assert_eq!(of(Part::Logs).restored, ["/var/log/dpkg.log"]);
    assert_eq!(of(Part::TemporaryFiles).removed, ["/var/tmp/link", "/var/tmp/new"]);
    assert!(of(Part::SshHostKeys).notes[0].contains("ssh-keygen -A"), "{report:?}");
}

/// What was noted and what was found pass through a pipe of lines, of which none is longer than 64 KiB.
#[test]
fn bases_and_bakes_with_thousands_of_files_are_noted_whole() {
    if !can_make() {
        return;
    }
    let root = base();
    let many =
        |of: &'static str| (0..3000).map(move |number| format!("{of}/a-rather-long-name-of-a-file-{number}"));
    many("var/tmp/base").for_each(|path| put(root.path(), &path, ""));
    let report = bake(&root, &quiet(), |root| many("var/tmp").for_each(|path| put(root, &path, ""))).unwrap();
    let of = |part| report.parts.iter().find(|done| done.part == part).unwrap();
    assert_eq!(of(Part::TemporaryFiles).removed.len(), 3000);
    assert!(many("var/tmp/base").all(|path| exists(&root, &path)));
}

#[test]
fn a_part_that_is_off_leaves_what_it_would_take() {
    if !can_make() {
        return;
    }
    for (off, kept) in LEFT {
        let root = base();
        let mut spec = quiet();
        spec.parts.remove(&off);
        bake(&root, &spec, leave).unwrap();
        for (_, path) in LEFT {
            assert_eq!(exists(&root, path), path == kept, "{path} without {}", off.key());
        }
    }
    let root = base();
    let spec = HygieneSpec { parts: [].into(), audit: Audit::Off, ..HygieneSpec::default() };
    assert_eq!(bake(&root, &spec, leave).unwrap(), Report::default());
    assert!(LEFT.iter().all(|(_, path)| exists(&root, path)));
}

#[test]
fn logs_that_are_not_roots_stay_empty_and_empty_ones_stay() {
    if !can_make() {
        return;
    }
    let root = base();
    bake(&root, &quiet(), |root| {
        put(root, "var/log/web/access.log", "x");
        std::os::unix::fs::chown(root.join("var/log/web/access.log"), Some(33), Some(4)).unwrap();
        put(root, "var/log/web/error.log", "");
        put(root, "var/log/web/twice.log", "x");
        fs::hard_link(root.join("var/log/web/twice.log"), root.join("etc/twice")).unwrap();
        // Not grown but written anew: whose content it is cannot be told.
        put(root, "var/log/dpkg.log", "something else that is longer\n");
    })
    .unwrap();
    let length = |path: &str| fs::metadata(root.path().join(path)).ok().map(|meta| meta.len());
    assert_eq!(length("var/log/web/access.log"), Some(0));
    assert_eq!(length("var/log/web/error.log"), Some(0));
    assert_eq!(length("var/log/web/twice.log"), None);
    assert_eq!(length("etc/twice"), Some(1));
    assert_eq!(length("var/log/dpkg.log"), Some(30));
}

#[test]
fn a_policy_that_a_package_brought_stays() {
    if !can_make() {
        return;
    }
    let root = base();
    bake(&root, &quiet(), |root| {
        put(root, "usr/sbin/policy-rc.d", "#!/bin/sh\n");
        put(root, "var/lib/dpkg/info/policy.list", "/.\n/usr/sbin/policy-rc.d\n");
    })
    .unwrap();
    assert!(exists(&root, "usr/sbin/policy-rc.d"));
}

#[test]
fn links_of_the_image_lead_nowhere_else() {
    if !can_make() {
        return;
    }
    // Each place in turn is a link to a folder of the host, and to one of the image's own.
    let outside = tempfile::tempdir().unwrap();
    for name in ["ssh_host_rsa_key", ".bash_history", "random-seed", "machine-id", "file", "instance"] {
        put(outside.path(), name, "the host's\n");
    }
    let before = picture(outside.path());
    for target in [outside.path().to_str().unwrap(), "/etc/kept"] {
        for place in [
            "var",
            "var/log",
            "var/tmp",
            "var/lib/apt",
            "var/lib/apt/lists",
            "var/cache/dnf",
            "etc/ssh",
            "root",
            "home",
            "home/ada",
            "var/lib/systemd",
            "var/lib/dbus",
            "var/lib/cloud",
            "var/lib/cloud/instances",
            "usr/sbin",
        ] {
            let root = base();
            put(root.path(), "etc/kept/file", "kept");
            let path = root.path().join(place);
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap();
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, &path).unwrap();
            bake(&root, &HygieneSpec::default(), |root| {
                put(root, "etc/kept/new", "kept too");
                fs::write(outside.path().join("new"), "the host's new one").unwrap();
            })
            .unwrap_or_else(|error| panic!("{place}: {error:#}"));
            assert!(exists(&root, "etc/kept/file") && exists(&root, "etc/kept/new"), "{place}");
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
            fs::remove_file(outside.path().join("new")).unwrap();
            assert!(picture(outside.path()) == before, "{place}");
        }
    }
    // A step replaces a folder of the base by a link; and files by links.
    let root = base();
    bake(&root, &HygieneSpec::default(), |root| {
        fs::remove_dir_all(root.join("var/log")).unwrap();
        symlink(outside.path(), root.join("var/log")).unwrap();
        fs::remove_file(root.join("etc/machine-id")).unwrap();
        symlink(outside.path().join("machine-id"), root.join("etc/machine-id")).unwrap();
        symlink(outside.path().join("file"), root.join("root/.lesshst")).unwrap();
    })
    .unwrap();
    assert!(picture(outside.path()) == before);
    assert_eq!(fs::read(root.path().join("etc/machine-id")).unwrap(), b"");
    assert!(!root.path().join("etc/machine-id").is_symlink());
}

#[test]
fn what_holds_others_up_does_not_hold_the_bake_up() {
    if !can_make() {
        return;
    }
    let root = base();
    for path in ["etc/passwd", "etc/machine-id", "var/log/dpkg.log", "root/.bash_history"] {
        fs::remove_file(root.path().join(path)).unwrap();
        nix::unistd::mkfifo(&root.path().join(path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    bake(&root, &HygieneSpec::default(), |root| {
        nix::unistd::mkfifo(&root.join("etc/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        leave(root);
    })
    .unwrap();
    assert!(exists(&root, "etc/pipe") && !exists(&root, "var/log/new.log"));
}

/// Put together here, so that no scanner takes this file for a leak.
fn pem() -> String {
    format!("-----{} PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END PRIVATE KEY-----\n", "BEGIN")
}

fn misdeeds(root: &Path) {
    put(root, "etc/ssl/private/web.key", &pem());
    put(root, "usr/share/doc/example.key", &pem());
    past(root, "usr/share/doc/example.key");
    put(root, "var/lib/dpkg/info/example.list", "/.\n/usr/share/doc/example.key\n");
    put(root, "srv/app/.aws/credentials", "aws_secret_access_key = x\n");
    put(root, "root/.ssh/authorized_keys", "ssh-ed25519 AAAA ada\n");
    put(root, "etc/shadow", "root::1::::::\n");
    put(root, "usr/bin/new", "program");
    mode(root, "usr/bin/new", 0o4755);
    mode(root, "usr/bin/sl", 0o2755);
    mode(root, "usr/bin/su", 0o755);
    put(root, "usr/bin/cap", "program");
    mode(root, "usr/bin/cap", 0o755);
    // CAP_NET_RAW, effective; vfs_cap_data, revision 2.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set(root.join("usr/bin/cap"), "security.capability", &capability).unwrap();
    put(root, "etc/open", "x");
    mode(root, "etc/open", 0o666);
    fs::create_dir(root.join("srv/drop")).unwrap();
    mode(root, "srv/drop", 0o777);
    fs::create_dir(root.join("srv/sticky")).unwrap();
    mode(root, "srv/sticky", 0o1777);
}

#[test]
fn the_audit_tells_what_the_base_has_not() {
    if !can_make() {
        return;
    }
    let root = base();
    // The base's own are not told.
    put(root.path(), "srv/base.key", &pem());
    mode(root.path(), "usr/bin/sl", 0o755);
    tick(root.path(), &fs::metadata(root.path().join("srv/base.key")).unwrap());
    let report = bake(&root, &HygieneSpec::default(), misdeeds).unwrap();
    let found: Vec<_> =
        report.findings.iter().map(|finding| (finding.found, finding.path.as_str())).collect();
    assert_eq!(
        found,
        [
            (Found::PrivateKey, "/etc/ssl/private/web.key"),
            (Found::Credentials, "/srv/app/.aws/credentials"),
            (Found::AuthorizedKeys, "/root/.ssh/authorized_keys"),
            (Found::Account, "/etc/shadow"),
            (Found::SetId, "/usr/bin/new"),
            (Found::SetId, "/usr/bin/sl"),
            (Found::SetId, "/usr/bin/su"),
            (Found::Capabilities, "/usr/bin/cap"),
            (Found::WorldWritable, "/etc/open"),
            (Found::WorldWritable, "/srv/drop"),
        ]
    );
}

/// By dpkg's lists, and by rpm's where it tells them.
#[test]
fn an_app_below_usr_is_audited_and_what_packages_bring_is_not() {
    if !can_make() {
        return;
    }
    let token = format!("KEY=AKIA{}\n", "ABCDEFGHIJKLMN23");
    let app = |root: &Path| {
        put(root, "usr/share/nginx/html/.env", &token);
        put(root, "usr/src/app/.npmrc", "//registry/:_authToken=x\n");
        // As cp -p and tar leave it.
        past(root, "usr/src/app/.npmrc");
        put(root, "usr/lib/app/.ssh/authorized_keys", "ssh-ed25519 AAAA ada\n");
        put(root, "boot/loader.key", &pem());
        for path in ["usr/lib/pkg/test.pem", "usr/lib/pkg/changed.pem", "usr/lib/pkg/other.pem"] {
            put(root, path, &pem());
            past(root, path);
        }
        put(root, "usr/lib/pkg/changed.pem", &pem());
        put(root, "usr/lib/pkg/__pycache__/keys.cpython-311.pyc", &pem());
        put(root, "var/cache/app/key", &pem());
    };
    let brought = "/usr/lib/pkg/test.pem\n/usr/lib/pkg/changed.pem\n/usr/lib/pkg/keys.py\n";
    let told = |root: &Root, steps: &dyn Fn(&Path)| -> Vec<String> {
        let report = bake(root, &HygieneSpec::default(), steps).unwrap();
        report.findings.into_iter().map(|finding| finding.path).collect()
    };
    let wanted = [
        "/boot/loader.key",
        "/usr/lib/pkg/changed.pem",
        "/usr/lib/pkg/other.pem",
        "/usr/share/nginx/html/.env",
        "/usr/src/app/.npmrc",
        "/usr/lib/app/.ssh/authorized_keys",
    ];
    let dpkg = told(&base(), &|root| {
        app(root);
        put(root, "var/lib/dpkg/info/pkg:amd64.list", &format!("/.\n{brought}"));
    });
    assert_eq!(dpkg, wanted);
    // The list of a package that was there before says nothing of what steps do to its files.
    let root = base();
    put(root.path(), "var/lib/dpkg/info/pkg:amd64.list", brought);
    put(root.path(), "usr/lib/pkg/test.pem", "");
    let before = fs::metadata(root.path().join("var/lib/dpkg/info/pkg:amd64.list")).unwrap();
    tick(root.path(), &before);
    assert!(told(&root, &app).contains(&"/usr/lib/pkg/test.pem".to_owned()));
    let root = asked::root("usr/bin/rpm", &format!("printf '{}'\n", brought.replace('\n', "\\n")));
    let rpm = told(&root, &|root| {
        app(root);
        put(root, "var/lib/rpm/rpmdb.sqlite", "");
    });
    assert_eq!(rpm, wanted);
}

#[test]
fn a_denying_audit_fails_with_all_that_it_found_but_for_what_is_accepted() {
    if !can_make() {
        return;
    }
    let mut spec = HygieneSpec { audit: Audit::Deny, ..HygieneSpec::default() };
    let error = bake(&base(), &spec, misdeeds).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Check);
    let text = format!("{error:#}");
    assert!(text.contains("10 things") && text.contains("private key: /etc/ssl/private/web.key"), "{text}");
    assert!(text.contains("set-id program: /usr/bin/su (no more: in the base set-uid root)"), "{text}");
    spec.accept = ["/etc/**", "/usr/bin/*", "/srv/drop", "**/.ssh/*"].map(str::to_owned).to_vec();
    let text = format!("{:#}", bake(&base(), &spec, misdeeds).unwrap_err());
    assert!(text.contains("one thing") && text.contains("/srv/app/.aws/credentials"), "{text}");
    spec.accept.push("/srv/app/.aws/credentials".to_owned());
    bake(&base(), &spec, misdeeds).unwrap();
    bake(&base(), &HygieneSpec { audit: Audit::Deny, ..HygieneSpec::default() }, leave).unwrap();
}
