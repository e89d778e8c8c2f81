//! Package repositories that are signed, made by the real tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::bases::build_rpm;
use super::host::run;
use super::packages::Deb;

/// A key of a test's own. Its agent ends with the folder's removal.
pub struct Key {
    home: tempfile::TempDir,
    /// The public key, armored.
    pub public: PathBuf,
}

impl Key {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("gpg-").tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let key = Self { public: home.path().join("public.asc"), home };
        key.gpg(&["--quick-gen-key", "Test <test@example.org>", "rsa3072", "sign", "never"]);
        key.gpg(&["--armor", "--output", key.public.to_str().unwrap(), "--export"]);
        key
    }

    pub fn gpg(&self, arguments: &[&str]) {
        let home = self.home.path().to_str().unwrap();
        let common =
            ["--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir", home];
        run("gpg", &[&common, arguments].concat());
    }

    /// Signs what the repository of rpm packages at `folder` tells of itself.
    pub fn sign_metadata(&self, folder: &Path) {
        let file = folder.join("repodata/repomd.xml");
        self.gpg(&[
            "--armor",
            "--detach-sign",
            "--output",
            &format!("{}.asc", file.display()),
            file.to_str().unwrap(),
        ]);
    }

    /// Signs an rpm package in its place.
    pub fn sign_rpm(&self, package: &Path) {
        let home = format!("_gpg_path {}", self.home.path().display());
        run(
            "rpmsign",
            &[
                "-D",
                &home,
                "-D",
                "__gpg /usr/bin/gpg",
                "-D",
                "_gpg_name test@example.org",
                "--addsign",
                package.to_str().unwrap(),
            ],
        );
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // Its agent would go by itself when the folder is gone, but only after a while.
        let end =
            Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status();
        drop(end);
    }
}

/// A repository of rpm packages at `folder`, each with a name and a version and signed: what a `baseurl` names.
pub fn rpms(folder: &Path, key: &Key, packages: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, version) in packages {
        key.sign_rpm(&build_rpm(folder, name, version, "1", ""));
    }
    run("createrepo_c", &["--quiet", folder.to_str().unwrap()]);
}

/// Puts metadata of a kind (`updateinfo`, `modules`, `group`) to that which the repository at `folder` has.
pub fn describe(folder: &Path, kind: &str, text: &str) {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join(kind);
    std::fs::write(&file, text).unwrap();
    let repodata = folder.join("repodata");
    let kind = format!("--mdtype={kind}");
    run("modifyrepo_c", &[&kind, file.to_str().unwrap(), repodata.to_str().unwrap()]);
}

/// An advisory on one package.
pub struct Advisory<'a> {
    /// `security`, `recommended`.
    pub kind: &'a str,
    pub name: &'a str,
    pub version: &'a str,
    /// Further elements of the package: `<reboot_suggested>True</reboot_suggested>`.
    pub more: &'a str,
    /// What is to be read before it is installed.
    pub message: &'a str,
}

impl Advisory<'_> {
    /// A list of them, as repositories have it.
    pub fn list(advisories: &[Self]) -> String {
        let advisory = |Advisory { kind, name, version, more, message }: &Self| {
            format!(
                "<update from=\"test@example.org\" status=\"final\" type=\"{kind}\" version=\"1\"><id>TEST-{name}</id>\
                 <title>{name}</title><issued date=\"2026-01-01 00:00:00\"/><severity>Important</severity>\
                 <description>x</description><message>{message}</message>\
                 <pkglist><collection short=\"t\"><name>t</name>\
                 <package name=\"{name}\" version=\"{version}\" release=\"1\" epoch=\"0\" arch=\"noarch\">\
                 <filename>{name}-{version}-1.noarch.rpm</filename>{more}</package></collection></pkglist></update>"
            )
        };
        let advisories: String = advisories.iter().map(advisory).collect();
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<updates>{advisories}</updates>\n")
    }
}

/// A suite of Debian packages at `folder`, flat, signed: what `deb [signed-by=…] URI ./` takes.
pub fn debian(folder: &Path, key: &Key, suite: &str, packages: &[Deb]) {
    std::fs::create_dir_all(folder).unwrap();
    for package in packages {
        package.build(folder);
    }
    let listed =
        Command::new("dpkg-scanpackages").args(["--multiversion", "."]).current_dir(folder).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    std::fs::write(folder.join("Packages"), &listed.stdout).unwrap();
    let sum = run("sha256sum", &[folder.join("Packages").to_str().unwrap()]);
    let sum = sum.split_whitespace().next().unwrap();
    let release = format!(
        "Origin: Test\nLabel: Test\nSuite: {suite}\nCodename: {suite}\nDate: Sat, 01 Nov 2025 00:00:00 UTC\n\
         Valid-Until: Sat, 08 Nov 2025 00:00:00 UTC\nSHA256:\n {sum} {} Packages\n",
        listed.stdout.len()
    );
    // A snapshot's date has passed; another suite has none.
    let release = if suite == "snapshot" {
        release
    } else {
        release.replace("Valid-Until: Sat, 08 Nov 2025 00:00:00 UTC\n", "")
    };
    let path = folder.join("Release");
    std::fs::write(&path, release).unwrap();
    let signed = folder.join("InRelease");
    key.gpg(&["--clearsign", "--output", signed.to_str().unwrap(), path.to_str().unwrap()]);
}
