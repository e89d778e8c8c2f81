//! A root filled by a program of this host, by the recipe's word.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::beneath;
use crate::disk::{LaidOut, Layout};
use crate::error::{Failure, Kind};
use crate::program::{Program, find};
use crate::stop::Stop;

/// The program. It runs as root on this host, with the builder's own rights: it is as trusted as the recipe.
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
        tell: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let mut program = Program::new(&self.path)
            .args(&self.args)
            .env("TMPDIR", work)
            .env("BAKEHOUSE_ROOT", root)
            .env("BAKEHOUSE_DEVICE", &laid.disk)
            .env("BAKEHOUSE_ROOT_DEVICE", &laid.root)
            .env("BAKEHOUSE_ROOT_UUID", &laid.uuid)
            .env("BAKEHOUSE_FILESYSTEM", laid.filesystem.as_str())
            .env("BAKEHOUSE_ARCH", layout.arch.as_str())
            .env("BAKEHOUSE_FIRMWARE", layout.firmware.as_str());
        if let Some((node, _)) = &laid.esp {
            program = program.env("BAKEHOUSE_ESP_DEVICE", node);
        }
        let said = program.contained().at_most(self.at_most).run(stop, tell).map_err(as_step);
        let said = said.with_context(|| format!("bootstrapping the root by {}", self.name()))?;
        said.lines().for_each(&mut *tell);
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
