//! A root filled by a program of this host, by the recipe's word.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::run::{Tell, on_builder, perform, shown};
use crate::beneath;
use crate::disk::{LaidOut, Layout};
use crate::error::{Failure, Kind};
use crate::program::find;
use crate::stop::Stop;

/// The program. It runs as root on this host, with the builder's own rights: it is as trusted as the recipe. Of the
/// builder's environment and credentials it has none.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where it is.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// How long it may take.
    pub at_most: Option<Duration>,
}

impl Script {
    pub(super) fn possible(&self) -> Result<()> {
        if find(self.path.as_os_str()).is_some() {
            return Ok(());
        }
        let message = format!("{} is not executable", self.path.display());
        Err(Failure::new(Kind::Recipe, message)
            .hint(format!("chmod +x {}, and begin it with #!/bin/sh or its like", self.path.display()))
            .into())
    }

    pub(super) fn run(
        &self,
        layout: &Layout,
        laid: &LaidOut,
        root: &Path,
        work: &Path,
        stop: &Stop,
        tell: &mut Tell<'_>,
    ) -> Result<()> {
        let mut argv = vec![self.path.display().to_string()];
        argv.extend(self.args.iter().cloned());
        let line = shown(&argv);
        let mut run = on_builder(argv);
        let mut set = |name: &str, value: &str| run.env.insert(name.to_owned(), value.to_owned());
        set("TMPDIR", &work.display().to_string());
        set("BAKEHOUSE_ROOT", &root.display().to_string());
        set("BAKEHOUSE_DEVICE", &laid.disk.display().to_string());
        set("BAKEHOUSE_ROOT_DEVICE", &laid.root.display().to_string());
        set("BAKEHOUSE_ROOT_UUID", &laid.uuid);
        set("BAKEHOUSE_FILESYSTEM", laid.filesystem.as_str());
        set("BAKEHOUSE_ARCH", layout.arch.as_str());
        set("BAKEHOUSE_FIRMWARE", layout.firmware.as_str());
        if let Some((node, _)) = &laid.esp {
            set("BAKEHOUSE_ESP_DEVICE", &node.display().to_string());
        }
        run.cwd = std::env::current_dir().ok();
        run.timeout = self.at_most;
        perform(root, &run, &line, stop, tell)
            .map_err(as_step)
            .with_context(|| format!("bootstrapping the root by {}", self.name()))?;
        let has = |path: &str| beneath::read(root, Path::new(path)).map(|found| found.is_some());
        if !has("etc/os-release")? && !has("usr/lib/os-release")? {
            let message = format!("{} left a root without /etc/os-release", self.name());
            return Err(Failure::new(Kind::Step, message)
                .hint("it must fill the folder $BAKEHOUSE_ROOT with a whole system")
                .into());
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or(OsStr::new("the script")).to_string_lossy().into_owned()
    }
}

/// A failure without a kind of its own is the script's.
fn as_step(error: anyhow::Error) -> anyhow::Error {
    let known = crate::error::failure_of(&error).is_some();
    if known || error.downcast_ref::<crate::error::Interrupted>().is_some() {
        return error;
    }
    error.context(
        Failure::new(Kind::Step, "the bootstrap failed")
            .hint("run it by hand with BAKEHOUSE_ROOT set to an empty folder"),
    )
}
