//! A disk that begins blank is filled, before it is mounted as any other.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Kitchen;
use super::verbs::blocking;
use crate::disk::{Disk, Layout};
use crate::foundation::{Content, Debian, Foundation, Release, Script, Sources, Variant};
use crate::plan::Plan;
use crate::recipe::Bootstrap;

impl Kitchen<'_> {
    /// Whether this host can fill the plan's disk, asked before one is made.
    pub(super) fn can_fill(&self, plan: &Plan) -> Result<()> {
        foundation(plan, self.cache)?.map_or(Ok(()), |foundation| foundation.possible())
    }

    /// Fills a disk that began blank; another passes through.
    pub(super) fn fill(&self, disk: Disk, plan: &Plan) -> Result<Disk> {
        let Some(foundation) = foundation(plan, self.cache)? else { return Ok(disk) };
        self.reporter.phase("bootstrap", &foundation.name());
        let target = self.mount_point(plan)?;
        let work = tempfile::Builder::new().prefix("step-bootstrap-").tempdir_in(self.work_folder(plan))?;
        let mut disk = disk;
        let mut tell = |line: &str| self.reporter.line("bootstrap", line);
        let filled = blocking(|| foundation.lay(&mut disk, &target, work.path(), self.stop, &mut tell));
        match filled {
            Ok(()) => Ok(disk),
            Err(error) => {
                if let Err(second) = blocking(|| disk.release()) {
                    self.reporter.warn(&format!("releasing the disk after the failure: {second:#}"));
                }
                Err(error)
            }
        }
    }
}

fn foundation(plan: &Plan, cache: &Path) -> Result<Option<Foundation>> {
    let Some(spec) = &plan.disk.scratch else { return Ok(None) };
    let content = match &spec.bootstrap {
        Bootstrap::Release { name, packages, mirror } => {
            let release = Release::parse(name)?;
            Content::Debian(Debian {
                release,
                include: packages.clone(),
                sources: Sources::choose(mirror.as_deref(), release.suite),
                cache: cache.to_owned(),
            })
        }
        Bootstrap::Script { path, args, timeout, .. } => Content::Script(Script {
            path: path.clone(),
            args: args.clone(),
            at_most: timeout.map(Duration::from_secs),
        }),
    };
    let arch = plan.image.arch;
    let layout = Layout { filesystem: spec.filesystem, firmware: spec.firmware(arch), arch };
    let variant = if spec.boot_loader { Variant::Cloud } else { Variant::Tiny };
    Ok(Some(Foundation { content, layout, variant }))
}
