use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use super::{Kitchen, runs_here};
use crate::support::debian_roots::debian;
use crate::support::host::run;

fn put(path: &Path, content: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn step(copies: &str) -> String {
    format!("[[step]]\nuse = \"files\"\ncopy = [{copies}]\n")
}

/// A folder with all that is to be kept.
fn site(recipe: &Path) {
    let site = recipe.join("site");
    put(&site.join("index.html"), "hello", 0o600);
    put(&site.join("bin/serve"), "#!/bin/sh\n", 0o4750);
    std::fs::hard_link(site.join("index.html"), site.join("bin/same")).unwrap();
    symlink("/etc/shadow", site.join("absolute")).unwrap();
    symlink("../../../../etc/passwd", site.join("climbing")).unwrap();
    xattr::set(site.join("index.html"), "user.origin", b"here").unwrap();
    run("setcap", &["cap_net_bind_service=ep", site.join("bin/serve").to_str().unwrap()]);
    run(
        "touch",
        &[
            "-d",
            "2001-02-03 04:05:06 UTC",
            site.join("index.html").to_str().unwrap(),
            site.join("bin").to_str().unwrap(),
        ],
    );
}

fn check_site(kitchen: &Kitchen, at: &str, owner: u32) {
    let at = kitchen.root().join(at);
    let meta = |name: &str| at.join(name).symlink_metadata().unwrap();
    assert_eq!(meta("index.html").mode() & 0o7777, 0o644);
    assert_eq!(meta("bin").mode() & 0o7777, 0o755);
    assert_eq!(meta("bin/serve").mode() & 0o7777, 0o755);
    for name in ["", "index.html", "bin", "bin/serve", "absolute"] {
        assert_eq!((meta(name).uid(), meta(name).gid()), (owner, owner), "{name}");
    }
    assert_eq!(meta("index.html").ino(), meta("bin/same").ino());
    assert_eq!(std::fs::read_link(at.join("absolute")).unwrap(), Path::new("/etc/shadow"));
    assert_eq!(std::fs::read_link(at.join("climbing")).unwrap(), Path::new("../../../../etc/passwd"));
    assert_eq!(xattr::get(at.join("index.html"), "user.origin").unwrap().as_deref(), Some(&b"here"[..]));
    let serve = at.join("bin/serve");
    assert!(run("getcap", &[serve.to_str().unwrap()]).contains("cap_net_bind_service=ep"));
    assert_eq!(meta("index.html").mtime(), 981_173_106);
    assert_eq!(meta("bin").mtime(), 981_173_106);
}

#[test]
fn folders_and_archives_keep_what_they_have() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let recipe = kitchen.recipe();
    site(&recipe);
    let tar = |compression: &str, name: &str| {
        let file = recipe.join(name);
        let (file, site) = (file.to_str().unwrap(), recipe.join("site"));
        run(
            "tar",
            &[
                "--create",
                "--xattrs",
                "--xattrs-include=*",
                compression,
                "--file",
                file,
                "--directory",
                site.to_str().unwrap(),
                ".",
            ],
        );
    };
    tar("--gzip", "site.tar.gz");
    tar("--zstd", "site.tar.zst");
    kitchen
        .bake(&step(
            "{ from = \"site/\", to = \"/srv/web/\", owner = \"www-data\", mode = \"u=rwX,go=rX\" },\
             { from = \"site\", to = \"/opt\", mode = \"u=rwX,go=rX\" },\
             { from = \"site.tar.gz\", to = \"/srv/gz\", unpack = true, owner = \"33\", group = \"33\", mode = \"u=rwX,go=rX\" },\
             { from = \"site.tar.zst\", to = \"/srv/zst\", unpack = true, mode = \"u=rwX,go=rX\" },\
             { from = \"site.tar.gz\", to = \"/srv/archives/\", mode = \"0400\" }",
        ))
        .unwrap();
    check_site(&kitchen, "srv/web", 33);
    check_site(&kitchen, "opt/site", 0);
    check_site(&kitchen, "srv/gz", 33);
    check_site(&kitchen, "srv/zst", 0);
    assert_eq!(kitchen.root().join("srv/archives/site.tar.gz").metadata().unwrap().mode() & 0o7777, 0o400);
    assert_eq!(kitchen.root().join("srv/archives").metadata().unwrap().mode() & 0o7777, 0o755);
    assert!(recipe.join("site/index.html").exists());
}

#[test]
fn files_land_where_they_are_told_and_set_ids_only_when_asked() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let recipe = kitchen.recipe();
    put(&recipe.join("tool"), "tool", 0o6755);
    // What is there is replaced by a move: whoever has it open keeps the old content, and a link is not followed.
    put(&kitchen.root().join("etc/target"), "untouched", 0o644);
    symlink("target", kitchen.root().join("etc/link")).unwrap();
    // A link to a folder is followed, inside the image.
    std::fs::create_dir_all(kitchen.root().join("data/web")).unwrap();
    symlink("/data/web", kitchen.root().join("srv/web")).unwrap();
    let before = kitchen.root().join("usr/local/bin").metadata().unwrap();
    kitchen
        .bake(&step(
            "{ from = \"tool\", to = \"/usr/local/bin/\", owner = \"www-data\" },\
             { from = \"tool\", to = \"/usr/local/bin/asked\", mode = \"4755\" },\
             { from = \"tool\", to = \"/usr/local/bin/added\", mode = \"g+s\" },\
             { from = \"tool\", to = \"/etc/link\" },\
             { from = \"tool\", to = \"/srv/web/new/tool\" },\
             { from = \"tool\", to = \"/opt\" }",
        ))
        .unwrap();
    let mode = |path: &str| kitchen.root().join(path).symlink_metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("usr/local/bin/tool"), 0o755);
    assert_eq!(mode("usr/local/bin/asked"), 0o4755);
    assert_eq!(mode("usr/local/bin/added"), 0o2755);
    assert_eq!((kitchen.read("etc/target"), kitchen.read("etc/link")), ("untouched".into(), "tool".into()));
    assert_eq!(kitchen.read("data/web/new/tool"), "tool");
    assert_eq!(kitchen.read("opt/tool"), "tool");
    let after = kitchen.root().join("usr/local/bin").metadata().unwrap();
    assert_eq!(
        (before.uid(), before.mode()),
        (after.uid(), after.mode()),
        "a folder of the image was changed"
    );
}

/// An archive of one entry, made by hand: tar programs refuse to.
fn tar_of(path: &Path, name: &str, kind: tar::EntryType, link: Option<&str>) {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_mtime(0);
    if let Some(link) = link {
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    builder.append(&header, std::io::empty()).unwrap();
    builder.finish().unwrap();
}

#[test]
fn hostile_archives_are_refused() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let recipe = kitchen.recipe();
    let refused = |name: &str, why: &str| {
        let copy = format!("{{ from = \"{name}\", to = \"/srv/x\", unpack = true }}");
        let error = format!("{:#}", kitchen.bake(&step(&copy)).unwrap_err());
        assert!(error.contains(why), "{name}: {why:?} is not in {error}");
    };
    tar_of(&recipe.join("absolute.tar"), "/etc/evil", tar::EntryType::Regular, None);
    tar_of(&recipe.join("climbing.tar"), "a/../../etc/evil", tar::EntryType::Regular, None);
    tar_of(&recipe.join("device.tar"), "disk", tar::EntryType::Block, None);
    tar_of(&recipe.join("hard.tar"), "shadow", tar::EntryType::Link, Some("etc/shadow"));
    tar_of(&recipe.join("hardup.tar"), "shadow", tar::EntryType::Link, Some("../../etc/shadow"));
    refused("absolute.tar", "is absolute");
    refused("climbing.tar", "has a `..`");
    refused("device.tar", "is a device");
    refused("hard.tar", "not put in place before");
    refused("hardup.tar", "has a `..`");
    std::fs::write(recipe.join("noise.tar"), "no archive at all").unwrap();
    refused("noise.tar", "unpacking noise.tar");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(recipe.join("up.zip")).unwrap());
    zip.start_file("../../etc/evil", zip::write::SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    refused("up.zip", "has a `..`");
    // Through a link of its own.
    let tree = recipe.join("tree");
    std::fs::create_dir_all(tree.join("real")).unwrap();
    put(&tree.join("real/evil"), "evil", 0o644);
    let file = recipe.join("through.tar");
    let file = file.to_str().unwrap();
    symlink("/etc", tree.join("way")).unwrap();
    run("tar", &["-cf", file, "-C", tree.to_str().unwrap(), "way"]);
    run("tar", &["-rf", file, "-C", tree.to_str().unwrap(), "--transform=s,^real,way,", "real/evil"]);
    refused("through.tar", "a link of the archive's own");
    assert!(!kitchen.exists("etc/evil"));
    let copies = "{ from = \"noise.tar\", to = \"/srv/y\", owner = \"nobody-here\" }";
    let error = format!("{:#}", kitchen.bake(&step(copies)).unwrap_err());
    assert!(error.contains("no user \"nobody-here\""), "{error}");
}

#[test]
fn zips_are_unpacked() {
    use std::io::Write as _;
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let mut zip = zip::ZipWriter::new(std::fs::File::create(kitchen.recipe().join("a.zip")).unwrap());
    let time = zip::DateTime::from_date_and_time(2001, 2, 3, 4, 5, 6).unwrap();
    let options = zip::write::SimpleFileOptions::default().last_modified_time(time);
    zip.add_directory("app", options.unix_permissions(0o750)).unwrap();
    zip.start_file("app/run", options.unix_permissions(0o4755)).unwrap();
    zip.write_all(b"run").unwrap();
    zip.add_symlink("app/link", "run", options).unwrap();
    zip.finish().unwrap();
    kitchen.bake(&step("{ from = \"a.zip\", to = \"/srv/a\", unpack = true }")).unwrap();
    let meta = |path: &str| kitchen.root().join(path).symlink_metadata().unwrap();
    assert_eq!(meta("srv/a/app").mode() & 0o7777, 0o750);
    assert_eq!(meta("srv/a/app/run").mode() & 0o7777, 0o755);
    assert_eq!(meta("srv/a/app/run").mtime(), 981_173_106);
    assert_eq!(kitchen.read("srv/a/app/link"), "run");
}
