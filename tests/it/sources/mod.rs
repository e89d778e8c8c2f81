//! Sources that are `https://` URLs, from a real server by TLS: fetched by the builder before the bake begins, taken
//! by their checksum alone, never asked for from inside.

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::bake::can_bake as can_bake_packages;
use crate::bake::small::can_bake;
use crate::support::authority::{self, Authority};
use crate::support::bakery::{Bakery, changed_copy, small_disk};
use crate::support::bases::{self, build_rpm, rpm_base, tiny_base};
use crate::support::host::{has, run};
use crate::support::packages::Deb;
use crate::support::repository::{self, Key};
use crate::support::web::{SHUT, Web};

mod refusals;

/// A builder that trusts a test's authority, and a server of that authority for the files in `served/`.
struct Place {
    bakery: Bakery,
    web: Web,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        Self::with(Bakery::new())
    }

    fn with(mut bakery: Bakery) -> Self {
        let authority = Authority::new();
        fs::create_dir(bakery.path("served")).unwrap();
        let web = Web::secure(&bakery.path("served"), &authority);
        bakery.set("SSL_CERT_FILE", authority.certificate().to_str());
        Self { bakery, web, authority }
    }

    /// Puts a file on the server; its URL with its checksum.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.bakery.put(&format!("served/{name}"), content);
        self.of(name)
    }

    /// The URL, with its checksum, of a file that the server has.
    fn of(&self, name: &str) -> String {
        format!("{}#sha256={}", self.web.url(name), self.sum(name))
    }

    fn sum(&self, name: &str) -> String {
        let content = fs::read(self.bakery.path("served").join(name)).unwrap();
        format!("{:x}", Sha256::digest(content))
    }

    /// A recipe on a base of the store. Its hook shuts the server before the root is mounted: nothing that a step
    /// could ask for then is there.
    fn recipe(&self, base: &str, steps: &str) -> String {
        let shut = self.bakery.path("served").join(SHUT);
        format!(
            "[vars]\nstage = \"prod\"\n[image]\nname = \"fetched-{{time}}\"\n[base]\nimage = {base:?}\n{steps}\n\
             [[hook]]\nat = \"before-mount\"\nrun = [\"touch\", {shut:?}]\n"
        )
    }

    /// Lets the server answer again.
    fn open(&self) {
        fs::remove_file(self.bakery.path("served").join(SHUT)).unwrap();
    }

    /// What the server was asked for since the last call, in the order of the alphabet.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.web.asked();
        asked.sort();
        asked
    }
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn scripts_app_files_archives_and_templates_come_over_https_before_the_bake_begins() {
    if !can_bake() || !has(&[authority::NEEDED, "tar", "zip"]) {
        return;
    }
    let place = Place::new();
    let bakery = &place.bakery;
    bakery.base("small", small_disk().path());
    let script = place.put("setup.sh", "#!/bin/sh\necho set up > /srv/mark\n");
    let check = place.put("check.sh", "#!/bin/sh\nread -r mark < /srv/mark && [ \"$mark\" = 'set up' ]\n");
    let app = place.put("app-1.0.bin", "the app\n");
    // Where it was once, the server says where it is now.
    place.web.redirect("latest.bin", &place.web.url("app-1.0.bin"));
    let app = app.replace("app-1.0.bin", "latest.bin");
    let template = place.put("web.conf", "stage {{ stage }}\n");
    bakery.put("tree/page", "from an archive\n");
    let (tree, served) = (bakery.path("tree"), bakery.path("served"));
    let (tree, tar) = (tree.to_str().unwrap(), served.join("tree.tar.gz"));
    run("tar", &["-C", tree, "-czf", tar.to_str().unwrap(), "page"]);
    run("zip", &["-q", "-j", served.join("tree.zip").to_str().unwrap(), &format!("{tree}/page")]);
    let (tar, zip) = (place.of("tree.tar.gz"), place.of("tree.zip"));
    let (zip, sum) = zip.split_once("#sha256=").unwrap();
    let recipe = place.recipe(
        "small",
        &format!(
            r#"
[[step]]
use = "script"
script = "{script}"
network = "none"
[[step]]
use = "files"
copy = [
    {{ from = "{app}", to = "/srv/app", mode = "0755" }},
    {{ from = "{tar}", to = "/srv/tar/", unpack = true }},
    {{ from = {{ url = "{zip}", sha256 = "{sum}" }}, to = "/srv/zip/", unpack = true }},
    {{ from = "{template}", to = "/etc/web.conf", template = true }},
]
[[check]]
script = "{check}"
"#
        ),
    );

    let dry = bakery.bake(&recipe, &["--dry-run"]).good();
    for name in ["setup.sh", "latest.bin", "tree.tar.gz", "tree.zip", "web.conf", "check.sh"] {
        let told = format!("brings {}", place.web.url(name));
        assert!(dry.out.contains(&told), "{told}: {}", dry.told());
    }
    assert_eq!(place.asked(), [""; 0], "a dry run fetches nothing");

    let image = bakery.bake(&recipe, &[]).id();
    bakery.look(&image, 1, "ext4", |root| {
        assert_eq!(read(root, "srv/mark"), "set up\n");
        assert_eq!(read(root, "srv/app"), "the app\n");
        assert_eq!(read(root, "srv/tar/page"), "from an archive\n");
        assert_eq!(read(root, "srv/zip/page"), "from an archive\n");
        assert_eq!(read(root, "etc/web.conf"), "stage prod\n");
    });
    let all = ["app-1.0.bin", "check.sh", "latest.bin", "setup.sh", "tree.tar.gz", "tree.zip", "web.conf"];
    assert_eq!(place.asked(), all, "each once, and before the hook shut the server");

    // What is there is not fetched again: the server is still shut.
    let again = bakery.bake(&recipe, &["--name", "again"]).id();
    bakery.look(&again, 1, "ext4", |root| assert_eq!(read(root, "srv/app"), "the app\n"));
    assert_eq!(place.asked(), [""; 0]);
    bakery.assert_nothing_left();
}

#[test]
fn packages_keys_and_preferences_come_over_https_for_apt() {
    if !can_bake_packages(&[authority::NEEDED, "gpg", "dpkg-scanpackages"]) {
        return;
    }
    let place = Place::new();
    let bakery = &place.bakery;
    let key = Key::new();
    let base = changed_copy(&tiny_base(), &bakery.path(""), "debian.raw", |root| {
        fs::remove_dir_all(root.join("etc/apt/sources.list.d")).ok();
        fs::write(root.join("etc/apt/sources.list"), "").unwrap();
        let packages = ["1.0", "2.0"].map(|version| Deb { name: "tool", version, ..Deb::default() });
        repository::debian(&root.join("srv/repo"), &key, "stable", &packages);
    });
    bakery.base("debian", &base);
    Deb { name: "web", version: "1.4.2-3", control: "Depends: tool\n", ..Deb::default() }
        .build(&bakery.path("served"));
    let package = place.of("web_1.4.2-3_all.deb");
    let public = fs::read_to_string(&key.public).unwrap();
    let (public_url, pin) =
        (place.put("test.asc", &public), "Package: tool\nPin: version 1.*\nPin-Priority: 990\n");
    let preferences = place.put("tool.pref", pin);
    let recipe = place.recipe(
        "debian",
        &format!(
            r#"
[[step]]
use = "apt"
install = ["tool", "{package}"]
preferences = "{preferences}"
repositories = [{{ name = "own", uris = ["file:/srv/repo"], suites = ["./"], key = "{public_url}" }}]
network = "none"
"#
        ),
    );
    let image = bakery.bake(&recipe, &[]).id();
    assert_eq!(place.asked(), ["test.asc", "tool.pref", "web_1.4.2-3_all.deb"]);
    bakery.look(&image, 1, "ext4", |root| {
        let status = read(root, "var/lib/dpkg/status");
        for (name, version) in [("web", "1.4.2-3"), ("tool", "1.0")] {
            let stanza = format!(
                "Package: {name}\nStatus: install ok installed\nMaintainer: Test <test@example.org>\n"
            );
            let found = status.split("\n\n").map(|stanza| format!("{stanza}\n"));
            let found: Vec<_> = found.filter(|found| found.starts_with(&stanza)).collect();
            assert!(
                matches!(&found[..], [one] if one.contains(&format!("Version: {version}\n"))),
                "{found:?}"
            );
        }
        assert_eq!(read(root, "etc/apt/keyrings/own.asc"), public);
        let folder = fs::read_dir(root.join("etc/apt/preferences.d")).unwrap();
        let kept: Vec<_> = folder.flatten().map(|file| fs::read_to_string(file.path()).unwrap()).collect();
        assert_eq!(kept, [pin]);
    });
    bakery.assert_nothing_left();
}

#[test]
fn packages_and_keys_for_dnf_and_playbooks_come_over_https() {
    let programs =
        [bases::NEEDED_FOR_RPM, &[authority::NEEDED, "gpg", "rpmsign", "ansible-playbook"]].concat();
    if !can_bake_packages(&programs) {
        return;
    }
    let place = Place::new();
    let bakery = &place.bakery;
    let key = Key::new();
    let base = changed_copy(&rpm_base(), &bakery.path(""), "rpm.raw", |root| {
        let signed = root.join("srv/signed");
        fs::create_dir(&signed).unwrap();
        key.sign_rpm(&build_rpm(&signed, "bakery-signed", "1.0", "1", ""));
        run("createrepo_c", &["--quiet", signed.to_str().unwrap()]);
    });
    bakery.base("rpm", &base);
    build_rpm(&bakery.path("served"), "bakery-web", "2.5", "7", "Requires: bakery-signed\n");
    let package = place.of("bakery-web-2.5-7.noarch.rpm");
    let public = place.put("test.asc", fs::read(&key.public).unwrap());
    let playbook = place.put(
        "site.yml",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy: {content: '{{ greeting }}', dest: /srv/greeting}\n",
    );
    let vars = place.put("vars.yml", "greeting: good day\n");
    let recipe = place.recipe(
        "rpm",
        &format!(
            r#"
[[step]]
use = "dnf"
install = ["{package}"]
repositories = [{{ name = "signed", baseurl = ["file:///srv/signed"], key = "{public}" }}]
network = "none"
[[step]]
use = "ansible"
playbook = "{playbook}"
vars_file = "{vars}"
network = "none"
"#
        ),
    );
    let image = bakery.bake(&recipe, &[]).id();
    assert_eq!(place.asked(), ["bakery-web-2.5-7.noarch.rpm", "site.yml", "test.asc", "vars.yml"]);
    bakery.look(&image, 1, "ext4", |root| {
        assert_eq!(read(root, "usr/share/bakery-web/version"), "2.5\n");
        assert_eq!(read(root, "usr/share/bakery-signed/version"), "1.0\n");
        assert_eq!(
            read(root, "etc/pki/rpm-gpg/RPM-GPG-KEY-signed"),
            fs::read_to_string(&key.public).unwrap()
        );
        assert_eq!(read(root, "srv/greeting"), "good day");
    });
    bakery.assert_nothing_left();
}
