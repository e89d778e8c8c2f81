use super::{Kitchen, hint_of, picture, runs_here};
use crate::support::debian_roots::debian;
use crate::support::host::run;

const DEFINITION: &str = r#"
summary = "A user's own"
network = "none"

[params.words]
type = "list"

[params.input]
type = "path"

[params.fail]
type = "bool"
default = false

[run]
command = ["./run"]

[env]
COLOUR = "$HOME `id`"

[package]
query = ["./query"]

[[file]]
path = "/etc/gemrc"
source = "conf/gemrc"
mode = "0640"

[[file]]
path = "/etc/hostname"
source = "conf/gemrc"

[[file]]
path = "/opt/new/folder/file"
source = "conf/gemrc"

[[cache]]
name = "gems"
path = "/var/cache/gems/deep"

[[hint]]
find = "the gem is gone"
say = "buy another ({line})"
"#;

const RUN: &str = r#"#!/bin/sh
set -eu
step=/run/bakehouse/step
if [ "$(cat $step/params/fail)" = true ]; then echo "oh: the gem is gone"; exit 3; fi
while IFS= read -r word; do printf '<%s>\n' "$word"; done <$step/params/words >/opt/words
printf '%s\n' "$COLOUR" >/opt/colour
cat "$(cat $step/params/input)" >/opt/input
stat -c '%a %u' /etc/gemrc >/opt/mode
cat /etc/gemrc /etc/hostname /opt/new/folder/file >/opt/temporary
if echo x 2>/dev/null >"$(cat $step/params/input)"; then exit 1; fi
cat /var/cache/gems/deep/ruby/one 2>/dev/null >/opt/cached || true
mkdir -p /var/cache/gems/deep/ruby
if [ ! -e /var/cache/gems/deep/ruby/one ]; then echo cached >/var/cache/gems/deep/ruby/one; fi
"#;

#[test]
fn a_users_own_provisioner_from_a_folder() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let folder = kitchen.recipe().join("provisioners/gem");
    std::fs::create_dir_all(folder.join("conf")).unwrap();
    std::fs::write(folder.join("provisioner.toml"), DEFINITION).unwrap();
    for (name, content) in [("run", RUN), ("query", "#!/bin/sh\nprintf 'gem\\t1.0\\t\\n'\n")] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(folder.join(name), content).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(folder.join("conf/gemrc"), "rc\n").unwrap();
    std::fs::write(kitchen.recipe().join("in put"), "input").unwrap();
    let before = picture(kitchen.root());
    let step = "[[step]]\nuse = \"gem\"\nwords = [\"a b\", \"$(id)\", \"'\", \"*\"]\ninput = \"in put\"\n";
    let done = kitchen.bake(step).unwrap();
    assert_eq!(done[0].main.as_ref().unwrap().appversion(), "gem-1.0");
    assert_eq!(kitchen.read("opt/words"), "<a b>\n<$(id)>\n<'>\n<*>\n");
    assert_eq!(kitchen.read("opt/colour"), "$HOME `id`\n");
    assert_eq!(kitchen.read("opt/input"), "input");
    assert_eq!(kitchen.read("opt/mode"), "640 0\n");
    assert_eq!(kitchen.read("opt/temporary"), "rc\nrc\nrc\n");
    assert_eq!(kitchen.read("opt/cached"), "");
    assert_eq!(std::fs::read_to_string(kitchen.recipe().join("in put")).unwrap(), "input");
    kitchen.bake(step).unwrap();
    assert_eq!(kitchen.read("opt/cached"), "cached\n");

    for name in ["words", "colour", "input", "mode", "temporary", "cached"] {
        std::fs::remove_file(kitchen.root().join("opt").join(name)).unwrap();
    }
    assert_eq!(picture(kitchen.root()), before);

    let error = kitchen.bake(&format!("{step}fail = true\n")).unwrap_err();
    assert_eq!(hint_of(&error), "buy another (oh: the gem is gone)");
    assert_eq!(picture(kitchen.root()), before);
}

const APK: &str = r#"
summary = "A package format of a user's own"
network = "none"

[params.install]
type = "packages"
formats = ["apk"]

[run]
command = ["./run"]

[package]
query = ["./query"]
"#;

const UNPACK: &str = r#"#!/bin/sh
set -eu
while IFS= read -r package; do
    case $package in
        *.apk) tar -xzf "$package" -C / ;;
        *) printf '%s\n' "$package" >>/opt/names ;;
    esac
done </run/bakehouse/step/params/install
"#;

/// Packages of a format that Bakehouse knows nothing of, by a folder and no more.
#[test]
fn a_folder_brings_a_packaging_format_of_its_own() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let folder = kitchen.recipe().join("provisioners/apk");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("provisioner.toml"), APK).unwrap();
    let query = "#!/bin/sh\nprintf 'bread\\t%s\\tr1\\n' \"$(cat /opt/bread)\"\n";
    for (name, content) in [("run", UNPACK), ("query", query)] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(folder.join(name), content).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let content = kitchen.recipe().join("content");
    std::fs::create_dir_all(content.join("opt")).unwrap();
    std::fs::write(content.join("opt/bread"), "1.2").unwrap();
    let package = kitchen.recipe().join("bread-1.2-r1.apk");
    run("tar", &["-czf", package.to_str().unwrap(), "-C", content.to_str().unwrap(), "opt/bread"]);
    let step = "[[step]]\nuse = \"apk\"\ninstall = [\"./bread-1.2-r1.apk\", \"flour=1\"]\n";
    let done = kitchen.bake(step).unwrap();
    assert_eq!(done[0].main.as_ref().unwrap().appversion(), "bread-1.2-r1");
    assert_eq!(kitchen.read("opt/bread"), "1.2");
    assert_eq!(kitchen.read("opt/names"), "flour=1\n");
}
