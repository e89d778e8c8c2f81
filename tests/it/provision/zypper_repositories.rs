//! Repositories that a step brings along and security updates, with a real zypper.

use bakehouse::error::{Kind, kind_of};
use tempfile::TempDir;

use super::{Kitchen, hint_of, zypper};
use crate::support::bases::build_rpm;
use crate::support::host::has;
use crate::support::repository::{self, Advisory, Key};
use crate::support::web::Web;

/// A root with zypper, and what is served to it, signed with `key`.
struct Shop {
    kitchen: Kitchen,
    key: Key,
    served: TempDir,
    web: Web,
}

impl Shop {
    fn new() -> Option<Self> {
        if !has(&["gpg", "rpmsign", "modifyrepo_c"]) {
            return None;
        }
        let kitchen = zypper::kitchen()?;
        let (key, served) = (Key::new(), tempfile::tempdir().unwrap());
        std::fs::copy(&key.public, kitchen.recipe().join("test.asc")).unwrap();
        let web = Web::of(served.path());
        let shop = Self { kitchen, key, served, web };
        // Every image has packages before.
        shop.step("install = [\"other\"]").unwrap();
        Some(shop)
    }

    /// A repository of a step, at a path of what is served.
    fn repository(&self, name: &str, path: &str, more: &str) -> String {
        let address = self.web.address;
        let more = if more.contains("key") { more.to_owned() } else { format!("key = \"test.asc\", {more}") };
        format!("{{ name = \"{name}\", baseurl = [\"http://{address}/{path}\"], {more} }}")
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

    /// Nothing in the root is of a repository of this name.
    fn nothing_is_left_of(&self, name: &str) {
        for folder in ["raw/", "solv/", "packages/"] {
            assert!(!self.kitchen.exists(&format!("var/cache/zypp/{folder}{name}")), "{folder}{name}");
        }
        for file in [format!("etc/zypp/repos.d/{name}.repo"), format!("etc/pki/rpm-gpg/RPM-GPG-KEY-{name}")] {
            assert!(!self.kitchen.exists(&file), "{file}");
        }
    }

    /// The keys that rpm in the root takes packages by. zypper has noted none besides them.
    fn keys(&self) -> Vec<String> {
        let keys = self.kitchen.keys();
        for noted in
            std::fs::read_dir(self.kitchen.root().join("var/cache/zypp/pubkeys")).into_iter().flatten()
        {
            let name = noted.unwrap().file_name().into_string().unwrap();
            assert!(keys.iter().any(|key| name == format!("{key}.key")), "{name} is not of {keys:?}");
        }
        keys
    }
}

#[test]
fn signed_repositories_are_taken_and_those_for_one_step_are_gone() {
    let Some(shop) = Shop::new() else { return };
    let kitchen = &shop.kitchen;
    let main = shop.served.path().join("main");
    let lesser = shop.served.path().join("lesser");
    let passing = shop.served.path().join("passing");
    repository::rpms(&main, &shop.key, &[("web", "1.0")]);
    repository::rpms(&lesser, &shop.key, &[("web", "2.0"), ("extra", "1")]);
    let second = Key::new();
    let second_text = std::fs::read_to_string(&second.public).unwrap();
    repository::rpms(&passing, &second, &[("build-only", "1")]);

    let repositories = [
        shop.repository("main", "main", "priority = 10"),
        shop.repository("lesser", "lesser", ""),
        shop.repository("passing", "passing", &format!("key_text = '''{second_text}''', keep = false")),
    ];
    let step = format!("install = [\"web\", \"build-only\"]\nrepositories = [{}]", repositories.join(", "));
    shop.step(&step).unwrap();
    let installed = || ["web", "build-only", "extra"].map(|name| kitchen.installed(name));
    assert_eq!(installed(), ["1.0", "1", ""], "by its priority: {}", kitchen.log());
    let address = shop.web.address;
    assert_eq!(
        kitchen.read("etc/zypp/repos.d/main.repo"),
        format!(
            "[main]\nname=main\nenabled=1\nbaseurl=http://{address}/main\ngpgcheck=1\nrepo_gpgcheck=0\n\
             gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-main\npriority=10\npkg_gpgcheck=1\nautorefresh=1\n"
        )
    );
    shop.nothing_is_left_of("passing");
    assert_eq!(shop.keys().len(), 1, "the second key is gone");

    // What stays can be installed from in a later step, what was for one step cannot.
    shop.step("install = [\"extra\"]\nremove = [\"build-only\"]").unwrap();
    assert_eq!(installed(), ["1.0", "", "1"], "{}", kitchen.log());
    shop.fails(
        "install = [\"build-only\"]",
        "No provider of 'build-only' found",
        "not in the image's repositories",
    );

    // What a repository has later is seen, where zypper does not wait before it looks again.
    std::fs::write(kitchen.root().join("etc/zypp/zypp.conf"), "[main]\nrepo.refresh.delay = 0\n").unwrap();
    repository::rpms(&main, &shop.key, &[("later", "1")]);
    shop.step("install = [\"later\"]").unwrap();
    assert_eq!(kitchen.installed("later"), "1");
}

#[test]
fn repositories_whose_key_does_not_fit_or_that_do_not_answer_fail() {
    let Some(shop) = Shop::new() else { return };
    let kitchen = &shop.kitchen;
    let folder = shop.served.path().join("good");
    std::fs::create_dir(&folder).unwrap();
    build_rpm(&folder, "unsigned", "1", "1", "");
    repository::rpms(&folder, &shop.key, &[("web", "1"), ("web", "2")]);
    let other = Key::new();
    std::fs::copy(&other.public, kitchen.recipe().join("other.asc")).unwrap();
    let passing = |name: &str, more: &str| {
        let repository = shop.repository("passing", "good", &format!("keep = false, {more}"));
        format!("install = [\"{name}\"]\nrepositories = [{repository}]")
    };
    let clean = || {
        shop.nothing_is_left_of("passing");
        assert_eq!(shop.keys(), Vec::<String>::new());
        assert_eq!((kitchen.installed("web"), kitchen.installed("unsigned")), (String::new(), String::new()));
    };

    shop.fails(&passing("web", "key = \"other.asc\""), "Signature verification failed", "the key that fits");
    clean();
    shop.fails(&passing("unsigned", ""), "File is unsigned", "sign it");
    clean();
    // What a repository tells of itself: not signed, signed with another key.
    shop.fails(&passing("web", "repo_gpgcheck = true"), "'repomd.xml' from repository 'passing'", "metadata");
    clean();
    other.sign_metadata(&folder);
    shop.fails(&passing("web", "repo_gpgcheck = true"), "unknown key", "the key that fits");
    clean();
    // That it is signed with the right one does not make up for a package that is not.
    shop.key.sign_metadata(&folder);
    shop.fails(&passing("unsigned", "repo_gpgcheck = true"), "File is unsigned", "sign it");
    clean();
    shop.fails(&passing("web", "exclude = [\"web\"]"), "zypper does not know a repository's exclude", "");
    clean();

    // One that is not there. What could be done without it was, but no image is to be made of that.
    let dead = "baseurl = [\"http://127.0.0.1:9/\"], gpgcheck = false, keep = false";
    let dead = format!("repositories = [{{ name = \"passing\", {dead} }}]");
    for wish in ["install = [\"tool\"]", "upgrade = true", "upgrade = \"security\""] {
        shop.fails(&format!("{wish}\n{dead}"), "", "Skipping repository 'passing'");
    }
    clean();

    shop.step(&passing("web=1", "repo_gpgcheck = true")).unwrap();
    assert_eq!(kitchen.installed("web"), "1");
    shop.nothing_is_left_of("passing");
    assert_eq!(shop.keys(), Vec::<String>::new());
}

#[test]
fn security_updates_are_those_that_an_advisory_names() {
    let Some(shop) = Shop::new() else { return };
    let kitchen = &shop.kitchen;
    let names = ["lib", "kernel", "manager", "told", "plain"];
    let packages: Vec<_> = names.iter().flat_map(|name| [(*name, "1"), (*name, "2")]).collect();
    let folder = shop.served.path().join("updates");
    repository::rpms(&folder, &shop.key, &packages);
    let security = |name, more, message| Advisory { kind: "security", name, version: "2", more, message };
    let advisories = [
        security("lib", "", ""),
        // The machine is to start anew after it; zypper is, before all others; it has something to say.
        security("kernel", "<reboot_suggested>True</reboot_suggested>", ""),
        security("manager", "<restart_suggested>True</restart_suggested>", ""),
        security("told", "", "Beware of the dog."),
        Advisory { kind: "recommended", name: "plain", version: "2", more: "", message: "" },
    ];
    repository::describe(&folder, "updateinfo", &Advisory::list(&advisories));
    let installed = || names.map(|name| kitchen.installed(name));
    let old = names.map(|name| format!("\"{name}=1\"")).join(", ");
    shop.step(&format!("install = [{old}]\nrepositories = [{}]", shop.repository("updates", "updates", "")))
        .unwrap();
    assert_eq!(installed(), ["1"; 5], "{}", kitchen.log());

    shop.step("upgrade = \"security\"").unwrap();
    assert_eq!(installed(), ["2", "2", "2", "2", "1"], "{}", kitchen.log());
    assert!(kitchen.log().contains("Beware of the dog."), "{}", kitchen.log());
    shop.step("upgrade = \"security\"").unwrap();
    assert_eq!(installed(), ["2", "2", "2", "2", "1"], "nothing is left to do: {}", kitchen.log());

    // zypper says that the machine is to start anew, and no more that it went on without a repository.
    shop.step("install = [\"kernel=1\"]").unwrap();
    let dead = "baseurl = [\"http://127.0.0.1:9/\"], gpgcheck = false, keep = false";
    shop.fails(
        &format!("upgrade = \"security\"\nrepositories = [{{ name = \"dead\", {dead} }}]"),
        "went on without a repository",
        "a repository did not answer",
    );
    shop.step("upgrade = true").unwrap();
    assert_eq!(installed(), ["2"; 5], "{}", kitchen.log());
}

#[test]
fn an_update_whose_script_fails_fails_and_one_with_a_license_is_agreed_to() {
    let Some(shop) = Shop::new() else { return };
    let kitchen = &shop.kitchen;
    let folder = shop.served.path().join("updates");
    repository::rpms(&folder, &shop.key, &[("late", "1"), ("legal", "1")]);
    let step = format!(
        "install = [\"late\", \"legal\"]\nrepositories = [{}]",
        shop.repository("updates", "updates", "")
    );
    shop.step(&step).unwrap();

    std::fs::write(kitchen.root().join("etc/zypp/zypp.conf"), "[main]\nrepo.refresh.delay = 0\n").unwrap();
    repository::rpms(&folder, &shop.key, &[("legal", "2")]);
    license(&folder, "legal-2-1.noarch.rpm");
    shop.step("upgrade = true").unwrap();
    assert_eq!(kitchen.installed("legal"), "2", "{}", kitchen.log());

    let post = "%post -p <lua>\nprint(\"the late reason\")\nerror(\"no\")";
    shop.key.sign_rpm(&build_rpm(&folder, "late", "2", "1", post));
    repository::rpms(&folder, &shop.key, &[]);
    let advisory = Advisory { kind: "security", name: "late", version: "2", more: "", message: "" };
    repository::describe(&folder, "updateinfo", &Advisory::list(&[advisory]));
    shop.fails("upgrade = \"security\"", "the late reason", "own installation script");
}

/// Says of a package of a repository that its license is to be agreed to.
fn license(folder: &std::path::Path, file: &str) {
    let sum = crate::support::host::run("sha256sum", &[folder.join(file).to_str().unwrap()]);
    let sum = sum.split_whitespace().next().unwrap();
    let (name, version) = file.trim_end_matches("-1.noarch.rpm").split_once('-').unwrap();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <susedata xmlns=\"http://linux.duke.edu/metadata/susedata\" packages=\"1\">\
         <package pkgid=\"{sum}\" name=\"{name}\" arch=\"noarch\"><version epoch=\"0\" ver=\"{version}\" rel=\"1\"/>\
         <eula>Agree.</eula></package></susedata>\n"
    );
    repository::describe(folder, "susedata", &text);
}
