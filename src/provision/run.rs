//! A step as one run of the sandbox.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::plan::MainPackage;
use crate::provisioner::{STEP_FOLDER, StepPlan, Work};
use crate::sandbox::{Bind, Limits, Network, Program, Run};

/// The bake's own disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// The nodes of it and its partitions, for steps that ask for `devices = "disk"`.
    pub nodes: Vec<PathBuf>,
    /// Names of what is mounted of it, below /dev, each with its node. Every step finds them; without
    /// `devices = "disk"` they cannot be opened.
    pub names: Vec<(PathBuf, PathBuf)>,
    /// What is mounted of it.
    pub mounts: Vec<DiskMount>,
}

/// A filesystem of the bake's disk, mounted in the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskMount {
    /// Where, inside.
    pub path: PathBuf,
    /// The builder's node.
    pub node: PathBuf,
    /// blkid's name of the filesystem: `ext4`, `vfat`.
    pub kind: Option<String>,
    /// The filesystem's UUID, as blkid writes it.
    pub uuid: Option<String>,
    /// PARTUUID, lower case.
    pub part_uuid: Option<String>,
    /// GRUB's name of the disk's partition table: `gpt`, `msdos`.
    pub table: Option<&'static str>,
    /// The partition's number.
    pub partition: Option<u32>,
    /// A logical volume's name below /dev/mapper.
    pub volume: Option<PathBuf>,
}

/// How `program` runs as `step` says; `disk` is the bake's own.
pub(super) fn run_of(step: &StepPlan, program: Program, binds: &[Bind], disk: &Disk) -> Result<Run> {
    let mut run = Run::new(program);
    run.env = step.env.clone();
    run.env.entry("SYSTEMD_OFFLINE".to_owned()).or_insert_with(|| "1".to_owned());
    run.cwd = step.cwd.clone();
    run.binds = binds.to_vec();
    run.network = match step.network.as_str() {
        "host" => Network::Host,
        "none" => Network::None,
        other => bail!("{other:?} is not a network"),
    };
    run.suppress_sync = step.suppress_sync;
    let rights = step.rights;
    if rights.disk {
        run.devices.clone_from(&disk.nodes);
    }
    run.device_names.clone_from(&disk.names);
    run.mounts = rights.mounts;
    run.limits = Limits { memory: rights.memory, processes: rights.processes, cpu_percent: rights.cpu };
    run.timeout = step.timeout.map(Duration::from_secs);
    Ok(run)
}

/// What a step runs.
pub(super) fn program_of(step: &StepPlan) -> Result<Program> {
    match &step.work {
        Work::Command(words) => Ok(Program::Argv(in_folder(words))),
        Work::Builtin(name) => {
            let params = serde_json::to_value(&step.params).context("writing the parameters")?;
            Ok(Program::Builtin(name.clone(), params))
        }
        Work::Choose => bail!("a provisioner that only chooses was chosen"),
    }
}

/// A first word that begins with `./` is in the provisioner's folder.
pub(super) fn in_folder(words: &[String]) -> Vec<String> {
    let mut words = words.to_vec();
    if let Some(first) = words.first_mut()
        && let Some(inner) = first.strip_prefix("./")
    {
        *first = format!("{STEP_FOLDER}/provisioner/{inner}");
    }
    words
}

/// A program as messages name it.
pub(super) fn show(program: &Program) -> String {
    match program {
        Program::Argv(words) => words.join(" "),
        Program::Builtin(name, _) => format!("bakehouse's own {name}"),
    }
}

/// `NAME<TAB>VERSION<TAB>RELEASE`.
pub(super) fn parse_package(line: &str) -> Option<MainPackage> {
    let mut fields = line.trim_end().split('\t').map(str::to_owned);
    let (name, version) = (fields.next()?, fields.next()?);
    let release = fields.next().unwrap_or_default();
    (!name.is_empty() && !version.is_empty()).then_some(MainPackage { name, version, release })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_answers_are_read() {
        let package = |name: &str, version: &str, release: &str| {
            Some(MainPackage { name: name.into(), version: version.into(), release: release.into() })
        };
        assert_eq!(parse_package("web\t1.4.2\t1"), package("web", "1.4.2", "1"));
        assert_eq!(parse_package("web\t1.4.2\t"), package("web", "1.4.2", ""));
        assert_eq!(parse_package("web\t1.4.2"), package("web", "1.4.2", ""));
        assert_eq!(parse_package("warning: x"), None);
        assert_eq!(parse_package("\t1"), None);
    }

    #[test]
    fn first_words_in_the_folder() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            in_folder(&words(&["./run", "./x"])),
            words(&["/run/bakehouse/step/provisioner/run", "./x"])
        );
        assert_eq!(in_folder(&words(&["nginx", "-t"])), words(&["nginx", "-t"]));
    }
}
