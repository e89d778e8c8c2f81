//! The provisioner of the rpm world with a real zypper.

use bakehouse::error::{Kind, kind_of};

use super::{Kitchen, hint_of, runs_here};
use crate::support::bases::build_rpm;
use crate::support::debian_roots;
use crate::support::host::{has, run};

/// A root with zypper whose one repository is in the root itself.
pub(super) fn kitchen() -> Option<Kitchen> {
    if !runs_here() || !has(&["rpmbuild", "createrepo_c"]) {
        return None;
    }
    let kitchen = Kitchen::new(debian_roots::suse());
    let repository = kitchen.root().join("srv/repository");
    std::fs::create_dir_all(&repository).unwrap();
    std::fs::create_dir_all(built(&kitchen)).unwrap();
    // 1.10 is newer than 1.9, and comes before it in every alphabet.
    for (name, version) in [("tool", "1.9"), ("tool", "1.10"), ("tool", "2.0"), ("other", "5")] {
        let file = build_rpm(&built(&kitchen), name, version, "1", "");
        std::fs::copy(&file, repository.join(file.file_name().unwrap())).unwrap();
    }
    run("createrepo_c", &["--quiet", repository.to_str().unwrap()]);
    let folder = kitchen.root().join("etc/zypp/repos.d");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "[local]\nname=local\nbaseurl=dir:///srv/repository\nenabled=1\ngpgcheck=0\n";
    std::fs::write(folder.join("local.repo"), text).unwrap();
    Some(kitchen)
}

fn built(kitchen: &Kitchen) -> std::path::PathBuf {
    kitchen.around.path().join("built")
}

impl Kitchen {
    /// A step of `package`; the main package.
    fn installs(&self, items: &str, more: &str) -> String {
        let done = self.bake(&format!("[[step]]\nuse = \"package\"\ninstall = [{items}]\n{more}")).unwrap();
        done[0].main.as_ref().unwrap().appversion()
    }
}

#[test]
fn from_a_repository_and_from_a_file() {
    let Some(kitchen) = kitchen() else { return };
    let file = build_rpm(&built(&kitchen), "web", "1.4.2", "1", "Requires: other");
    std::fs::copy(&file, kitchen.recipe().join("web.rpm")).unwrap();

    assert_eq!(kitchen.installs("\"tool\"", ""), "tool-2.0-1");
    assert_eq!(kitchen.read("usr/share/tool/version"), "2.0\n");
    // A version that is asked for is taken, also where it is older than what is there.
    assert_eq!(kitchen.installs("\"tool=1.9\"", ""), "tool-1.9-1");
    assert_eq!(kitchen.installs("\"tool=1.*\"", ""), "tool-1.10-1");
    assert_eq!(kitchen.read("usr/share/tool/version"), "1.10\n");
    assert_eq!(kitchen.installs("\"other\", \"./web.rpm\"", ""), "web-1.4.2-1");
    assert_eq!(kitchen.read("usr/share/web/version"), "1.4.2\n");

    let sandbox = bakehouse::sandbox::Sandbox {
        root: kitchen.root().to_owned(),
        helper: env!("CARGO_BIN_EXE_bakehouse").into(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let inventory = || runtime.block_on(bakehouse::contents::inventory(&sandbox, &kitchen.stop)).unwrap();
    let before = inventory();
    kitchen.bake("[[step]]\nuse = \"dnf\"\nupgrade = true\nremove = [\"web\"]\n").unwrap();
    let difference = bakehouse::contents::Difference::between(&before, &inventory());
    let upgraded: Vec<_> =
        difference.upgraded.iter().map(|c| format!("{} {} {}", c.name, c.from, c.to)).collect();
    assert_eq!(upgraded, ["tool 1.10-1 2.0-1"]);
    assert!(difference.removed.iter().any(|package| package.name == "web"), "{difference:?}");
}

#[test]
fn failures_say_what_to_do() {
    let Some(kitchen) = kitchen() else { return };
    let fails = |item: &str, more: &str, message: &str, hint: &str| {
        let step = format!("[[step]]\nuse = \"dnf\"\ninstall = [\"{item}\"]\n{more}");
        let error = kitchen.bake(&step).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Step, "{error:#}");
        assert!(format!("{error:#}").contains(message), "{message:?} is not in {error:#}");
        assert!(hint_of(&error).contains(hint), "{hint:?} is not in {} of {error:#}", hint_of(&error));
    };
    let repositories = "the package is not in the image's repositories";
    fails("no-such-package", "", "exit status 104", repositories);
    fails("no-such-package=1.*", "", "No package no-such-package has a version like 1.*", repositories);
    fails("tool=9", "", "No provider of 'tool=9' found", repositories);
    fails("tool=9*", "", "No package tool has a version like 9*", repositories);
    std::fs::write(kitchen.recipe().join("bad.rpm"), "not a package").unwrap();
    fails("./bad.rpm", "", "bad.rpm is not an rpm package", "");
    let unsigned = build_rpm(&built(&kitchen), "unsigned", "1", "1", "");
    std::fs::copy(&unsigned, kitchen.recipe().join("unsigned.rpm")).unwrap();
    fails("./unsigned.rpm", "verify_files = true\n", "Signature verification failed", "sign it");
    let needy = build_rpm(&built(&kitchen), "needy", "1", "1", "Requires: what-nobody-has");
    std::fs::copy(&needy, kitchen.recipe().join("needy.rpm")).unwrap();
    fails("./needy.rpm", "", "nothing provides", "what the package needs");
    // In Lua, which rpm has within: nothing in this root provides a shell as far as rpm knows.
    let pre = "%pre -p <lua>\nprint(\"the reason is this\")\nerror(\"no\")";
    let failing = build_rpm(&built(&kitchen), "failing", "1", "1", pre);
    std::fs::copy(&failing, kitchen.recipe().join("failing.rpm")).unwrap();
    fails("./failing.rpm", "", "the reason is this", "own installation script");
    // As with dnf: it counts as installed.
    let post = "%post -p <lua>\nprint(\"the late reason\")\nerror(\"no\")";
    let late = build_rpm(&built(&kitchen), "late", "1", "1", post);
    std::fs::copy(&late, kitchen.recipe().join("late.rpm")).unwrap();
    fails("./late.rpm", "", "the late reason", "own installation script");
}
