//! Whole bakes on the local store by the command itself. What is asserted is the registered image mounted again.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::support::bakery::{Bakery, changed, changed_copy, look_into, tree};
use crate::support::bases::{self, tiny_base};
use crate::support::host::has;
use crate::support::packages::Deb;

mod attended;
mod caches;
pub mod hooks;
mod kernel;
mod layouts;
mod outside;
mod rpm;
pub mod secrets;
pub mod small;
mod system;
mod templates;
mod vars;

/// Whether bakes of packages can run here.
pub fn can_bake(more: &[&str]) -> bool {
    has(&[bases::NEEDED, &["dpkg-deb", "e2fsck", "timeout"], more].concat())
}

/// A package whose postinst does what postinsts do wrong: it starts services in every way, leaves a daemon behind
/// and looks for what it should not find.
pub fn web_package(folder: &Path) -> PathBuf {
    let postinst = "#!/bin/sh\nset -e\necho configuring web \"$1\"\nmkdir -p /var/lib/web\n\
        echo \"$STAGE\" > /var/lib/web/configured\n\
        if command -v deb-systemd-invoke >/dev/null; then deb-systemd-invoke start web; fi\n\
        if command -v invoke-rc.d >/dev/null; then invoke-rc.d web start; fi\n\
        if command -v service >/dev/null; then service web start; fi\n\
        if command -v start-stop-daemon >/dev/null; then\n\
        start-stop-daemon --start --exec /bin/touch -- /var/lib/web/started; fi\n\
        (while :; do sleep 1; echo alive > /var/lib/web/beat; done) </dev/null >/dev/null 2>&1 &\n\
        sync\n";
    Deb {
        name: "web",
        version: "1:1.4.2-3",
        control: "Depends: bakery-lib (>= 2)\n",
        files: &[
            ("usr/bin/web", "#!/bin/sh\necho web\n", 0o755),
            ("etc/web.conf", "port = 80\n", 0o640),
            ("etc/init.d/web", "#!/bin/sh\ntouch /var/lib/web/started\n", 0o755),
        ],
        scripts: &[("postinst", postinst), ("prerm", "#!/bin/sh\nexit 0\n")],
    }
    .build(folder)
}

/// A tiny Debian whose only package source is a repository of its own, in `/srv/repo`: `bakery-lib` 1.0 and 2.0.
pub fn offline_base(folder: &Path) -> PathBuf {
    let file = changed_copy(&tiny_base(), folder, "offline.raw", |root| {
        for path in ["etc/apt/sources.list", "etc/apt/sources.list.d"] {
            let path = root.join(path);
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.ok();
        }
        let repository = root.join("srv/repo");
        fs::create_dir_all(&repository).unwrap();
        let mut index = String::new();
        for version in ["1.0", "2.0"] {
            let deb = Deb {
                name: "bakery-lib",
                version,
                files: &[("usr/share/bakery-lib/version", version, 0o644)],
                ..Deb::default()
            };
            let path = deb.build(&repository);
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let content = fs::read(&path).unwrap();
            index.push_str(&format!(
                "Package: bakery-lib\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@example.org>\n\
                 Filename: ./{name}\nSize: {}\nSHA256: {}\nDescription: a test\n\n",
                content.len(),
                sha256(&content),
            ));
        }
        fs::write(repository.join("Packages"), index).unwrap();
        fs::create_dir_all(root.join("etc/apt/sources.list.d")).unwrap();
        fs::write(root.join("etc/apt/sources.list"), "deb [trusted=yes] file:/srv/repo ./\n").unwrap();
    });
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    file
}

fn sha256(content: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

const RECIPE: &str = r#"
[image]
name = "{package}-{version}-{release}"
description = "the web app"
tags = { team = "web", runs = "{package} {version}" }

[base]
image = "offline"

[[step]]
use = "apt"
install = ["bakery-lib=2.*", "./dist/web.deb"]
env = { STAGE = "bake" }

[[step]]
use = "files"
copy = [
    { from = "site/", to = "/srv/web/", owner = "www-data", mode = "u=rwX,go=rX" },
    { from = "secret", to = "/etc/web/secret", mode = "0600" },
]

[[step]]
use = "script"
script = "setup.sh"
args = ["one", "two words"]
env = { STAGE = "bake" }

[[step]]
use = "stamp"
text = "of the user's own"

[[check]]
run = ["/usr/bin/web"]

[[check]]
run = ["test", "-s", "/srv/web/index.html"]
"#;

/// Everything that the recipe names.
fn lay_out(bakery: &Bakery) -> PathBuf {
    bakery.put("site/index.html", "<h1>bread</h1>\n");
    bakery.put("site/css/plain.css", "");
    let secret = bakery.put("secret", "s3cret\n");
    fs::set_permissions(secret, fs::Permissions::from_mode(0o644)).unwrap();
    bakery.put(
        "setup.sh",
        "#!/bin/sh\nset -e\ncat /etc/resolv.conf > /srv/web/resolver\n\
         echo \"$STAGE $1 $2\" > /srv/web/stage\ntest ! -e /etc/web.conf.dpkg-new\n",
    );
    bakery.put(
        "provisioners/stamp/provisioner.toml",
        "summary = \"Leaves a stamp\"\n[params.text]\ntype = \"string\"\nrequired = true\ndoc = \"Its text\"\n\
         [run]\ncommand = [\"./run\"]\n",
    );
    let own = bakery.put(
        "provisioners/stamp/run",
        "#!/bin/sh\nset -e\ncat /run/bakehouse/step/params/text > /srv/web/stamp\n",
    );
    fs::set_permissions(own, fs::Permissions::from_mode(0o755)).unwrap();
    let built = web_package(&bakery.path(""));
    let deb = bakery.put("dist/web.deb", fs::read(&built).unwrap());
    fs::remove_file(built).unwrap();
    deb
}

/// What packages, files and scripts are meant to change.
fn meant(path: &str) -> bool {
    const BELOW: &[&str] = &[
        "var/lib/dpkg",
        "var/lib/web",
        "var/lib/apt",
        "var/log",
        "var/cache/ldconfig",
        "srv/web",
        "etc/web",
        "usr/share/bakery-lib",
        "usr/share/doc",
    ];
    const EXACTLY: &[&str] =
        &["etc/web.conf", "etc/init.d/web", "usr/bin/web", "etc/ld.so.cache", "etc/init.d"];
    EXACTLY.contains(&path) || BELOW.iter().any(|folder| Path::new(path).starts_with(folder))
}

/// Of the phase's time, each step and check has its own, and the log tells it too.
fn each_step_has_its_time(baked: &serde_json::Value, log: &str) {
    let of = |key: &str, phase: &str, count: usize| {
        let entries = baked[key].as_array().unwrap_or_else(|| panic!("{key}: {baked:#}"));
        let numbers: Vec<_> = entries.iter().map(|entry| entry["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=count as u64).collect::<Vec<_>>(), "{baked:#}");
        let seconds: f64 = entries.iter().map(|entry| entry["seconds"].as_f64().unwrap()).sum();
        // Each is rounded on its own.
        let phase = baked["seconds"][phase].as_f64().unwrap() + 0.001 * (count + 1) as f64;
        assert!(seconds > 0.0 && seconds <= phase, "{key}: {seconds} of {phase}: {baked:#}");
        seconds
    };
    let all = of("steps", "provision", 4) + of("checks", "check", 2);
    assert!(baked["provisioning_seconds"].as_f64().unwrap() <= all + 0.01, "{baked:#}");
    assert_eq!((&baked["steps"][0]["name"], &baked["steps"][3]["name"]), (&"apt".into(), &"stamp".into()));
    assert!(log.contains("seconds of steps: 1 apt ") && log.contains(", check 2 "), "{log}");
}

#[test]
fn a_recipe_of_packages_files_and_scripts_becomes_an_image_with_them_and_nothing_else() {
    if !can_bake(&[]) {
        return;
    }
    let bakery = Bakery::new();
    let base = offline_base(&bakery.path(""));
    let deb = lay_out(&bakery);
    let deb_before = fs::read(&deb).unwrap();
    bakery.base("offline", &base);
    let ran = bakery.bake(RECIPE, &["--output", "json"]);
    let (told, took) = (ran.told(), ran.took);
    let baked = ran.json();
    let image = baked["image"].as_str().unwrap();

    assert_eq!(baked["name"], "web-1.4.2-3", "{told}");
    assert_eq!((&baked["cloud"], &baked["region"]), (&"local".into(), &"local".into()));
    assert_eq!(baked["base_name"], "offline");
    for key in ["bake", "snapshot", "base"] {
        assert!(baked[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {baked:#}");
    }
    assert_eq!(baked["packages"]["added"].as_array().unwrap().len(), 2, "{baked:#}");
    assert!(baked["packages"]["upgraded"].as_array().unwrap().is_empty(), "{baked:#}");
    assert!(baked["packages"]["removed"].as_array().unwrap().is_empty(), "{baked:#}");
    for phase in ["resolve", "disk", "mount", "provision", "check", "close", "capture", "register", "total"] {
        assert!(baked["seconds"][phase].is_f64(), "{phase}: {baked:#}");
    }
    let log = fs::read_to_string(baked["log"].as_str().unwrap()).unwrap();
    each_step_has_its_time(&baked, &log);
    let manifest = fs::read(baked["manifest"].as_str().unwrap()).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["bake"], baked["bake"]);
    assert_eq!(manifest["difference"], baked["packages"]);
    let names: Vec<_> = manifest["packages"].as_array().unwrap().iter().map(|each| &each["name"]).collect();
    assert!(names.contains(&&serde_json::json!("dpkg")), "every package of the image: {names:?}");
    assert!(log.contains("configuring web configure"), "{log}");
    eprintln!("{took:.2?}, of it {} s in the steps: {}", baked["provisioning_seconds"], baked["seconds"]);

    let images = bakery.bakehouse(&["images", "--output", "json"]).json();
    let listed = images.as_array().unwrap().iter().find(|each| each["id"] == image).unwrap();
    let tags = &listed["tags"];
    assert_eq!((&tags["team"], &tags["runs"]), (&"web".into(), &"web 1.4.2".into()), "{tags:#}");
    assert_eq!(tags["appversion"], "web-1.4.2-3");
    assert_eq!(tags["base_ami_version"], "offline");
    assert_eq!(tags["bakehouse:bake"], baked["bake"]);
    for key in ["creator", "creation_time", "bakehouse:recipe", "bakehouse:builder", "bakehouse:version"] {
        assert!(tags[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {tags:#}");
    }
    let record = bakery.store().image(image).unwrap();
    assert!(
        record.description.starts_with("the web app (name=web-1.4.2-3, arch=")
            && record.description.contains("ancestor_name=offline, ancestor_id=img-"),
        "{}",
        record.description
    );

    assert_eq!(fs::read(&deb).unwrap(), deb_before, "the user's package stays where it is");
    let diversions = |root: &Path| fs::read_to_string(root.join("var/lib/dpkg/diversions")).unwrap();
    let (before, diverted) = look_into(&base, 1, "ext4", |root| (tree(root), diversions(root)));
    let after = bakery.look(image, 1, "ext4", |root| {
        let read = |path: &str| {
            fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}\n{told}"))
        };
        let owner = |path: &str| {
            let meta = fs::metadata(root.join(path)).unwrap();
            (meta.mode() & 0o7777, meta.uid(), meta.gid())
        };
        let status = read("var/lib/dpkg/status");
        for package in ["web", "bakery-lib"] {
            assert!(
                status.contains(&format!("Package: {package}\nStatus: install ok installed\n")),
                "{package}"
            );
        }
        assert_eq!(read("usr/share/bakery-lib/version"), "2.0");
        assert_eq!(read("var/lib/web/configured"), "bake\n");
        assert!(!root.join("var/lib/web/started").exists(), "a service was started: {told}");
        assert_eq!(read("srv/web/index.html"), "<h1>bread</h1>\n");
        assert_eq!(owner("srv/web/index.html"), (0o644, 33, 33));
        assert_eq!(owner("srv/web/css"), (0o755, 33, 33));
        assert_eq!(owner("etc/web/secret"), (0o600, 0, 0));
        assert_eq!(read("srv/web/stage"), "bake one two words\n");
        assert_eq!(read("srv/web/stamp").trim_end(), "of the user's own");
        assert!(read("srv/web/resolver").contains("nameserver"), "{}", read("srv/web/resolver"));
        assert_eq!(diversions(root), diverted);
        tree(root)
    });
    assert_eq!(changed(&before, &after, meant), Vec::<String>::new(), "{told}");
    let odd: Vec<_> = after
        .keys()
        .map(|path| path.to_string_lossy())
        .filter(|path| path.contains("bakehouse") || path.ends_with("/policy-rc.d"))
        .collect();
    assert_eq!(odd, Vec::<String>::new(), "left of provisioning");
    assert_eq!(
        after.keys().filter(|path| path.starts_with("var/cache/apt/archives")).count(),
        before.keys().filter(|path| path.starts_with("var/cache/apt/archives")).count()
    );
    bakery.assert_nothing_left();

    // The name is taken now; nothing is made before that is seen. {version} is not known before, so by a plain one.
    let again = RECIPE.replace("{package}-{version}-{release}", "web-1.4.2-3");
    bakery.bake(&again, &[]).refused(12, &["web-1.4.2-3", image]);
    bakery.assert_nothing_left();
}

#[test]
fn one_line_bakes_packages_of_the_mirror() {
    if !can_bake(&[]) {
        return;
    }
    let bakery = Bakery::new();
    bakery.base("tiny-1", &tiny_base());
    let image = bakery.bakehouse(&["bake", "--base", "tiny-*", "hello", "--name", "one-{version}"]).id();
    assert!(image.starts_with("img-"), "{image}");
    let record = bakery.store().image(&image).unwrap();
    assert!(record.name.starts_with("one-2."), "{}", record.name);
    bakery.look(&image, 1, "ext4", |root| {
        assert!(root.join("usr/bin/hello").is_file());
        let archives = fs::read_dir(root.join("var/cache/apt/archives")).into_iter().flatten().flatten();
        let debs: Vec<_> =
            archives.map(|entry| entry.path()).filter(|path| path.extension().is_some()).collect();
        assert_eq!(debs, Vec::<PathBuf>::new(), "packages are kept on the builder, not in the image");
    });
    bakery.assert_nothing_left();

    let kept: Vec<_> = walk(&bakery.path("cache"));
    let kept_one = kept.iter().any(|path| fs::metadata(path).unwrap().len() > 10_000);
    assert!(kept_one, "the builder keeps packages for the next bake: {kept:?}");
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_dry_run_shows_the_plan_and_touches_nothing() {
    if !can_bake(&[]) {
        return;
    }
    let bakery = Bakery::new();
    let disk = crate::support::bakery::small_disk();
    lay_out(&bakery);
    bakery.base("offline", disk.path());
    let before = tree(&bakery.path(""));
    let ran = bakery.bakehouse(&["bake", "--dry-run", "recipe.toml"]);
    assert_ne!(ran.status, Some(0), "there is no recipe yet");
    bakery.put("recipe.toml", RECIPE);
    let plan = bakery.bakehouse(&["bake", "--dry-run", "recipe.toml"]).good();
    for word in ["offline", "{package}-{version}-{release}", "team = web", "bakery-lib=2.*", "setup.sh"] {
        assert!(plan.out.contains(word), "{word}: {}", plan.told());
    }
    let json = bakery.bakehouse(&["bake", "--dry-run", "recipe.toml", "--output", "json"]).json();
    assert_eq!(json["base"]["name"], "offline");
    assert_eq!(json["steps"].as_array().unwrap().len(), 4);
    assert_eq!(json["checks"].as_array().unwrap().len(), 2);
    let recipe = |path: &str| path == "recipe.toml";
    assert_eq!(changed(&before, &tree(&bakery.path("")), recipe), Vec::<String>::new());
    bakery.assert_nothing_left();
}
