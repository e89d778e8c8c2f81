//! Whole bakes by the command, looked at in the registered image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bakehouse::cloud::local::Store;
use bakehouse::disk::loopdev::LoopDevice;
use serde_json::Value;

use crate::support::bases::{self, store_with, tiny_base};
use crate::support::host::{has, in_own_mounts};
use crate::support::images::mounted;

/// A store with the tiny Debian in it as `base`, and recipes beside it.
pub struct Kitchen {
    folder: tempfile::TempDir,
    store: Store,
}

impl Kitchen {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("bakehouse-hygiene-").tempdir().unwrap();
        let store = store_with(&folder.path().join("store"), "base", &tiny_base());
        Self { folder, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Bakes; `rest` is the recipe behind `[image]` and `[base]`.
    pub fn bake(&self, rest: &str) -> Output {
        let recipe = format!("[image]\nname = \"baked\"\n[base]\nimage = \"base\"\n{rest}");
        fs::write(self.path("recipe.toml"), recipe).unwrap();
        Command::new(env!("CARGO_BIN_EXE_bakehouse"))
            .args(["bake", "recipe.toml", "--output", "json"])
            .current_dir(self.folder.path())
            .env("BAKEHOUSE_CLOUD", "local")
            .env("BAKEHOUSE_STORE", self.path("store"))
            .env("BAKEHOUSE_STATE", self.path("state"))
            .env("BAKEHOUSE_CACHE", self.path("cache"))
            .env("BAKEHOUSE_LOGS", self.path("logs"))
            .output()
            .unwrap()
    }

    /// The result document of a bake that must go well.
    pub fn baked(&self, rest: &str) -> Value {
        let output = self.bake(rest);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", output.status);
        eprintln!("{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Looks into the root of an image of the store.
    pub fn look(&self, image: &str, work: impl FnOnce(&Path)) {
        let disk = self.store.disk_of(&self.store.image(image).unwrap());
        let device = LoopDevice::attach(&disk).unwrap();
        let node = device.partitions().unwrap().into_iter().find(|(number, _)| *number == 1).unwrap().1;
        let folder = tempfile::tempdir().unwrap();
        mounted(&node, "ext4", "", folder.path(), work);
        device.detach().unwrap();
    }
}

pub fn runs_here() -> bool {
    has(bases::NEEDED)
}

/// Every regular file beneath a folder, and what is in it.
fn files(root: &Path, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let all = super::picture(&root.join(folder));
    all.into_iter()
        .filter(|(_, (mode, ..))| mode & 0o170_000 == 0o100_000)
        .map(|(path, (.., content))| (path, content))
        .collect()
}

#[test]
fn an_image_with_openssh_has_no_keys_and_all_else_as_the_base() {
    if !runs_here() {
        return;
    }
    in_own_mounts(|| {
        let kitchen = Kitchen::new();
        let baked = kitchen.baked(
            "[[step]]\nuse = \"apt\"\ninstall = [\"openssh-server\"]\nrecommends = false\n\
             [[step]]\nuse = \"script\"\nrun = [\"sh\", \"-c\", \"ls /etc/ssh/ssh_host_ed25519_key && dbus-uuidgen > /etc/machine-id || \
             echo 0123456789abcdef0123456789abcdef > /etc/machine-id; echo x > /var/tmp/x\"]\n",
        );
        let places = ["var/log", "var/lib/apt/lists", "var/cache/apt", "var/tmp", "etc/machine-id"];
        let mut before = Vec::new();
        kitchen.look("base", |root| {
            for place in places {
                before.push(if root.join(place).is_dir() {
                    files(root, place)
                } else {
                    vec![(place.into(), fs::read(root.join(place)).unwrap())]
                });
            }
        });
        kitchen.look(baked["image"].as_str().unwrap(), |root| {
            assert!(root.join("usr/sbin/sshd").exists());
            let ssh: Vec<_> = files(root, "etc/ssh").into_iter().map(|(path, _)| path).collect();
            assert!(!ssh.iter().any(|path| path.to_str().unwrap().starts_with("ssh_host")), "{ssh:?}");
            for (place, before) in places.iter().zip(before) {
                let now = if root.join(place).is_dir() {
                    files(root, place)
                } else {
                    vec![((*place).into(), fs::read(root.join(place)).unwrap())]
                };
                let length = |files: &[(PathBuf, Vec<u8>)]| -> Vec<(PathBuf, usize)> {
                    files.iter().map(|(path, content)| (path.clone(), content.len())).collect()
                };
                // What is not root's stays, empty.
                let now: Vec<_> = now
                    .into_iter()
                    .filter(|(path, content)| {
                        !content.is_empty() || before.iter().any(|(old, _)| old == path)
                    })
                    .collect();
                assert_eq!(length(&now), length(&before), "{place}");
                assert!(now == before, "{place}");
            }
        });
        let part = |name: &str| {
            let parts = baked["hygiene"]["parts"].as_array().unwrap();
            parts.iter().find(|part| part["part"] == name).unwrap().clone()
        };
        assert!(part("ssh-host-keys")["removed"].as_array().unwrap().len() >= 6, "{baked:#}");
        assert_eq!(part("machine-id")["restored"][0], "/etc/machine-id");
        assert!(baked["seconds"]["hygiene"].is_f64(), "{baked:#}");
        // ssh-agent and ssh-keysign came with the package.
        let found: Vec<_> =
            baked["hygiene"]["findings"].as_array().unwrap().iter().map(|f| &f["path"]).collect();
        assert!(found.contains(&&Value::from("/usr/lib/openssh/ssh-keysign")), "{found:?}");
    });
}

#[test]
fn a_denying_audit_fails_the_bake_and_leaves_no_image() {
    if !runs_here() {
        return;
    }
    in_own_mounts(|| {
        let kitchen = Kitchen::new();
        fs::write(kitchen.path("web.key"), super::pem()).unwrap();
        let step = "[[step]]\nuse = \"files\"\ncopy = [{ from = \"web.key\", to = \"/etc/web.key\" }]\n";
        let output = kitchen.bake(&format!("{step}[hygiene]\naudit = \"deny\"\n"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(10), "{said}");
        assert!(said.contains("private key: /etc/web.key (PRIVATE KEY in line 1)"), "{said}");
        assert!(said.contains("accept"), "{said}");
        assert!(kitchen.store.image("baked").is_err());
        let accepted = "[hygiene]\naudit = \"deny\"\naccept = [\"/etc/web.key\"]\n";
        let baked = kitchen.baked(&format!("{step}{accepted}"));
        assert_eq!(baked["hygiene"]["findings"], serde_json::json!([]));
    });
}
