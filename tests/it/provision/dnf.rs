use bakehouse::error::{Kind, kind_of};

use super::{Kitchen, hint_of, runs_here};
use crate::support::debian_roots as roots;
use crate::support::host::{has, run};
use crate::support::packages::rpm;

/// A root with dnf whose one repository is in the root itself.
fn kitchen() -> Kitchen {
    let kitchen = Kitchen::new(roots::rpm());
    let built = kitchen.around.path().join("built");
    let repository = kitchen.root().join("srv/repository");
    std::fs::create_dir_all(&built).unwrap();
    std::fs::create_dir_all(&repository).unwrap();
    for (name, version) in [("tool", "1.0"), ("tool", "1.1"), ("tool", "2.0"), ("other", "5")] {
        let file = rpm(&built, name, version, "", "");
        std::fs::copy(&file, repository.join(file.file_name().unwrap())).unwrap();
    }
    run("createrepo_c", &["--quiet", repository.to_str().unwrap()]);
    let folder = kitchen.root().join("etc/yum.repos.d");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("local.repo"),
        "[local]\nname=local\nbaseurl=file:///srv/repository\ngpgcheck=0\n",
    )
    .unwrap();
    kitchen
}

#[test]
fn from_a_repository_and_from_a_file() {
    if !runs_here() || !has(&["rpmbuild", "createrepo_c"]) {
        return;
    }
    let kitchen = kitchen();
    let file = rpm(&kitchen.around.path().join("built"), "web", "1.4.2", "Requires: other\n", "");
    std::fs::copy(&file, kitchen.recipe().join("web.rpm")).unwrap();
    let done =
        kitchen.bake("[[step]]\nuse = \"package\"\ninstall = [\"tool=1.*\", \"./web.rpm\"]\n").unwrap();
    assert_eq!(done[0].main.as_ref().unwrap().appversion(), "web-1.4.2-1");
    assert_eq!(kitchen.read("opt/tool/version"), "1.1\n");
    assert_eq!(kitchen.read("opt/web/version"), "1.4.2\n");

    let sandbox = bakehouse::sandbox::Sandbox {
        root: kitchen.root().to_owned(),
        helper: env!("CARGO_BIN_EXE_bakehouse").into(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let inventory = || runtime.block_on(bakehouse::contents::inventory(&sandbox, &kitchen.stop)).unwrap();
    let before = inventory();
    assert!(
        before.0.iter().any(|p| p.name == "web" && p.arch == "noarch" && p.version == "1.4.2-1"),
        "{before:?}"
    );
    kitchen.bake("[[step]]\nuse = \"dnf\"\nupgrade = true\nremove = [\"web\"]\n").unwrap();
    let difference = bakehouse::contents::Difference::between(&before, &inventory());
    let upgraded: Vec<_> =
        difference.upgraded.iter().map(|c| format!("{} {} {}", c.name, c.from, c.to)).collect();
    assert_eq!(upgraded, ["tool 1.1-1 2.0-1"]);
    assert!(difference.removed.iter().any(|package| package.name == "web"), "{difference:?}");
}

#[test]
fn failures_say_what_to_do() {
    if !runs_here() || !has(&["rpmbuild", "createrepo_c"]) {
        return;
    }
    let kitchen = kitchen();
    let fails = |item: &str, message: &str, hint: &str| {
        let error =
            kitchen.bake(&format!("[[step]]\nuse = \"package\"\ninstall = [\"{item}\"]\n")).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Step, "{error:#}");
        assert!(format!("{error:#}").contains(message), "{message:?} is not in {error:#}");
        assert!(hint_of(&error).contains(hint), "{hint:?} is not in {} of {error:#}", hint_of(&error));
    };
    fails("no-such-package", "exit status 1", "No match for argument: no-such-package");
    std::fs::write(kitchen.recipe().join("bad.rpm"), "not a package").unwrap();
    fails("./bad.rpm", "bad.rpm is not an rpm package", "");
    std::fs::write(kitchen.recipe().join("x.deb"), "x").unwrap();
    fails("./x.deb", "dnf", "own format");
    let failing = rpm(
        &kitchen.around.path().join("built"),
        "failing",
        "1",
        "",
        "%pre -p <lua>\nprint(\"the reason is this\")\nerror(\"no\")\n",
    );
    std::fs::copy(&failing, kitchen.recipe().join("failing.rpm")).unwrap();
    fails("./failing.rpm", "the reason is this", "own installation script");
}
