//! dnf's module streams, and what of its repositories, groups and exclusions is not as a step says.

use bakehouse::error::{Kind, kind_of};
use tempfile::TempDir;

use super::{Kitchen, hint_of, runs_here};
use crate::support::bases::build_rpm;
use crate::support::debian_roots;
use crate::support::host::has;
use crate::support::repository::{self, Advisory, Key};
use crate::support::web::Web;

/// A root with dnf, and a repository that is served, signed with `key`.
struct Shop {
    kitchen: Kitchen,
    key: Key,
    served: TempDir,
    web: Web,
}

impl Shop {
    fn new() -> Option<Self> {
        if !runs_here() || !has(&["gpg", "rpmbuild", "rpmsign", "createrepo_c", "modifyrepo_c"]) {
            return None;
        }
        let kitchen = Kitchen::new(debian_roots::rpm());
        // By the platform dnf knows which contexts of a stream are for this image.
        let release = "ID=rocky\nID_LIKE=\"rhel fedora\"\nVERSION_ID=9\nPLATFORM_ID=\"platform:el9\"\n";
        std::fs::write(kitchen.root().join("etc/os-release"), release).unwrap();
        let (key, served) = (Key::new(), tempfile::tempdir().unwrap());
        std::fs::copy(&key.public, kitchen.recipe().join("test.asc")).unwrap();
        let web = Web::of(served.path());
        Some(Self { kitchen, key, served, web })
    }

    /// A step's one repository, at a path of what is served.
    fn repository(&self, name: &str, path: &str, more: &str) -> String {
        let address = self.web.address;
        let more = if more.contains("key") { more.to_owned() } else { format!("key = \"test.asc\", {more}") };
        format!("repositories = [{{ name = \"{name}\", baseurl = [\"http://{address}/{path}\"], {more} }}]\n")
    }

    fn step(&self, text: &str) -> anyhow::Result<()> {
        self.kitchen.bake(&format!("[[step]]\nuse = \"dnf\"\n{text}\n")).map(drop)
    }

    fn fails(&self, text: &str, message: &str, hint: &str) {
        let error = self.step(text).expect_err(text);
        assert_eq!(kind_of(&error), Kind::Step, "{error:#}");
        assert!(format!("{error:#}").contains(message), "{message:?} is not in {error:#}");
        assert!(hint_of(&error).contains(hint), "{hint:?} is not in {} of {error:#}", hint_of(&error));
    }
}

/// A stream of a module: its packages of version `STREAM.0`, the first of them being the profile `default`, and all of
/// them `full`.
fn stream(name: &str, stream: &str, packages: &[&str]) -> String {
    let list = |entries: Vec<String>| entries.join(", ");
    let artifacts = list(packages.iter().map(|package| format!("{package}-0:{stream}.0-1.noarch")).collect());
    let (first, all) = (packages[0], packages.join(", "));
    format!(
        "---\ndocument: modulemd\nversion: 2\ndata:\n  name: {name}\n  stream: \"{stream}\"\n  version: {stream}\n  \
         context: c0ffee\n  arch: noarch\n  summary: A test's\n  description: A test's\n  license:\n    module: [MIT]\n  \
         dependencies:\n  - requires:\n      platform: [el9]\n  profiles:\n    default:\n      rpms: [{first}]\n    \
         full:\n      rpms: [{all}]\n  artifacts:\n    rpms: [{artifacts}]\n...\n"
    )
}

/// A shop with the modules `web`, of two streams, and `db`; and one whose package's script fails.
fn with_modules() -> Option<Shop> {
    let shop = Shop::new()?;
    let folder = shop.served.path().join("modular");
    std::fs::create_dir(&folder).unwrap();
    let mut modules = String::new();
    let late = "%post -p <lua>\nprint(\"the late reason\")\nerror(\"no\")";
    for (name, number, packages, more) in [
        ("web", "1", &["web", "web-extra"][..], ""),
        ("web", "2", &["web", "web-extra"], ""),
        ("db", "5", &["db"], ""),
        ("bad", "1", &["bad"], late),
    ] {
        for package in packages {
            let more = format!("ModularityLabel: {name}:{number}:{number}:c0ffee\n{more}");
            shop.key.sign_rpm(&build_rpm(&folder, package, &format!("{number}.0"), "1", &more));
        }
        modules.push_str(&stream(name, number, packages));
    }
    repository::rpms(&folder, &shop.key, &[("plain", "1"), ("plain", "2")]);
    repository::describe(&folder, "modules", &modules);
    Some(shop)
}

#[test]
fn a_stream_is_enabled_and_installed_and_another_takes_its_place() {
    let Some(shop) = with_modules() else { return };
    let kitchen = &shop.kitchen;
    let versions = || ["web", "web-extra", "db"].map(|name| kitchen.installed(name));
    let state = |name: &str| kitchen.read(&format!("etc/dnf/modules.d/{name}.module"));
    shop.step(&shop.repository("modular", "modular", "")).unwrap();

    // What is in streams alone is not there before one is enabled.
    shop.fails("install = [\"web\"]", "modular filtering", "name one in `modules`");
    assert_eq!(versions(), ["", "", ""]);

    // The older stream is enabled: its version is taken, though there is a newer one.
    shop.step("modules = [\"web:1\"]\ninstall = [\"web\"]\nupgrade = true").unwrap();
    assert_eq!(versions(), ["1.0", "", ""], "{}", kitchen.log());
    let enabled = state("web");
    assert!(enabled.contains("stream=1\n") && enabled.contains("state=enabled\n"), "{enabled}");
    shop.step("upgrade = true").unwrap();
    assert_eq!(versions(), ["1.0", "", ""], "an upgrade stays in its stream: {}", kitchen.log());

    // Profiles, of another stream than the one that is enabled, and of a further module.
    shop.step("modules = [\"web:2/full\", \"db:5/default\"]").unwrap();
    assert_eq!(versions(), ["2.0", "2.0", "5.0"], "{}", kitchen.log());
    let enabled = state("web");
    assert!(enabled.contains("stream=2\n") && enabled.contains("profiles=full\n"), "{enabled}");

    // Back again without a profile: what is installed is of the stream that the image says it has.
    shop.step("modules = [\"web:1\"]").unwrap();
    assert_eq!(versions(), ["1.0", "1.0", "5.0"], "{}", kitchen.log());
    assert!(state("web").contains("stream=1\n"), "{}", state("web"));
    shop.step("modules = [\"web:1\", \"db:5/default\"]").unwrap();
    assert_eq!(versions(), ["1.0", "1.0", "5.0"], "{}", kitchen.log());

    // One that is disabled is enabled by it too.
    shop.step("remove = [\"web\", \"web-extra\"]").unwrap();
    let disable = "run = [\"dnf\", \"-y\", \"module\", \"disable\", \"web\"]";
    kitchen.bake(&format!("[[step]]\nuse = \"script\"\n{disable}\n")).unwrap();
    assert!(state("web").contains("state=disabled\n"), "{}", state("web"));
    shop.step("modules = [\"web:2\"]\ninstall = [\"web\"]").unwrap();
    assert_eq!(versions(), ["2.0", "", "5.0"], "{}", kitchen.log());
}

#[test]
fn a_stream_that_is_not_there_changes_nothing() {
    let Some(shop) = with_modules() else { return };
    let kitchen = &shop.kitchen;
    shop.step(&format!("modules = [\"web:1\"]\n{}", shop.repository("modular", "modular", ""))).unwrap();
    let before = kitchen.read("etc/dnf/modules.d/web.module");
    let there_is_none = "no repository has this module, its stream or its profile";
    for item in ["web:9", "web:9/default", "nothing:1", "web:1/nothing"] {
        let text = format!("modules = [\"{item}\"]\ninstall = [\"plain\"]");
        shop.fails(&text, &format!("missing groups or modules: {item}"), there_is_none);
        assert_eq!(kitchen.read("etc/dnf/modules.d/web.module"), before, "{item}");
        assert!(!kitchen.exists("etc/dnf/modules.d/nothing.module"), "{item}");
        assert_eq!(kitchen.installed("plain"), "", "what follows it was done");
    }
    // rpm counts it as installed, and dnf's exit status is 0.
    shop.fails("modules = [\"bad:1/default\"]", "the late reason", "own installation script");
}

/// The yum of Enterprise Linux 7 has no modules: it is not left to say so in its own words.
#[test]
fn modules_are_refused_where_the_image_has_yum_alone() {
    let Some(shop) = Shop::new() else { return };
    let bin = shop.kitchen.root().join("usr/bin");
    std::fs::rename(bin.join("dnf"), bin.join("yum")).unwrap();
    shop.fails("modules = [\"web:1\"]", "yum does not know modules: it needs dnf", "");
    assert!(!shop.kitchen.exists("etc/dnf/modules.d/web.module"));
}

const GROUPS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<comps><group><id>tools</id><name>Tools for All</name><default>false</default><uservisible>true</uservisible>
<packagelist><packagereq type="mandatory">grouped</packagereq><packagereq type="optional">tool</packagereq>
</packagelist></group></comps>
"#;

#[test]
fn groups_exclusions_and_releases_that_are_not_there_fail() {
    let Some(shop) = Shop::new() else { return };
    let kitchen = &shop.kitchen;
    let folder = shop.served.path().join("9");
    repository::rpms(&folder, &shop.key, &[("tool", "1"), ("tool", "2"), ("grouped", "1")]);
    repository::describe(&folder, "group", GROUPS);
    let repository = shop.repository("test", "$releasever", "");
    shop.fails(
        &format!("install = [\"tool\"]\nreleasever = \"8\"\n{repository}"),
        "/8/repodata/repomd.xml",
        "a repository did not answer",
    );
    let no_group = "no repository has this group";
    for groups in ["\"nothing\"", "\"tools\", \"nothing\"", "\"nothing\", \"Tools for All\""] {
        shop.fails(
            &format!("groups = [{groups}]\nreleasever = \"9\""),
            "'nothing' is not available",
            no_group,
        );
        assert_eq!(kitchen.installed("grouped"), "", "{}", kitchen.log());
    }
    let excluded = "the package is excluded";
    shop.fails(
        "install = [\"tool\"]\nexclude = [\"to*\"]\nreleasever = \"9\"",
        "exclude filtering",
        excluded,
    );
    assert_eq!(kitchen.installed("tool"), "");

    // By its name, and with a version that is to be left alone.
    shop.step(
        "groups = [\"Tools for All\"]\ninstall = [\"tool\"]\nexclude = [\"tool-2\"]\nreleasever = \"9\"",
    )
    .unwrap();
    assert_eq!((kitchen.installed("grouped"), kitchen.installed("tool")), ("1".into(), "1".into()));
    assert!(!kitchen.exists("etc/dnf/vars/releasever"));
}

#[test]
fn a_repository_that_does_not_answer_or_has_another_key_fails() {
    let Some(shop) = Shop::new() else { return };
    let kitchen = &shop.kitchen;
    let folder = shop.served.path().join("good");
    std::fs::create_dir(&folder).unwrap();
    build_rpm(&folder, "unsigned", "1", "1", "");
    repository::rpms(&folder, &shop.key, &[("tool", "1"), ("tool", "2"), ("lib", "1")]);
    let advisory = Advisory { kind: "security", name: "tool", version: "2", more: "", message: "" };
    repository::describe(&folder, "updateinfo", &Advisory::list(&[advisory]));
    let other = Key::new();
    std::fs::copy(&other.public, kitchen.recipe().join("other.asc")).unwrap();

    // Another key than that of the packages. All of a repository for the step alone is gone, its key too.
    let passing = |more: &str| shop.repository("passing", "good", &format!("keep = false, {more}"));
    let with_other = format!("install = [\"lib\"]\n{}", passing("key = \"other.asc\""));
    shop.fails(&with_other, "not correct for this package", "give the repository the key that fits");
    assert_eq!((kitchen.installed("lib"), kitchen.keys()), (String::new(), vec![]));
    for gone in ["etc/yum.repos.d/passing.repo", "etc/pki/rpm-gpg/RPM-GPG-KEY-passing"] {
        assert!(!kitchen.exists(gone), "{gone}");
    }

    shop.step(&format!("install = [\"tool=1\"]\n{}", shop.repository("good", "good", ""))).unwrap();
    let kept = kitchen.keys();
    assert_eq!((kitchen.installed("tool"), kept.len()), ("1".into(), 1));
    shop.fails("install = [\"unsigned\"]", "is not signed", "sign it");
    assert_eq!(kitchen.installed("unsigned"), "");

    // What a repository tells of itself: not signed, signed with another key, with the right one.
    let text = std::fs::read_to_string(&shop.key.public).unwrap();
    let signed = passing(&format!("key_text = '''{text}''', repo_gpgcheck = true"));
    let signed = format!("install = [\"lib\"]\n{signed}");
    shop.fails(&signed, "GPG signature is not available", "metadata");
    other.sign_metadata(&folder);
    shop.fails(&signed, "repo 'passing'", "the key that fits");
    assert_eq!(kitchen.installed("lib"), "");
    shop.key.sign_metadata(&folder);
    shop.step(&signed).unwrap();
    assert_eq!((kitchen.installed("lib"), kitchen.keys()), ("1".into(), kept));

    // One that is not there, though dnf is content without: the step's, and the image's own.
    let conf = kitchen.read("etc/dnf/dnf.conf");
    assert!(conf.contains("skip_if_unavailable=True"), "as on Fedora: {conf}");
    let dead = "baseurl = [\"http://127.0.0.1:9/\"], gpgcheck = false, keep = false";
    let dead = format!("repositories = [{{ name = \"dead\", {dead} }}]");
    let wishes = ["upgrade = \"security\"", "upgrade = true", "install = [\"tool=2\"]"];
    for wish in wishes {
        shop.fails(&format!("{wish}\n{dead}"), "repo 'dead'", "a repository did not answer");
    }
    let own = "[dead]\nname=dead\nbaseurl=http://127.0.0.1:9/\ngpgcheck=0\n";
    let path = kitchen.root().join("etc/yum.repos.d/dead.repo");
    std::fs::write(&path, own).unwrap();
    for wish in wishes {
        shop.fails(wish, "repo 'dead'", "a repository did not answer");
    }
    assert_eq!(kitchen.installed("tool"), "1", "{}", kitchen.log());
    // It may be missing where its own file says so.
    std::fs::write(&path, format!("{own}skip_if_unavailable=1\n")).unwrap();
    shop.step("upgrade = \"security\"").unwrap();
    assert_eq!(kitchen.installed("tool"), "2", "{}", kitchen.log());
}
