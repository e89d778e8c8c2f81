//! What apt's further parameters come to in the root, and what is told where they cannot be done. Everything comes
//! from a signed repository inside the root, so no step needs a network.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::repositories::version;
use super::{Kitchen, hint_of, runs_here};
use crate::support::debian_roots::debian;
use crate::support::host::has;
use crate::support::packages::Deb;
use crate::support::repository::{self, Key};

/// A root whose only packages to be had are these, from `/srv/repo`, signed with a key that it has.
fn kitchen(packages: &[Deb]) -> Option<(Kitchen, Key)> {
    if !runs_here() || !has(&["gpg", "dpkg-scanpackages"]) {
        return None;
    }
    let kitchen = Kitchen::new(debian());
    let key = Key::new();
    let sources = kitchen.root().join("etc/apt/sources.list.d");
    fs::remove_dir_all(&sources).ok();
    fs::create_dir(&sources).unwrap();
    let keyrings = kitchen.root().join("usr/share/keyrings");
    fs::create_dir_all(&keyrings).unwrap();
    fs::copy(&key.public, keyrings.join("test.asc")).unwrap();
    put(&kitchen, "etc/apt/sources.list", "deb [signed-by=/usr/share/keyrings/test.asc] file:/srv/repo ./\n");
    repository::debian(&kitchen.root().join("srv/repo"), &key, "stable", packages);
    Some((kitchen, key))
}

fn put(kitchen: &Kitchen, path: &str, text: &str) {
    fs::write(kitchen.root().join(path), text).unwrap();
}

fn deb(name: &'static str, version: &'static str) -> Deb<'static> {
    Deb { name, version, ..Deb::default() }
}

/// A step that asks no network; the lists are made anew, since tests change the repository.
fn step(more: &str) -> String {
    format!("[[step]]\nuse = \"apt\"\nnetwork = \"none\"\nrefresh = \"always\"\n{more}\n")
}

#[track_caller]
fn good(kitchen: &Kitchen, more: &str) {
    kitchen.bake(&step(more)).unwrap_or_else(|error| panic!("{more}: {error:#}\n{}", kitchen.log()));
}

/// That the step fails, what it says, and what it says to do.
#[track_caller]
fn fails(kitchen: &Kitchen, more: &str, message: &str, hint: &str) {
    let error = kitchen.bake(&step(more)).unwrap_err();
    assert!(format!("{error:#}").contains(message), "{message:?} is not in {error:#}");
    assert!(hint_of(&error).contains(hint), "{hint:?} is not in {}", hint_of(&error));
}

/// Which of these are installed, in which version.
fn versions(kitchen: &Kitchen, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| version(kitchen, name)).collect()
}

fn names(kitchen: &Kitchen, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(kitchen.root().join(folder)).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_preferences_file_is_the_images_and_a_pin_may_be_the_steps_alone() {
    let Some((kitchen, _)) = kitchen(&[deb("tool", "1.0"), deb("tool", "2.0"), deb("never", "1")]) else {
        return;
    };
    let before = names(&kitchen, "etc/apt/preferences.d");
    let text = "Explanation: the app is not ready for 2\nPackage: tool\nPin: version 1.*\nPin-Priority: 990\n\n\
                Package: never\nPin: origin \"\"\nPin-Priority: -1\n";
    fs::write(kitchen.recipe().join("web.pref"), text).unwrap();
    good(&kitchen, "install = [\"tool\"]\npreferences = \"web.pref\"");
    assert_eq!(version(&kitchen, "tool"), "1.0", "{}", kitchen.log());
    let new: Vec<_> =
        names(&kitchen, "etc/apt/preferences.d").into_iter().filter(|name| !before.contains(name)).collect();
    let [file] = &new[..] else { panic!("{new:?}") };
    let path = format!("etc/apt/preferences.d/{file}");
    assert!(file.ends_with(".pref") && kitchen.read(&path) == text, "{file}");
    let meta = kitchen.root().join(&path).metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o644, 0, 0));

    // It holds for whoever comes after, and the same file again is no second one.
    good(&kitchen, "upgrade = true\npreferences = \"web.pref\"");
    assert_eq!(version(&kitchen, "tool"), "1.0", "{}", kitchen.log());
    assert_eq!(names(&kitchen, "etc/apt/preferences.d").len(), before.len() + 1);
    fails(&kitchen, "install = [\"never\"]", "no installation candidate", "known but cannot be installed");

    good(
        &kitchen,
        "upgrade = true\npins = [{ package = \"tool\", pin = \"version 2.*\", priority = 1001, keep = false }]",
    );
    assert_eq!(version(&kitchen, "tool"), "2.0", "{}", kitchen.log());
    assert_eq!(
        names(&kitchen, "etc/apt/preferences.d").len(),
        before.len() + 1,
        "the step's pin went with it"
    );

    fs::write(kitchen.recipe().join("bad.pref"), "tool: 1.*\n").unwrap();
    fails(&kitchen, "install = [\"tool\"]\npreferences = \"bad.pref\"", "preferences", "apt_preferences(5)");
}

#[test]
fn what_nobody_needs_any_more_goes_where_autoremove_says_so() {
    let app = Deb { name: "app", version: "1", control: "Depends: lib, wanted\n", ..Deb::default() };
    let stubborn = Deb {
        name: "stubborn",
        version: "1",
        scripts: &[("prerm", "#!/bin/sh\necho it is in use\nexit 3\n")],
        ..Deb::default()
    };
    let holder = Deb { name: "holder", version: "1", control: "Depends: stubborn\n", ..Deb::default() };
    let packages = [app, deb("lib", "1"), deb("wanted", "1"), stubborn, holder];
    let Some((kitchen, _)) = kitchen(&packages) else { return };
    let all = ["app", "lib", "wanted"];
    good(&kitchen, "install = [\"app\", \"wanted\"]");
    assert_eq!(versions(&kitchen, &all), ["1", "1", "1"], "{}", kitchen.log());
    // What was asked for by name stays, and what came along goes only where it is told to.
    good(&kitchen, "remove = [\"app\"]");
    assert_eq!(versions(&kitchen, &all), ["", "1", "1"], "{}", kitchen.log());
    good(&kitchen, "autoremove = true");
    assert_eq!(versions(&kitchen, &all), ["", "", "1"], "{}", kitchen.log());
    good(&kitchen, "install = [\"app\"]");
    good(&kitchen, "purge = [\"app\"]\nautoremove = true");
    assert_eq!(versions(&kitchen, &all), ["", "", "1"], "{}", kitchen.log());

    good(&kitchen, "install = [\"holder\"]");
    fails(
        &kitchen,
        "remove = [\"holder\"]\nautoremove = true",
        "it is in use",
        "error processing package stubborn",
    );
}

#[test]
fn removed_packages_leave_their_configuration_and_purged_ones_nothing() {
    let conf = |name| Deb {
        name,
        version: "1",
        files: match name {
            "one" => &[("etc/one.conf", "one\n", 0o644)],
            _ => &[("etc/two.conf", "two\n", 0o644)],
        },
        scripts: match name {
            "one" => &[("conffiles", "/etc/one.conf\n")],
            _ => &[("conffiles", "/etc/two.conf\n")],
        },
        ..Deb::default()
    };
    let Some((kitchen, _)) = kitchen(&[conf("one"), conf("two")]) else { return };
    good(&kitchen, "install = [\"one\", \"two\"]");
    good(&kitchen, "remove = [\"one\"]\npurge = [\"two\"]");
    assert_eq!(versions(&kitchen, &["one", "two"]), ["", ""], "{}", kitchen.log());
    assert_eq!(kitchen.read("etc/one.conf"), "one\n");
    assert!(!kitchen.exists("etc/two.conf"), "{}", kitchen.log());
    // What a removed package left goes too.
    good(&kitchen, "purge = [\"one\"]");
    assert!(!kitchen.exists("etc/one.conf"), "{}", kitchen.log());
    assert!(!kitchen.read("var/lib/dpkg/status").contains("Package: one\n"));
    for verb in ["remove", "purge"] {
        fails(
            &kitchen,
            &format!("{verb} = [\"no-such\"]"),
            "exit status 100",
            "Unable to locate package no-such",
        );
    }
}

#[test]
fn a_hold_keeps_a_version_until_it_is_released_and_holds_what_is_there_alone() {
    let Some((kitchen, key)) = kitchen(&[deb("tool", "1.0")]) else { return };
    good(&kitchen, "install = [\"tool\"]\nhold = [\"tool\"]");
    let again = [deb("tool", "1.0"), deb("tool", "2.0")];
    repository::debian(&kitchen.root().join("srv/repo"), &key, "stable", &again);
    good(&kitchen, "upgrade = true");
    assert_eq!(version(&kitchen, "tool"), "1.0", "{}", kitchen.log());
    fails(&kitchen, "install = [\"tool=2.*\"]", "exit status 100", "`unhold`");
    fails(&kitchen, "remove = [\"tool\"]", "exit status 100", "`unhold`");
    assert_eq!(version(&kitchen, "tool"), "1.0");
    good(&kitchen, "unhold = [\"tool\"]\ninstall = [\"tool=2.*\"]\nhold = [\"tool\"]");
    assert_eq!(version(&kitchen, "tool"), "2.0", "{}", kitchen.log());
    assert!(kitchen.read("var/lib/dpkg/status").contains("Package: tool\nStatus: hold ok installed\n"));
    fails(&kitchen, "hold = [\"absent\"]", "absent cannot be held: it is not installed", "");
}

#[test]
fn recommended_packages_come_as_the_step_says_and_else_as_the_image_says() {
    let app = |name| Deb {
        name,
        version: "1",
        control: match name {
            "a" => "Recommends: a-more\n",
            "b" => "Recommends: b-more\n",
            _ => "Recommends: c-more\n",
        },
        ..Deb::default()
    };
    let packages = [app("a"), app("b"), app("c"), deb("a-more", "1"), deb("b-more", "1"), deb("c-more", "1")];
    let Some((kitchen, _)) = kitchen(&packages) else { return };
    put(&kitchen, "etc/apt/apt.conf.d/99recommends", "APT::Install-Recommends \"false\";\n");
    good(&kitchen, "install = [\"a\"]");
    good(&kitchen, "install = [\"b\"]\nrecommends = true");
    put(&kitchen, "etc/apt/apt.conf.d/99recommends", "APT::Install-Recommends \"true\";\n");
    good(&kitchen, "install = [\"c\"]\nrecommends = false");
    let more = ["a", "a-more", "b", "b-more", "c", "c-more"];
    assert_eq!(versions(&kitchen, &more), ["1", "", "1", "1", "1", ""], "{}", kitchen.log());
}

#[test]
fn a_repository_is_signed_by_a_keyring_that_the_image_has() {
    let Some((kitchen, key)) = kitchen(&[deb("tool", "1.0")]) else { return };
    // What the image has of its own is another suite, which the keyring's key did not sign.
    let (own, other) = (Key::new(), Key::new());
    repository::debian(&kitchen.root().join("srv/own"), &own, "own", &[deb("own", "1")]);
    fs::copy(&own.public, kitchen.root().join("usr/share/keyrings/own.asc")).unwrap();
    fs::copy(&other.public, kitchen.root().join("usr/share/keyrings/other.asc")).unwrap();
    let add = |name: &str, keyring: &str, more: &str| {
        format!(
            "install = [\"own\"]\nrepositories = [{{ name = \"{name}\", uris = [\"file:/srv/own\"], suites = [\"./\"], signed_by = \"/usr/share/keyrings/{keyring}\"{more} }}]"
        )
    };
    fails(
        &kitchen,
        &add("absent", "absent.gpg", ""),
        "repository absent: the image has no /usr/share/keyrings/absent.gpg",
        "in a step before",
    );
    fails(
        &kitchen,
        &add("wrong", "other.asc", ", keep = false"),
        "exit status 100",
        "a key that the image does not have",
    );
    assert_eq!(version(&kitchen, "own"), "");
    assert!(!kitchen.exists("etc/apt/sources.list.d/wrong.sources"));

    good(&kitchen, &add("passing", "own.asc", ", keep = false"));
    assert_eq!(version(&kitchen, "own"), "1", "{}", kitchen.log());
    assert!(!kitchen.exists("etc/apt/sources.list.d/passing.sources"));
    assert!(kitchen.exists("usr/share/keyrings/own.asc"), "the image's own keyring stays");
    good(&kitchen, "purge = [\"own\"]");
    good(&kitchen, &add("own", "own.asc", ""));
    assert_eq!(version(&kitchen, "own"), "1", "{}", kitchen.log());
    assert_eq!(
        kitchen.read("etc/apt/sources.list.d/own.sources"),
        "Types: deb\nURIs: file:/srv/own\nSuites: ./\nSigned-By: /usr/share/keyrings/own.asc\n"
    );
    assert_eq!(names(&kitchen, "etc/apt/keyrings"), [""; 0], "no key is put beside it");
    drop(key);
}

#[test]
fn answers_reach_debconf_and_one_that_is_none_is_told() {
    let asks = Deb {
        name: "asks",
        version: "1",
        control: "Depends: debconf\n",
        scripts: &[
            (
                "templates",
                "Template: asks/colour\nType: string\nDefault: red\nDescription: Colour?\n\n\
                 Template: asks/sure\nType: boolean\nDefault: true\nDescription: Sure?\n",
            ),
            (
                "postinst",
                "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\nmkdir -p /srv\n\
                 db_get asks/colour\necho \"$RET\" > /srv/colour\ndb_get asks/sure\necho \"$RET\" > /srv/sure\n",
            ),
        ],
        ..Deb::default()
    };
    let Some((kitchen, _)) = kitchen(&[asks]) else { return };
    for wrong in ["asks asks/colour", "asks asks/colour colour blue"] {
        let more = format!("install = [\"asks\"]\ndebconf = [{wrong:?}]");
        let error = kitchen.bake(&step(&more)).unwrap_err();
        let said = format!("an item of `debconf` can't be `{wrong}`");
        assert!(format!("{error:#}").contains(&said), "{error:#}");
    }
    // What only debconf in the image can tell.
    let more = "install = [\"asks\"]\ndebconf = [\"asks asks/never seen true\"]";
    fails(&kitchen, more, "asks/never", "PACKAGE QUESTION TYPE VALUE");
    assert_eq!(version(&kitchen, "asks"), "");
    // What is said of answers that are taken all the same.
    good(&kitchen, "debconf = [\"asks asks/sure boolean true\"]\nenv = { LC_ALL = \"xx_XX\" }");
    assert!(kitchen.log().contains("Setting locale failed"), "{}", kitchen.log());
    good(
        &kitchen,
        "install = [\"asks\"]\ndebconf = [\"asks asks/colour string dark blue\", \"asks asks/sure boolean false\"]",
    );
    assert_eq!(
        (kitchen.read("srv/colour"), kitchen.read("srv/sure")),
        ("dark blue\n".into(), "false\n".into())
    );
    assert!(kitchen.read("var/cache/debconf/config.dat").contains("Value: dark blue"));
}

/// What a suite of security updates has newer than the image, however new other suites are.
#[test]
fn an_upgrade_for_security_takes_what_security_suites_have_and_nothing_else() {
    let old = ["both", "ahead", "held", "later", "own"].map(|name| deb(name, "1.0"));
    let Some((kitchen, key)) = kitchen(&old) else { return };
    let root = kitchen.root().to_owned();
    let suite =
        |name: &str, packages: &[Deb]| repository::debian(&root.join("srv").join(name), &key, name, packages);
    good(&kitchen, "install = [\"both\", \"ahead\", \"held\", \"later\", \"own\"]\nhold = [\"held\"]");
    suite("stable-updates", &[deb("both", "1.2"), deb("later", "1.1"), deb("new", "2.0")]);
    suite(
        "stable-security",
        &[deb("both", "1.1"), deb("ahead", "0.9"), deb("held", "1.1"), deb("new", "1.0")],
    );
    let source = |name: &str| format!("deb [signed-by=/usr/share/keyrings/test.asc] file:/srv/{name} ./\n");
    let own = kitchen.read("etc/apt/sources.list");
    put(&kitchen, "etc/apt/sources.list", &(own.clone() + &source("stable-updates")));
    let all = ["both", "ahead", "held", "later", "own"];
    let before = names(&kitchen, "etc/apt/preferences.d");
    good(&kitchen, "upgrade = \"security\"");
    assert_eq!(versions(&kitchen, &all), ["1.0"; 5], "{}", kitchen.log());
    assert!(kitchen.log().contains("no security updates"), "{}", kitchen.log());

    put(&kitchen, "etc/apt/sources.list", &(own + &source("stable-updates") + &source("stable-security")));
    // What the step installs is not asked where it comes from.
    good(&kitchen, "upgrade = \"security\"\ninstall = [\"new\"]");
    assert_eq!(versions(&kitchen, &all), ["1.1", "1.0", "1.0", "1.0", "1.0"], "{}", kitchen.log());
    assert_eq!(version(&kitchen, "new"), "2.0", "{}", kitchen.log());
    assert_eq!(names(&kitchen, "etc/apt/preferences.d"), before);

    fs::remove_file(root.join("srv/stable-security/Packages")).unwrap();
    fails(&kitchen, "upgrade = \"security\"", "stable-security", "a package source");
    assert_eq!(names(&kitchen, "etc/apt/preferences.d"), before);
}

/// The lists of a date are that step's alone: what follows has the image's own, and the image has no others.
#[test]
fn a_date_holds_for_its_step_and_what_cannot_be_had_of_it_is_told() {
    let Some((kitchen, key)) = kitchen(&[deb("tool", "2.0"), deb("early", "1"), deb("later", "1")]) else {
        return;
    };
    let archive = kitchen.root().join("srv/snapshots/debian/20251101T000000Z");
    repository::debian(&archive, &key, "snapshot", &[deb("tool", "1.0")]);
    repository::debian(&kitchen.root().join("srv/more"), &key, "more", &[deb("more", "1"), deb("most", "1")]);
    let dated =
        "snapshot_url = \"file:/srv/snapshots/{archive}/{snapshot}/\"\nsnapshot = \"20251101T000000Z\"";
    fails(
        &kitchen,
        &format!("install = [\"tool\"]\n{dated}"),
        "no source of the image",
        "leave `snapshot` out",
    );

    let own = kitchen.read("etc/apt/sources.list");
    let of_debian = own.replace("file:/srv/repo", "http://deb.debian.org/debian");
    // Steps as most are: they ask for lists where there are none that are new.
    let bake = |more: &str| {
        let step = format!("[[step]]\nuse = \"apt\"\nnetwork = \"none\"\n{more}\n");
        kitchen.bake(&step).unwrap_or_else(|error| panic!("{more}: {error:#}\n{}", kitchen.log()));
    };
    good(&kitchen, "install = [\"early\"]");
    let before = names(&kitchen, "var/lib/apt/lists");
    put(&kitchen, "etc/apt/sources.list", &of_debian);
    // The lists of a date have to be fetched: without them there would be nothing newer, and nothing said.
    for more in ["upgrade = true", "install = [\"tool\"]"] {
        let step =
            format!("[[step]]\nuse = \"apt\"\nnetwork = \"none\"\nrefresh = \"never\"\n{more}\n{dated}\n");
        let error = kitchen.bake(&step).expect_err(more);
        let said = "the recipe is refused: [Complaint { message: \"`snapshot` can't stand beside `refresh = never`\"";
        assert!(format!("{error:#}").starts_with(said), "{error:#}");
    }
    bake(&format!("install = [\"tool\"]\n{dated}"));
    assert_eq!(version(&kitchen, "tool"), "1.0", "{}", kitchen.log());
    assert_eq!(names(&kitchen, "var/lib/apt/lists"), before);
    put(&kitchen, "etc/apt/sources.list", &own);
    bake("install = [\"later\"]\nupgrade = true");
    assert_eq!(versions(&kitchen, &["tool", "later"]), ["2.0", "1"], "{}", kitchen.log());

    // A repository that the dated step adds, and that stays, is known to the next one.
    put(&kitchen, "etc/apt/sources.list", &of_debian);
    bake(&format!(
        "install = [\"more\"]\n{dated}\nrepositories = [{{ name = \"more\", uris = [\"file:/srv/more\"], suites = [\"./\"], signed_by = \"/usr/share/keyrings/test.asc\" }}]"
    ));
    put(&kitchen, "etc/apt/sources.list", &own);
    bake("install = [\"most\"]");
    assert_eq!(versions(&kitchen, &["more", "most"]), ["1", "1"], "{}", kitchen.log());

    put(&kitchen, "etc/apt/sources.list", &of_debian);
    let never = dated.replace("20251101", "20200101");
    fails(&kitchen, &format!("install = [\"tool\"]\n{never}"), "20200101T000000Z", "a package source");
}
