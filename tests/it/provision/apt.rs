use bakehouse::error::{Kind, kind_of};
use bakehouse::plan::MainPackage;

use super::{Kitchen, hint_of, runs_here};
use crate::support::debian_roots::debian;
use crate::support::host::run;
use crate::support::packages::Deb;

#[test]
fn from_the_mirror_and_from_a_file() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let resolv = std::fs::read(kitchen.root().join("etc/resolv.conf")).ok();
    let web = Deb {
        name: "web",
        version: "1:1.4.2-3",
        control: "Depends: hello\n",
        files: &[("opt/web/index.html", "hello", 0o644)],
        scripts: &[("postinst", "#!/bin/sh\nset -e\nhello > /opt/web/greeting\n")],
    };
    let file = web.build(&kitchen.recipe());
    let done = kitchen
        .bake(&format!(
            "[[step]]\nuse = \"apt\"\ninstall = [\"hello=2.10*\", \"./{}\"]\nrecommends = false\n[[check]]\nrun = [\"hello\"]\n",
            file.file_name().unwrap().to_str().unwrap()
        ))
        .unwrap();
    let main = MainPackage { name: "web".into(), version: "1.4.2".into(), release: "3".into() };
    assert_eq!(done[0].main, Some(main), "{}", kitchen.log());
    assert_eq!(kitchen.read("opt/web/greeting"), "Hello, world!\n");
    assert!(file.exists(), "the user's file is gone");
    assert_eq!(std::fs::read(kitchen.root().join("etc/resolv.conf")).ok(), resolv);
    let root = kitchen.root().to_str().unwrap();
    assert_eq!(run("dpkg", &["--root", root, "--audit"]), "");
    // Nothing of apt's caches grew in the image.
    let archives = std::fs::read_dir(kitchen.root().join("var/cache/apt/archives")).unwrap();
    assert!(archives.flatten().all(|entry| !entry.file_name().to_string_lossy().ends_with(".deb")));
    assert!(!kitchen.exists("var/cache/apt/pkgcache.bin"));

    let sandbox = bakehouse::sandbox::Sandbox {
        root: kitchen.root().to_owned(),
        helper: env!("CARGO_BIN_EXE_bakehouse").into(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let inventory = runtime.block_on(bakehouse::contents::inventory(&sandbox, &kitchen.stop)).unwrap();
    let versions: Vec<_> = inventory
        .0
        .iter()
        .filter(|p| p.name == "web")
        .map(|p| (p.arch.as_str(), p.version.as_str()))
        .collect();
    assert_eq!(versions, [("all", "1:1.4.2-3")]);
}

#[test]
fn what_one_bake_downloaded_another_has_and_no_package_can_change_it() {
    if !runs_here() {
        return;
    }
    let first = Kitchen::new(debian());
    // Writes a package of the right name and size, but not content, to every place of the cache.
    let hostile = Deb {
        name: "hostile",
        version: "1",
        scripts: &[(
            "postinst",
            "#!/bin/sh\ncd /run/bakehouse/cache/apt\nfor f in archives/*.deb .shared/*; do\n\
             cat /dev/zero 2>/dev/null | head -c \"$(stat -Lc %s \"$f\")\" > /tmp/bad\n\
             if cat /tmp/bad > \"$f\"; then echo \"wrote $f\"; fi\ncp /tmp/bad \"archives/new-${f##*/}\"; done; exit 0\n",
        )],
        ..Deb::default()
    };
    hostile.build(&first.recipe());
    let caches = first.caches();
    first.bake("[[step]]\nuse = \"apt\"\ninstall = [\"hello\"]\n[[step]]\nuse = \"apt\"\ninstall = [\"sl\", \"./hostile_1_all.deb\"]").unwrap();
    assert!(first.log().contains("Get:"), "{}", first.log());
    assert!(first.log().contains("wrote archives/sl"), "{}", first.log());
    assert!(!first.log().contains("wrote .shared"), "{}", first.log());

    let second = Kitchen::new(debian());
    second.bake_with("[[step]]\nuse = \"apt\"\nrefresh = \"never\"\ninstall = [\"hello\"]\n[[check]]\nrun = [\"hello\"]", &caches).unwrap();
    assert!(second.log().contains("Need to get 0 B"), "{}", second.log());
    assert!(!second.log().contains("Get:"), "{}", second.log());
    // What the hostile package wrote over is kept under what it is now: nobody asks for that.
    let third = Kitchen::new(debian());
    third.bake_with("[[step]]\nuse = \"apt\"\nrefresh = \"never\"\ninstall = [\"sl\"]", &caches).unwrap();
    assert!(third.log().contains("Get:") && third.exists("usr/games/sl"), "{}", third.log());
    assert_eq!(std::fs::read_dir(caches.join("apt/work")).unwrap().count(), 0);
}

#[test]
fn eight_bakes_at_once_share_a_cache() {
    if !runs_here() {
        return;
    }
    let kitchens: Vec<Kitchen> = (0..8).map(|_| Kitchen::new(debian())).collect();
    let caches = kitchens[0].caches();
    let steps = "[[step]]\nuse = \"apt\"\nrefresh = \"never\"\ninstall = [\"hello\", \"sl\"]\n[[check]]\nrun = [\"hello\"]";
    std::thread::scope(|scope| {
        for kitchen in &kitchens {
            scope.spawn(|| kitchen.bake_with(steps, &caches).unwrap());
        }
    });
    let kept: Vec<_> =
        std::fs::read_dir(caches.join("apt/files")).unwrap().map(|entry| entry.unwrap()).collect();
    for entry in &kept {
        let sum = run("sha256sum", &[entry.path().to_str().unwrap()]);
        assert!(sum.starts_with(entry.file_name().to_str().unwrap()), "{sum}");
    }
    assert!(kept.len() >= 2, "{kept:?}");
}

#[test]
fn failures_say_what_to_do() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let fails = |steps: &str, kind: Kind, message: &str, hint: &str| {
        let error = kitchen.bake(steps).unwrap_err();
        assert_eq!(kind_of(&error), kind, "{error:#}");
        assert!(format!("{error:#}").contains(message), "{message:?} is not in {error:#}");
        assert!(hint_of(&error).contains(hint), "{hint:?} is not in {}", hint_of(&error));
    };
    let apt = |item: &str| format!("[[step]]\nuse = \"apt\"\nrefresh = \"never\"\ninstall = [\"{item}\"]");
    fails(&apt("no-such-package"), Kind::Step, "exit status 100", "Unable to locate package no-such-package");
    fails(&apt("hello=9.*"), Kind::Step, "exit status 100", "no such version");
    std::fs::write(kitchen.recipe().join("bad.deb"), "not a package").unwrap();
    fails(&apt("./bad.deb"), Kind::Step, "bad.deb is not a Debian package", "");
    let broken = Deb {
        name: "broken",
        version: "1",
        scripts: &[("postinst", "#!/bin/sh\necho the reason is this\nexit 7\n")],
        ..Deb::default()
    };
    broken.build(&kitchen.recipe());
    fails(&apt("./broken_1_all.deb"), Kind::Step, "the reason is this", "error processing package broken");
    let needy = Deb { name: "needy", version: "1", control: "Depends: not-there\n", ..Deb::default() };
    needy.build(&kitchen.recipe());
    fails(&apt("./needy_1_all.deb"), Kind::Step, "not-there", "what the package needs");
    std::fs::write(kitchen.recipe().join("x.rpm"), "x").unwrap();
    fails("[[step]]\nuse = \"package\"\ninstall = [\"./x.rpm\"]", Kind::Step, "apt", "own format");
    fails("[[check]]\nrun = [\"no-such-program\"]", Kind::Check, "no program", "");
    fails("[[check]]\nrun = [\"false\"]", Kind::Check, "false ended with exit status 1", "");
    fails("[[step]]\nuse = \"script\"\nrun = [\"no-such-program\"]", Kind::Step, "no-such-program", "");
    fails(
        "[[step]]\nuse = \"script\"\ntimeout = \"1s\"\nrun = [\"sleep\", \"100\"]",
        Kind::Step,
        "not done after 1 s",
        "timeout",
    );
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    if !runs_here() {
        return;
    }
    crate::support::host::in_own_mounts(|| {
        let kitchen = Kitchen::new(debian());
        let opt = kitchen.root().join("opt");
        nix::mount::mount(Some("none"), &opt, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=64k"))
            .unwrap();
        std::fs::write(kitchen.recipe().join("big"), vec![1; 1 << 20]).unwrap();
        for step in [
            "[[step]]\nuse = \"files\"\ncopy = [{ from = \"big\", to = \"/opt/\" }]",
            "[[step]]\nuse = \"script\"\nrun = [\"cp\", \"/bin/bash\", \"/opt/\"]",
        ] {
            let error = kitchen.bake(step).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Disk, "{error:#}");
            assert!(hint_of(&error).contains("[disk] size"));
        }
        nix::mount::umount(&opt).unwrap();
    });
}

#[test]
fn a_stopped_bake_leaves_nothing_in_place() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let stop = kitchen.stop.clone();
    let log = kitchen.around.path().join("log");
    let watcher = std::thread::spawn(move || {
        let began = std::time::Instant::now();
        while began.elapsed().as_secs() < 60 {
            if std::fs::read_to_string(&log).is_ok_and(|text| text.contains("I am here")) {
                stop.raise(15);
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    let error = kitchen
        .bake("[[step]]\nuse = \"script\"\nrun = [\"sh\", \"-c\", \"echo I am here; sleep 100\"]")
        .unwrap_err();
    watcher.join().unwrap();
    assert_eq!(bakehouse::error::exit_status(&error), 143, "{error:#}");
}
