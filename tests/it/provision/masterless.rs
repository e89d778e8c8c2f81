//! `puppet`, for real; `chef` and `salt` against their documented command lines: a recorder in the image stands in
//! for each.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Kitchen, hint_of, picture, runs_here};
use crate::support::debian_roots::{debian, debian_with};
use crate::support::packages::Deb;

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

const MANIFEST: &str = r#"
file { '/srv/manifest': content => "${facts['stage']} ${facts['os']['name']}\n" }
service { 'thing': ensure => running, enable => true }
user { 'puppeteer': ensure => present, uid => 4000 }
exec { '/usr/bin/touch /srv/untagged': tag => 'other' }
"#;

#[test]
fn puppet_applies_a_manifest_classes_and_hiera_data() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian_with("puppet", "puppet-agent,systemd,systemd-sysv"));
    write(
        &kitchen.recipe(),
        &[
            ("site.pp", MANIFEST),
            (
                "modules/web/manifests/init.pp",
                "class web (String $greeting) {\n  file { '/srv/class': content => \"${greeting}\\n\" }\n}\n",
            ),
            ("hiera/hiera.yaml", "version: 5\nhierarchy:\n  - {name: common, path: common.yaml}\n"),
            ("hiera/data/common.yaml", "web::greeting: good day\n"),
            ("bad.pp", "file { '/nowhere/at/all': content => 'x' }\n"),
            ("worse.pp", "file { '/srv/x' content }\n"),
        ],
    );
    write(
        kitchen.root(),
        &[(
            "usr/lib/systemd/system/thing.service",
            "[Service]\nExecStart=/usr/bin/touch /started\n[Install]\nWantedBy=multi-user.target\n",
        )],
    );
    let before = picture(kitchen.root());
    let step = "[[step]]\nuse = \"puppet\"\nmanifest = \"site.pp\"\nclasses = [\"web\"]\nmodules = \"modules\"\nhiera = \"hiera\"\n\
                facts = { stage = \"prod\" }\nnetwork = \"none\"\n";
    kitchen.bake(step).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert_eq!(kitchen.read("srv/manifest"), "prod Debian\n");
    assert_eq!(kitchen.read("srv/class"), "good day\n");
    assert!(kitchen.read("etc/passwd").contains("\npuppeteer:x:4000:"));
    assert!(kitchen.exists("etc/systemd/system/multi-user.target.wants/thing.service"));
    assert!(!kitchen.exists("started"));
    assert!(!kitchen.log().contains("Error:"), "{}", kitchen.log());
    // Nothing of Puppet's own stays.
    let after = picture(kitchen.root());
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert!(new.iter().all(|path| !path.to_string_lossy().contains("puppet")), "{new:?}");

    for (manifest, why, hint) in [
        ("bad.pp", "puppet apply ended with exit status", ""),
        ("worse.pp", "puppet apply ended with exit status 1", "see the manifest"),
    ] {
        let error =
            kitchen.bake(&format!("[[step]]\nuse = \"puppet\"\nmanifest = {manifest:?}\n")).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
        assert!(hint_of(&error).contains(hint), "{}", hint_of(&error));
    }
    let bare = Kitchen::new(debian());
    let error = bare.bake("[[step]]\nuse = \"puppet\"\nclasses = [\"web\"]\n").unwrap_err();
    assert!(format!("{error:#}").contains("the image has no puppet"), "{error:#}");
    assert!(hint_of(&error).contains("install = true"), "{}", hint_of(&error));
}

/// Writes down how it was called, and the files that it was given.
const RECORDER: &str = r#"#!/bin/sh
{
    for word in "$@"; do printf '<%s>' "$word"; done
    echo
    for word in "$@"; do
        case $word in
        */solo.rb) cat "$word" ;;
        --config-dir=*) cat "${word#--config-dir=}/minion" ;;
        esac
    done
} >/opt/recorded
ls /run/bakehouse/step/files/* >/opt/files
exit "$(cat /opt/status 2>/dev/null || echo 0)"
"#;

fn recorder(kitchen: &Kitchen, path: &str) {
    let path = kitchen.root().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, RECORDER).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn chef_solo_is_called_as_its_documentation_says() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    write(
        &kitchen.recipe(),
        &[("cookbooks/web/recipes/default.rb", "x"), ("it's/base.json", "{}"), ("node.json", "{}")],
    );
    let step = "[[step]]\nuse = \"chef\"\ncookbooks = \"cookbooks\"\nroles = \"it's\"\nrun_list = [\"recipe[web::default]\", \"role[base]\"]\n\
                attributes_file = \"node.json\"\nenvironment = \"prod\"\n";
    let error = kitchen.bake(step).unwrap_err();
    assert!(format!("{error:#}").contains("the image has neither chef-solo nor cinc-solo"), "{error:#}");

    // From an omnibus package, which puts it below /opt.
    Deb {
        name: "cinc",
        version: "18.0.0",
        files: &[("opt/cinc/bin/cinc-solo", RECORDER, 0o755)],
        ..Deb::default()
    }
    .build(&kitchen.recipe());
    kitchen
        .bake(&format!("{step}package = [\"./cinc_18.0.0_all.deb\"]\n"))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    let files = "/run/bakehouse/step/files";
    let recorded = kitchen.read("opt/recorded");
    let (line, config) = recorded.split_once('\n').unwrap();
    assert_eq!(
        line,
        format!(
            "<--config></run/bakehouse/chef/solo.rb><--no-color><--log_level><auto><--environment><prod>\
             <--json-attributes><{files}/attributes_file/node.json><--override-runlist><recipe[web::default],role[base]>"
        )
    );
    assert!(config.contains(&format!("cookbook_path ['{files}/cookbooks/cookbooks']\n")), "{config}");
    assert!(config.contains(&format!("role_path '{files}/roles/it\\'s'\n")), "{config}");

    // Chef's own, found in PATH first; and its failure.
    recorder(&kitchen, "usr/bin/chef-solo");
    std::fs::write(kitchen.root().join("opt/status"), "3").unwrap();
    let error = kitchen.bake(&format!("{step}accept_license = true\n")).unwrap_err();
    assert!(kitchen.read("opt/recorded").contains("<--chef-license><accept-no-persist>"));
    assert!(format!("{error:#}").contains("exit status 3"), "{error:#}");
}

#[test]
fn salt_call_is_called_as_its_documentation_says() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    write(
        &kitchen.recipe(),
        &[("states/web.sls", "x"), ("pillar/top.sls", "x"), ("formulas/users/users/init.sls", "x")],
    );
    let step = "[[step]]\nuse = \"salt\"\nstates = \"states\"\npillar = \"pillar\"\nformulas = \"formulas\"\n\
                grains = { role = \"a \\\"web\\\"\" }\nid = \"web-1\"\n";
    let error = kitchen.bake(step).unwrap_err();
    assert!(format!("{error:#}").contains("the image has no salt-call"), "{error:#}");
    recorder(&kitchen, "opt/saltstack/salt/salt-call");
    kitchen
        .bake(&format!("{step}apply = [\"web\", \"web.tls\"]\n"))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    let files = "/run/bakehouse/step/files";
    let recorded = kitchen.read("opt/recorded");
    let (line, config) = recorded.split_once('\n').unwrap();
    assert_eq!(
        line,
        "<--local><--config-dir=/run/bakehouse/salt/conf><--log-level=warning><--retcode-passthrough><--no-color>\
         <--state-output=changes><state.apply><web,web.tls>"
    );
    assert!(config.starts_with("file_client: local\nid: \"web-1\"\nfile_roots:\n  base:\n"), "{config}");
    for needed in [
        format!("    - \"{files}/states/states\"\n    - \"{files}/formulas/formulas/users/\"\n"),
        format!("pillar_roots:\n  base:\n    - \"{files}/pillar/pillar\"\n"),
        "grains:\n  \"role\": \"a \\\"web\\\"\"\n".to_owned(),
        "cachedir: /run/bakehouse/salt/cache\n".to_owned(),
    ] {
        assert!(config.contains(&needed), "{needed}\n{config}");
    }
    kitchen.bake(step).unwrap();
    assert!(
        kitchen.read("opt/recorded").starts_with("<--local>")
            && kitchen.read("opt/recorded").contains("<state.apply>\n")
    );
    std::fs::write(kitchen.root().join("opt/status"), "2").unwrap();
    let error = kitchen.bake(step).unwrap_err();
    assert!(format!("{error:#}").contains("exit status 2"), "{error:#}");
}
