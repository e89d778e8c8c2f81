//! Provisioning real roots: real apt, dpkg, dnf and rpm, the mirror, packages built here.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use bakehouse::provision::{Provisioning, StepDone, Vault};
use bakehouse::provisioner::{Builder, FileFacts, Library, Settled, check_recipe};
use bakehouse::recipe::{Inputs, Source};
use bakehouse::report::{Reporter, Volume};
use bakehouse::sandbox::Sandbox;
use bakehouse::stop::Stop;
use tempfile::TempDir;

use crate::support::host::has;

mod ansible;
mod apt;
mod apt_parameters;
mod dnf;
mod files;
mod guard;
mod host;
mod host_secrets;
mod installing;
mod masterless;
mod modules;
mod own;
mod repositories;
mod system;
mod zypper;
mod zypper_repositories;

/// What every test of this subject needs.
fn runs_here() -> bool {
    has(&["mmdebstrap", "dpkg-deb", "tar"])
}

/// A root, and a builder's folders around it.
struct Kitchen {
    root: TempDir,
    /// `recipe/`, `caches/`, `work/`, `log`.
    around: TempDir,
    stop: Stop,
    /// The values of the steps' secrets.
    secrets: Vault,
}

impl Kitchen {
    fn new(root: TempDir) -> Self {
        let around = tempfile::tempdir().unwrap();
        for name in ["recipe", "caches", "work"] {
            std::fs::create_dir(around.path().join(name)).unwrap();
        }
        Self { root, around, stop: Stop::default(), secrets: Vault::default() }
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn recipe(&self) -> PathBuf {
        self.around.path().join("recipe")
    }

    fn caches(&self) -> PathBuf {
        self.around.path().join("caches")
    }

    /// Everything that was told.
    fn log(&self) -> String {
        std::fs::read_to_string(self.around.path().join("log")).unwrap_or_default()
    }

    /// The steps settled against their definitions, or all that is wrong with them.
    fn settle(&self, steps: &str) -> Result<Settled> {
        let text = format!("[image]\nname = \"test\"\n[base]\nimage = \"x\"\n{steps}");
        let facts = |path: &Path| match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => FileFacts::Folder,
            Ok(_) => FileFacts::File,
            Err(_) => FileFacts::Missing,
        };
        let downloads = self.around.path().join("downloads");
        let folder = self.recipe();
        let builder = Builder { recipe_folder: &folder, downloads: &downloads, facts: &facts };
        let library = Library::of(vec![folder.join("provisioners")]);
        match check_recipe(&Source { name: "test.toml".into(), text }, &library, builder, &Inputs::default())
        {
            Ok((_, settled)) => Ok(settled),
            Err(wrong) => {
                let told: Vec<_> = wrong.iter().flat_map(|text| &text.complaints).collect();
                Err(anyhow!("the recipe is refused: {told:?}"))
            }
        }
    }

    /// Runs a recipe's steps and checks as a bake does.
    fn bake(&self, steps: &str) -> Result<Vec<StepDone>> {
        self.bake_with(steps, &self.caches())
    }

    fn bake_with(&self, steps: &str, caches: &Path) -> Result<Vec<StepDone>> {
        let settled = self.settle(steps)?;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let reporter = Reporter::new(Volume::Quiet);
        reporter.log_to(&self.around.path().join("log")).unwrap();
        let sandbox =
            Sandbox { root: self.root().to_owned(), helper: env!("CARGO_BIN_EXE_bakehouse").into() };
        let work = self.around.path().join("work");
        let done = runtime.block_on(async {
            let provisioning = Provisioning::new(&sandbox, caches, &work, &self.stop, &reporter)
                .with_secrets(self.secrets.clone());
            let result = async {
                provisioning.begin().await?;
                let mut done = Vec::new();
                for step in &settled.steps {
                    done.push(provisioning.run_step(step).await?);
                }
                for check in &settled.checks {
                    provisioning.run_check(check).await?;
                }
                Ok(done)
            }
            .await;
            provisioning.finish().await.expect("tidying up");
            result
        });
        assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0, "the work folder is not empty");
        assert_eq!(left_over(self.root()), Vec::<PathBuf>::new());
        done
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The version of a package of `build_rpm` in the root; empty where it is not there.
    fn installed(&self, name: &str) -> String {
        let path = format!("usr/share/{name}/version");
        if self.exists(&path) { self.read(&path).trim().to_owned() } else { String::new() }
    }

    /// The keys that rpm in the root takes packages by.
    fn keys(&self) -> Vec<String> {
        let script = "#!/bin/sh\nrpm -qa 'gpg-pubkey*' | sort >/srv/keys\n";
        let path = self.recipe().join("keys");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        self.bake("[[step]]\nuse = \"script\"\nscript = \"keys\"\n").unwrap();
        self.read("srv/keys").lines().map(str::to_owned).collect()
    }

    fn exists(&self, path: &str) -> bool {
        self.root().join(path).symlink_metadata().is_ok()
    }
}

/// What of provisioning is still in the root.
fn left_over(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(root, &mut |path, _| {
        if path.to_string_lossy().contains("bakehouse") {
            found.push(path.strip_prefix(root).unwrap().to_owned());
        }
    });
    for list in ["var/lib/dpkg/diversions", "var/lib/dpkg/diversions-old"] {
        if std::fs::read_to_string(root.join(list)).is_ok_and(|text| text.contains("bakehouse")) {
            found.push(list.into());
        }
    }
    found
}

fn walk(folder: &Path, see: &mut dyn FnMut(&Path, &std::fs::Metadata)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        see(&path, &meta);
        if meta.is_dir() {
            walk(&path, see);
        }
    }
}

/// Owner, group, mode and content (or link target) of everything below `root`.
fn picture(root: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, Vec<u8>)> {
    let mut picture = BTreeMap::new();
    walk(root, &mut |path, meta| {
        let content = if meta.is_file() {
            std::fs::read(path).unwrap()
        } else if meta.is_symlink() {
            std::fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        let inner = path.strip_prefix(root).unwrap().to_owned();
        picture.insert(inner, (meta.uid(), meta.gid(), meta.mode(), content));
    });
    picture
}

fn hint_of(error: &anyhow::Error) -> String {
    let failure = bakehouse::error::failure_of(error).unwrap_or_else(|| panic!("{error:#}"));
    failure.hint.clone().unwrap_or_default()
}
