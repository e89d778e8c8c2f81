//! The caches that bakes share, under many whole bakes at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::can_bake;
use crate::support::bakery::{Bakery, Ran, changed_copy};
use crate::support::bases::tiny_base;
use crate::support::host::run;
use crate::support::packages::Deb;
use crate::support::web::Web;

const AT_ONCE: usize = 8;

/// `common`, which every image has, and `own-0` to `own-7`, which need it; some hundreds of KiB each, so that their
/// downloads overlap. Their digests.
fn fill(repository: &Path) -> BTreeSet<String> {
    fs::create_dir_all(repository).unwrap();
    let (mut index, mut digests) = (String::new(), BTreeSet::new());
    let names = std::iter::once("common".to_owned()).chain((0..AT_ONCE).map(|n| format!("own-{n}")));
    for (number, name) in names.enumerate() {
        let mut state = number as u64 + 1;
        let mut noise = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            char::from(b'a' + (state >> 33) as u8 % 26)
        };
        let content: String = (0..400_000).map(|_| noise()).collect();
        let depends = if name == "common" { "" } else { "Depends: common\n" };
        let (path, mark) = (format!("usr/share/{name}/data"), format!("usr/share/{name}/name"));
        let files = [(path.as_str(), content.as_str(), 0o644), (mark.as_str(), name.as_str(), 0o644)];
        let deb = Deb { name: &name, version: "1.0", control: depends, files: &files, ..Deb::default() };
        let file = deb.build(repository);
        let bytes = fs::read(&file).unwrap();
        let digest = super::sha256(&bytes);
        index.push_str(&format!(
            "Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Test <test@example.org>\n{depends}\
             Filename: ./{}\nSize: {}\nSHA256: {digest}\nDescription: a test\n\n",
            file.file_name().unwrap().to_str().unwrap(),
            bytes.len(),
        ));
        digests.insert(digest);
    }
    fs::write(repository.join("Packages"), index).unwrap();
    digests
}

/// Eight whole bakes at once, each of its own package.
fn eight(bakery: &Bakery, round: &str) -> Vec<Ran> {
    std::thread::scope(|scope| {
        let bakes: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let (name, package) = (format!("{round}-{number}"), format!("own-{number}"));
                scope.spawn(move || {
                    bakery.bakehouse(&["bake", "--base", "debian", "--name", &name, &package]).good()
                })
            })
            .collect();
        bakes.into_iter().map(|bake| bake.join().unwrap()).collect()
    })
}

/// A base whose packages come from a repository of the test's own.
fn base_of(bakery: &Bakery, web: &Web) -> PathBuf {
    let source = format!("deb [trusted=yes] http://{}/ ./\n", web.address);
    let base = changed_copy(&tiny_base(), &bakery.path(""), "debian.raw", |root| {
        fs::remove_dir_all(root.join("etc/apt/sources.list.d")).ok();
        fs::write(root.join("etc/apt/sources.list"), source).unwrap();
    });
    bakery.base("debian", &base);
    base
}

#[test]
fn what_was_kept_too_long_ago_is_removed_by_gc_and_fetched_again() {
    if !can_bake(&[]) {
        return;
    }
    let bakery = Bakery::new();
    let repository = bakery.path("repository");
    fill(&repository);
    let web = Web::of(&repository);
    base_of(&bakery, &web);
    let fetched = |name: &str| {
        bakery.bakehouse(&["bake", "--base", "debian", "--name", name, "own-0"]).good();
        web.asked().into_iter().filter(|path| path.ends_with(".deb")).count()
    };
    let kept = || fs::read_dir(bakery.path("cache/apt/files")).unwrap().count();
    assert_eq!((fetched("first"), fetched("second"), kept()), (2, 0, 2));
    let gc = |more: &[&str]| bakery.bakehouse(&[&["gc"], more].concat()).good();
    assert!(!gc(&["--yes"]).err.contains("caches:"));
    let now = ["--caches-older-than", "0s"];
    let shown = gc(&now);
    assert!(shown.err.contains("caches: 2 files, ") && shown.err.contains("would go"), "{}", shown.told());
    assert_eq!((kept(), fetched("third")), (2, 0));
    let ran = gc(&[&now[..], &["--yes"]].concat());
    assert!(ran.err.contains("2 files") && ran.err.contains("were removed"), "{}", ran.told());
    assert_eq!((kept(), fetched("fourth"), kept()), (0, 2, 2));
    bakery.bakehouse(&["gc", "--caches-older-than", "soon"]).refused(2, &["--caches-older-than soon", "30d"]);
    let ending = |ending: &str| {
        let logs = fs::read_dir(bakery.path("logs")).unwrap();
        logs.filter(|log| log.as_ref().unwrap().path().to_str().unwrap().ends_with(ending)).count()
    };
    assert!(!gc(&["--yes"]).err.contains("logs:"));
    let now = ["--logs-older-than", "0s"];
    assert!(gc(&now).err.contains("logs: 4 files, "));
    assert_eq!((ending(".log"), ending(".manifest.json")), (4, 4), "shown, not done");
    assert!(gc(&[&now[..], &["--yes"]].concat()).err.contains("were removed"));
    assert_eq!((ending(".log"), ending(".manifest.json")), (0, 4));
    let shown = bakery.bakehouse(&["images", "show", "fourth", "--output", "json"]).json();
    assert!(shown["manifest"].to_string().contains("own-0"), "{shown:#}");
    bakery.bakehouse(&["gc", "--logs-older-than", "soon"]).refused(2, &["--logs-older-than soon", "90d"]);
    bakery.assert_nothing_left();
}

#[test]
fn eight_bakes_at_once_share_the_package_cache_and_nothing_else() {
    if !can_bake(&[]) {
        return;
    }
    let bakery = Bakery::new();
    let repository = bakery.path("repository");
    let digests = fill(&repository);
    let web = Web::of(&repository);
    let base = base_of(&bakery, &web);
    let base_digest = || run("sha256sum", &[base.to_str().unwrap()]);
    let before = base_digest();

    let mut images = Vec::new();
    for round in ["cold", "warm"] {
        for ran in eight(&bakery, round) {
            images.push((images.len() % AT_ONCE, ran.id()));
        }
        let downloads: Vec<_> = web.asked().into_iter().filter(|path| path.ends_with(".deb")).collect();
        match round {
            "cold" => assert!(downloads.len() > AT_ONCE, "each downloads its own: {downloads:?}"),
            _ => assert_eq!(downloads, Vec::<String>::new(), "all is in the cache by now"),
        }
        // Every file is what its name says, all are there, and nothing else is.
        let cache = bakery.path("cache/apt");
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(cache.join(folder)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        for name in names("files") {
            assert_eq!(super::sha256(&fs::read(cache.join("files").join(&name)).unwrap()), name, "{round}");
        }
        assert_eq!(names("files"), digests, "{round}");
        assert_eq!(names("work"), BTreeSet::new(), "{round}");
    }
    bakery.assert_nothing_left();
    assert_eq!(base_digest(), before, "the base is as it was");
    for (number, image) in images {
        bakery.look(&image, 1, "ext4", |root| {
            let has = |name: &str| root.join(format!("usr/share/{name}/name")).exists();
            assert!(has("common"), "{image}");
            for other in 0..AT_ONCE {
                assert_eq!(has(&format!("own-{other}")), other == number, "own-{other} in {image}");
            }
            let status = fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
            assert!(!status.contains("Status: install ok unpacked"), "{image}");
        });
    }
}
