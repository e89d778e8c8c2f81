//! SELinux labels, by a small policy: this kernel need not have SELinux.

use std::fs;
use std::os::unix::fs::symlink;

use super::bake::{Kitchen, runs_here};
use super::{bake, base, exists, put, quiet};
use crate::support::host::in_own_mounts;
use crate::support::roots::can_make;
use bakehouse::recipe::Part;

pub const CONFIG: &str = "SELINUX=enforcing\nSELINUXTYPE=targeted\n";
pub const CONTEXTS: &str = "/.*\tsystem_u:object_r:default_t:s0\n\
                        /srv/web(/.*)?\tsystem_u:object_r:web_t:s0\n\
                        /srv/web/[^/]*\\.sh\t--\tsystem_u:object_r:web_exec_t:s0\n\
                        /srv/link\t-l\tsystem_u:object_r:link_t:s0\n\
                        /var/lib/none(/.*)?\t<<none>>\n";
pub const CONTEXTS_FILE: &str = "etc/selinux/targeted/contexts/files/file_contexts";

#[test]
fn a_root_without_setfiles_is_labelled_at_its_first_boot() {
    if !can_make() {
        return;
    }
    let root = base();
    put(root.path(), "etc/selinux/config", CONFIG);
    put(root.path(), CONTEXTS_FILE, CONTEXTS);
    let report = bake(&root, &quiet(), |root| put(root, "srv/web/index.html", "x")).unwrap();
    assert!(exists(&root, ".autorelabel"));
    let done = report.parts.iter().find(|done| done.part == Part::SelinuxLabels).unwrap();
    assert!(done.notes[0].contains("no setfiles"), "{done:?}");
    // The image's link leads nowhere else.
    let outside = tempfile::tempdir().unwrap();
    fs::remove_file(root.path().join(".autorelabel")).unwrap();
    symlink(outside.path().join("new"), root.path().join(".autorelabel")).unwrap();
    assert!(bake(&root, &quiet(), |root| put(root, "srv/web/index.html", "x")).is_err());
    assert!(!outside.path().join("new").exists());
}

#[test]
fn no_policy_or_selinux_off_needs_no_labels() {
    if !can_make() {
        return;
    }
    for (config, contexts, on) in [
        (None, true, true),
        (Some("SELINUX=disabled\n"), true, true),
        (Some(CONFIG), false, true),
        (Some(CONFIG), true, false),
    ] {
        let root = base();
        if let Some(config) = config {
            put(root.path(), "etc/selinux/config", config);
        }
        if contexts {
            put(root.path(), CONTEXTS_FILE, CONTEXTS);
        }
        let mut spec = quiet();
        if !on {
            spec.parts.remove(&Part::SelinuxLabels);
        }
        bake(&root, &spec, |root| put(root, "srv/web/index.html", "x")).unwrap();
        assert!(!exists(&root, ".autorelabel"));
    }
}

#[test]
fn what_changed_has_the_labels_of_the_images_own_policy() {
    if !runs_here() {
        return;
    }
    in_own_mounts(|| {
        let kitchen = Kitchen::new();
        fs::write(kitchen.path("config"), CONFIG).unwrap();
        fs::write(kitchen.path("file_contexts"), CONTEXTS).unwrap();
        let script = "mkdir -p /srv/web/deep /var/lib/none; echo x > '/srv/web/deep/a file'; echo x > /srv/web/run.sh; \
                      ln -s /etc/shadow /srv/link; echo x > /var/lib/none/x; echo x >> /etc/motd";
        let baked = kitchen.baked(&format!(
            "[[step]]\nuse = \"apt\"\ninstall = [\"policycoreutils\"]\nrecommends = false\n\
             [[step]]\nuse = \"files\"\ncopy = [{{ from = \"config\", to = \"/etc/selinux/config\" }}, \
             {{ from = \"file_contexts\", to = \"/{CONTEXTS_FILE}\" }}]\n\
             [[step]]\nuse = \"script\"\nrun = [\"sh\", \"-c\", \"{script}\"]\n"
        ));
        kitchen.look(baked["image"].as_str().unwrap(), |root| {
            let label = |path: &str| {
                let label = xattr::get(root.join(path), "security.selinux").unwrap();
                label.map(|bytes| String::from_utf8(bytes).unwrap().trim_end_matches('\0').to_owned())
            };
            let of = |kind: &str| Some(format!("system_u:object_r:{kind}:s0"));
            assert_eq!(label("srv/web"), of("web_t"));
            assert_eq!(label("srv/web/deep/a file"), of("web_t"));
            assert_eq!(label("srv/web/run.sh"), of("web_exec_t"));
            assert_eq!(label("srv/link"), of("link_t"));
            assert_eq!(label("usr/sbin/setfiles"), of("default_t"));
            assert_eq!(label("etc/motd"), of("default_t"));
            assert_eq!(label("var/lib/none/x"), None);
            // What the bake did not touch is the base's affair.
            assert_eq!(label("usr/bin/ls"), None);
            assert_eq!(label("etc/shadow"), label("etc/passwd"));
            assert!(!root.join(".autorelabel").exists());
        });
    });
}
