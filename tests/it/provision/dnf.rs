use bakehouse::error::{Kind, kind_of};

use super::{Kitchen, hint_of, runs_here};
use crate::support::bases::build_rpm;
use crate::support::debian_roots;
use crate::support::host::{has, run};
use crate::support::web::Web;

/// A root with dnf whose one repository is in the root itself, at `/srv/repository`.
fn kitchen() -> Kitchen {
    let kitchen = Kitchen::new(debian_roots::rpm());
    let built = kitchen.around.path().join("built");
    let repository = kitchen.root().join("srv/repository");
    std::fs::create_dir_all(&built).unwrap();
    std::fs::create_dir_all(&repository).unwrap();
    for (name, version) in [("tool", "1.0"), ("tool", "1.1"), ("tool", "2.0"), ("other", "5")] {
        let file = build_rpm(&built, name, version, "1", "");
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
    let file = build_rpm(&kitchen.around.path().join("built"), "web", "1.4.2", "1", "Requires: other");
    std::fs::copy(&file, kitchen.recipe().join("web.rpm")).unwrap();
    let done =
        kitchen.bake("[[step]]\nuse = \"package\"\ninstall = [\"tool=1.*\", \"./web.rpm\"]\n").unwrap();
    assert_eq!(done[0].main.as_ref().unwrap().appversion(), "web-1.4.2-1");
    assert_eq!(kitchen.read("usr/share/tool/version"), "1.1\n");
    assert_eq!(kitchen.read("usr/share/web/version"), "1.4.2\n");

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
    let prein = "%pre -p <lua>\nprint(\"the reason is this\")\nerror(\"no\")";
    let failing = build_rpm(&kitchen.around.path().join("built"), "failing", "1", "1", prein);
    std::fs::copy(&failing, kitchen.recipe().join("failing.rpm")).unwrap();
    fails("./failing.rpm", "the reason is this", "own installation script");
    // rpm counts one as installed whose script fails at its end, and dnf's exit status is 0.
    let post = "%post -p <lua>\nprint(\"the late reason\")\nerror(\"no\")";
    let late = build_rpm(&kitchen.around.path().join("built"), "late", "1", "1", post);
    std::fs::copy(&late, kitchen.recipe().join("late.rpm")).unwrap();
    fails("./late.rpm", "the late reason", "own installation script");
    let step = "[[step]]\nuse = \"dnf\"\nremove = [\"late\"]\n";
    kitchen.bake(step).unwrap();
    let step = "[[step]]\nuse = \"dnf\"\ninstall = [\"./late.rpm\"]\ntolerate_failed_scripts = true\n";
    kitchen.bake(step).unwrap();
}

#[test]
fn what_one_bake_downloaded_another_has() {
    if !runs_here() || !has(&["rpmbuild", "createrepo_c"]) {
        return;
    }
    let first = kitchen();
    let repository = first.root().join("srv/repository");
    let address = Web::of(&repository).address;
    let point_there = |kitchen: &Kitchen| {
        let text = format!("[web]\nname=web\nbaseurl=http://{address}/\ngpgcheck=0\n");
        std::fs::create_dir_all(kitchen.root().join("etc/yum.repos.d")).unwrap();
        std::fs::write(kitchen.root().join("etc/yum.repos.d/local.repo"), text).unwrap();
    };
    point_there(&first);
    let step = "[[step]]\nuse = \"dnf\"\ninstall = [\"tool\"]\n";
    first.bake(step).unwrap();
    assert!(!first.log().contains("Already downloaded"), "{}", first.log());
    assert!(!first.exists("var/cache/dnf/web.solv"), "metadata went into the image");

    let second = Kitchen::new(debian_roots::rpm());
    point_there(&second);
    second.bake_with(step, &first.caches()).unwrap();
    assert!(second.log().contains("Already downloaded"), "{}", second.log());
    assert_eq!(second.read("usr/share/tool/version"), "2.0\n");

    // Another package of the same name and version: what the cache has under the name is not taken for it.
    let other = build_rpm(
        &first.around.path().join("built"),
        "tool",
        "2.0",
        "1",
        "Epoch: 0\nURL: https://example.org",
    );
    std::fs::copy(&other, repository.join(other.file_name().unwrap())).unwrap();
    run("createrepo_c", &["--quiet", repository.to_str().unwrap()]);
    let third = Kitchen::new(debian_roots::rpm());
    point_there(&third);
    third.bake_with(step, &first.caches()).unwrap();
    assert!(!third.log().contains("Already downloaded"), "{}", third.log());
    assert_eq!(third.read("usr/share/tool/version"), "2.0\n");
}
