//! Repositories that a step brings along, with their keys: apt's and dnf's.

use super::{Kitchen, runs_here};
use crate::support::debian_roots::{debian, rpm};
use crate::support::host::has;
use crate::support::packages::Deb;
use crate::support::repository::{self, Advisory, Key};
use crate::support::web::Web;

fn deb(name: &'static str, version: &'static str) -> Deb<'static> {
    Deb { name, version, ..Deb::default() }
}

/// The version of a package in the root; empty where it is not there.
pub fn version(kitchen: &Kitchen, name: &str) -> String {
    let status = kitchen.read("var/lib/dpkg/status");
    let stanza = status.split("\n\n").find(|stanza| stanza.starts_with(&format!("Package: {name}\n")));
    let stanza = stanza.filter(|stanza| {
        stanza.contains("Status: install ok installed") || stanza.contains("Status: hold ok installed")
    });
    let line = stanza.and_then(|stanza| stanza.lines().find_map(|line| line.strip_prefix("Version: ")));
    line.unwrap_or_default().to_owned()
}

fn lists(kitchen: &Kitchen, address: &str) -> usize {
    let folder = std::fs::read_dir(kitchen.root().join("var/lib/apt/lists")).unwrap();
    folder.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(address)).count()
}

#[test]
fn apt_takes_signed_repositories_pins_answers_and_holds() {
    if !runs_here() || !has(&["gpg", "dpkg-scanpackages"]) {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let (key, other) = (Key::new(), Key::new());
    let served = kitchen.around.path().join("served");
    repository::debian(
        &served.join("main"),
        &key,
        "stable",
        &[deb("tool", "1.0"), deb("tool", "2.0"), deb("extra", "1")],
    );
    let asks = Deb {
        name: "asks",
        version: "1",
        control: "Depends: debconf\n",
        scripts: &[
            ("templates", "Template: asks/colour\nType: string\nDefault: red\nDescription: Colour?\n"),
            (
                "postinst",
                "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\ndb_get asks/colour\nmkdir -p /srv\necho \"$RET\" > /srv/colour\n",
            ),
        ],
        ..Deb::default()
    };
    repository::debian(&served.join("passing"), &key, "stable", &[deb("build-only", "1"), asks]);
    let web = Web::of(&served);
    let address = web.address.to_string();
    std::fs::copy(&key.public, kitchen.recipe().join("test.asc")).unwrap();
    std::fs::copy(&other.public, kitchen.recipe().join("other.asc")).unwrap();
    let source = |name: &str, path: &str, key: &str, more: &str| {
        format!(
            "{{ name = \"{name}\", uris = [\"http://{address}/{path}\"], suites = [\"./\"], key = \"{key}\"{more} }}"
        )
    };

    // The wrong key: nothing is installed, and the bake says what is missing.
    let wrong = format!(
        "[[step]]\nuse = \"apt\"\ninstall = [\"extra\"]\nrepositories = [{}]\n",
        source("wrong", "main", "other.asc", ", keep = false")
    );
    let error = kitchen.bake(&wrong).unwrap_err();
    assert!(super::hint_of(&error).contains("does not have"), "{error:#}: {}", super::hint_of(&error));
    assert!(
        !kitchen.exists("etc/apt/sources.list.d/wrong.sources")
            && !kitchen.exists("etc/apt/keyrings/wrong.asc")
    );

    let text = std::fs::read_to_string(&key.public).unwrap();
    let inline = source("passing", "passing", "", ", keep = false")
        .replace("key = \"\"", &format!("key_text = '''{text}'''"));
    kitchen
        .bake(&format!(
            "[[step]]\nuse = \"apt\"\ninstall = [\"tool\", \"build-only\", \"asks\"]\nhold = [\"tool\"]\nrecommends = false\n\
             debconf = [\"asks asks/colour string blue\"]\n\
             pins = [{{ package = \"tool\", pin = \"version 1.*\", priority = 990 }}]\n\
             repositories = [{}, {inline}]\n",
            source("test", "main", "test.asc", "")
        ))
        .unwrap();
    assert_eq!(
        (version(&kitchen, "tool"), version(&kitchen, "build-only")),
        ("1.0".into(), "1".into()),
        "{}",
        kitchen.log()
    );
    assert_eq!(kitchen.read("srv/colour"), "blue\n");
    assert_eq!(
        kitchen.read("etc/apt/sources.list.d/test.sources"),
        format!(
            "Types: deb\nURIs: http://{address}/main\nSuites: ./\nSigned-By: /etc/apt/keyrings/test.asc\n"
        )
    );
    assert_eq!(kitchen.read("etc/apt/keyrings/test.asc"), text);
    for gone in ["etc/apt/sources.list.d/passing.sources", "etc/apt/keyrings/passing.asc"] {
        assert!(!kitchen.exists(gone), "{gone}");
    }
    assert_eq!(lists(&kitchen, &format!("{address}_passing")), 0, "its lists are gone");
    assert!(lists(&kitchen, &format!("{address}_main")) > 0);

    // A held package stays through an upgrade; what is removed keeps its configuration, what is purged does not.
    let upgrade = "[[step]]\nuse = \"apt\"\nupgrade = true\npurge = [\"build-only\"]\n";
    std::fs::remove_dir_all(kitchen.root().join("etc/apt/preferences.d")).unwrap();
    std::fs::write(kitchen.root().join("etc/apt/sources.list"), "").unwrap();
    kitchen.bake(upgrade).unwrap();
    assert_eq!((version(&kitchen, "tool"), version(&kitchen, "build-only")), ("1.0".into(), String::new()));
    kitchen
        .bake("[[step]]\nuse = \"apt\"\nunhold = [\"tool\"]\nupgrade = true\nremove = [\"asks\"]\n")
        .unwrap();
    assert_eq!(
        (version(&kitchen, "tool"), version(&kitchen, "asks")),
        ("2.0".into(), String::new()),
        "{}",
        kitchen.log()
    );
}

#[test]
fn apt_upgrades_for_security_alone_and_bakes_as_of_a_date() {
    if !runs_here() || !has(&["gpg", "dpkg-scanpackages"]) {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let key = Key::new();
    let served = kitchen.around.path().join("served");
    repository::debian(&served.join("old"), &key, "old", &[deb("lib", "1.0"), deb("tool", "1.0")]);
    repository::debian(&served.join("stable"), &key, "stable", &[deb("tool", "1.1")]);
    repository::debian(&served.join("security"), &key, "stable-security", &[deb("lib", "1.1")]);
    repository::debian(&served.join("debian/20251101T000000Z"), &key, "snapshot", &[deb("dated", "7")]);
    let web = Web::of(&served);
    let address = web.address.to_string();
    std::fs::copy(&key.public, kitchen.recipe().join("test.asc")).unwrap();
    std::fs::write(kitchen.root().join("etc/apt/sources.list"), "").unwrap();
    for file in std::fs::read_dir(kitchen.root().join("etc/apt/sources.list.d")).unwrap().flatten() {
        std::fs::remove_file(file.path()).unwrap();
    }
    let source = |name: &str, more: &str| {
        format!(
            "{{ name = \"{name}\", uris = [\"http://{address}/{name}\"], suites = [\"./\"], key = \"test.asc\"{more} }}"
        )
    };
    let step = |more: &str| format!("[[step]]\nuse = \"apt\"\n{more}\n");
    kitchen
        .bake(&step(&format!(
            "install = [\"lib\", \"tool\"]\nrepositories = [{}]",
            source("old", ", keep = false")
        )))
        .unwrap();
    let sources = format!("repositories = [{}, {}]", source("stable", ""), source("security", ""));
    kitchen.bake(&step(&format!("upgrade = \"security\"\n{sources}"))).unwrap();
    assert_eq!(
        (version(&kitchen, "lib"), version(&kitchen, "tool")),
        ("1.1".into(), "1.0".into()),
        "{}",
        kitchen.log()
    );
    kitchen.bake(&step("upgrade = \"security\"")).unwrap();
    assert!(kitchen.log().contains("no security updates"), "{}", kitchen.log());

    // The image's own source is of Debian; what is asked is the archive of that day, whose date has long passed.
    for name in ["stable", "security"] {
        std::fs::remove_file(kitchen.root().join(format!("etc/apt/sources.list.d/{name}.sources"))).unwrap();
    }
    let own = "deb [signed-by=/etc/apt/keyrings/stable.asc] http://deb.debian.org/debian ./\n";
    std::fs::write(kitchen.root().join("etc/apt/sources.list"), own).unwrap();
    let dated = format!(
        "install = [\"dated\"]\nsnapshot_url = \"http://{address}/{{archive}}/{{snapshot}}/\"\nsnapshot = "
    );
    kitchen.bake(&step(&format!("{dated}\"20251101T000000Z\""))).unwrap();
    assert_eq!(version(&kitchen, "dated"), "7", "{}", kitchen.log());
    assert_eq!(kitchen.read("etc/apt/sources.list"), own, "the image's sources stay");
    let error = kitchen.bake(&step(&format!("{dated}\"yesterday\""))).unwrap_err();
    assert!(format!("{error:#}").contains("20261101T000000Z"), "{error:#}");

    // What apt cannot work out at all is no word that nothing is to be upgraded.
    let broken = "\nPackage: broken\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\
                  Maintainer: Nobody <nobody@example.org>\nDepends: no-such-package\nDescription: broken\n";
    let status = kitchen.read("var/lib/dpkg/status") + broken;
    std::fs::write(kitchen.root().join("var/lib/dpkg/status"), status).unwrap();
    kitchen.bake(&step("upgrade = \"security\"\nrefresh = \"never\"")).unwrap_err();
}

const GROUPS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<comps><group><id>tools</id><name>Tools</name><default>false</default><uservisible>true</uservisible>
<packagelist><packagereq type="mandatory">grouped</packagereq></packagelist></group></comps>
"#;

#[test]
fn dnf_takes_signed_repositories_groups_and_security_updates() {
    if !runs_here() || !has(&["gpg", "rpmbuild", "rpmsign", "createrepo_c", "modifyrepo_c"]) {
        return;
    }
    let kitchen = Kitchen::new(rpm());
    let (key, other) = (Key::new(), Key::new());
    let served = kitchen.around.path().join("served/9");
    let passing = kitchen.around.path().join("served/passing");
    for (folder, packages) in [
        (
            &served,
            &[
                ("lib", "1.0"),
                ("lib", "2.0"),
                ("tool", "1.0"),
                ("tool", "2.0"),
                ("grouped", "1"),
                ("left", "1"),
            ][..],
        ),
        (&passing, &[("build-only", "1")]),
    ] {
        repository::rpms(folder, &key, packages);
        repository::describe(folder, "group", GROUPS);
        let advisory = Advisory { kind: "security", name: "lib", version: "2.0", more: "", message: "" };
        repository::describe(folder, "updateinfo", &Advisory::list(&[advisory]));
    }
    let web = Web::of(served.parent().unwrap());
    let address = web.address.to_string();
    std::fs::copy(&key.public, kitchen.recipe().join("test.asc")).unwrap();
    std::fs::copy(&other.public, kitchen.recipe().join("other.asc")).unwrap();
    let repository = |name: &str, path: &str, key: &str, more: &str| {
        format!("{{ name = \"{name}\", baseurl = [\"http://{address}/{path}\"], key = \"{key}\"{more} }}")
    };
    let step = |more: &str| format!("[[step]]\nuse = \"dnf\"\n{more}\n");
    let installed = |name: &str| kitchen.installed(name);

    let error = kitchen
        .bake(&step("install = [\"tool\"]\nrepositories = [{ name = \"placeless\", gpgcheck = false }]"))
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("needs one of `baseurl`, `metalink` and `mirrorlist`"),
        "{error:#}"
    );
    assert!(!kitchen.exists("etc/yum.repos.d/placeless.repo"));

    let wrong = repository("wrong", "9", "other.asc", ", keep = false");
    kitchen
        .bake(&step(&format!("install = [\"tool\"]\nreleasever = \"9\"\nrepositories = [{wrong}]")))
        .unwrap_err();
    assert_eq!(installed("tool"), "", "{}", kitchen.log());

    kitchen
        .bake(&step(&format!(
            "install = [\"tool=1.0\", \"lib=1.0\", \"build-only\"]\nreleasever = \"9\"\nrepositories = [{}, {}]",
            repository("test", "$releasever", "test.asc", ", exclude = [\"left\"], priority = 10"),
            repository("passing", "passing", "test.asc", ", keep = false")
        )))
        .unwrap();
    assert_eq!(
        (installed("tool"), installed("lib"), installed("build-only")),
        ("1.0".into(), "1.0".into(), "1".into()),
        "{}",
        kitchen.log()
    );
    let kept = kitchen.read("etc/yum.repos.d/test.repo");
    for line in
        ["gpgcheck=1", "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-test", "exclude=left", "priority=10"]
    {
        assert!(kept.lines().any(|one| one == line), "{line}: {kept}");
    }
    for gone in
        ["etc/yum.repos.d/passing.repo", "etc/pki/rpm-gpg/RPM-GPG-KEY-passing", "etc/yum.repos.d/wrong.repo"]
    {
        assert!(!kitchen.exists(gone), "{gone}");
    }

    kitchen.bake(&step("upgrade = \"security\"\nreleasever = \"9\"")).unwrap();
    assert_eq!((installed("tool"), installed("lib")), ("1.0".into(), "2.0".into()), "{}", kitchen.log());
    kitchen
        .bake(&step("upgrade = true\nexclude = [\"tool\"]\ngroups = [\"tools\"]\nreleasever = \"9\""))
        .unwrap();
    assert_eq!((installed("tool"), installed("grouped")), ("1.0".into(), "1".into()), "{}", kitchen.log());
    kitchen.bake(&step("upgrade = true\nreleasever = \"9\"")).unwrap();
    assert_eq!(installed("tool"), "2.0");
    let error = kitchen.bake(&step("install = [\"left\"]\nreleasever = \"9\"")).unwrap_err();
    assert!(format!("{error:#}").contains("left"), "{error:#}");
}
