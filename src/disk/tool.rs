//! Programs of this host that the disk room runs: e2fsck, sfdisk and their like.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};

use crate::error::{Failure, Kind};
use crate::program::find;
use crate::sys::process::ends_with_caller;

/// A program that the disk room may need, and the packages that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// The program's name.
    pub program: &'static str,
    /// What it is for, in a few words.
    pub purpose: &'static str,
    /// The package on Debian and its like.
    pub deb: &'static str,
    /// The package on Fedora, Amazon Linux and their like.
    pub rpm: &'static str,
    /// Whether every bake needs it; else only those with such a filesystem.
    pub always: bool,
}

/// Every program that the disk room may run.
pub const NEEDED: &[Needed] = &[
    Needed {
        program: "blkid",
        purpose: "tells what a partition holds",
        deb: "util-linux",
        rpm: "util-linux",
        always: true,
    },
    Needed {
        program: "sfdisk",
        purpose: "reads and grows partition tables",
        deb: "fdisk",
        rpm: "util-linux",
        always: true,
    },
    Needed {
        program: "e2fsck",
        purpose: "checks ext4 filesystems",
        deb: "e2fsprogs",
        rpm: "e2fsprogs",
        always: true,
    },
    Needed {
        program: "resize2fs",
        purpose: "grows ext4 filesystems",
        deb: "e2fsprogs",
        rpm: "e2fsprogs",
        always: true,
    },
    Needed {
        program: "xfs_growfs",
        purpose: "grows XFS filesystems",
        deb: "xfsprogs",
        rpm: "xfsprogs",
        always: false,
    },
    Needed {
        program: "btrfs",
        purpose: "grows Btrfs filesystems",
        deb: "btrfs-progs",
        rpm: "btrfs-progs",
        always: false,
    },
    Needed {
        program: "lvm",
        purpose: "reads and grows logical volumes",
        deb: "lvm2",
        rpm: "lvm2",
        always: false,
    },
    Needed {
        program: "dmsetup",
        purpose: "opens logical volumes of several ranges",
        deb: "dmsetup",
        rpm: "device-mapper",
        always: false,
    },
    Needed {
        program: "mkfs.ext4",
        purpose: "makes ext4 from scratch",
        deb: "e2fsprogs",
        rpm: "e2fsprogs",
        always: false,
    },
    Needed {
        program: "mkfs.xfs",
        purpose: "makes XFS from scratch",
        deb: "xfsprogs",
        rpm: "xfsprogs",
        always: false,
    },
    Needed {
        program: "mkfs.btrfs",
        purpose: "makes Btrfs from scratch",
        deb: "btrfs-progs",
        rpm: "btrfs-progs",
        always: false,
    },
    Needed {
        program: "mkfs.vfat",
        purpose: "makes EFI system partitions",
        deb: "dosfstools",
        rpm: "dosfstools",
        always: false,
    },
    Needed {
        program: "mcopy",
        purpose: "fills EFI system partitions",
        deb: "mtools",
        rpm: "mtools",
        always: false,
    },
];

/// One run of a program, not yet started.
#[derive(Debug)]
pub(super) struct Tool {
    program: &'static str,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, &'static str)>,
    input: Option<String>,
}

/// A run that ended.
#[derive(Debug)]
pub(super) struct Done {
    line: String,
    output: Output,
}

impl Tool {
    pub(super) fn new(program: &'static str) -> Self {
        Self { program, arguments: Vec::new(), environment: Vec::new(), input: None }
    }

    pub(super) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(super) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(super) fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    pub(super) fn env(mut self, key: &'static str, value: &'static str) -> Self {
        self.environment.push((key, value));
        self
    }

    pub(super) fn line(&self) -> String {
        let mut line = self.program.to_owned();
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        line
    }

    /// Runs it to its end. In a process group of its own: a Ctrl-C meant for the bake must not cut a
    /// filesystem check short; the bake unwinds after it. It ends with a bake that is killed: else it would hold the
    /// device that is to be detached, or write to it.
    pub(super) fn run(self) -> Result<Done> {
        let line = self.line();
        let path = find(OsStr::new(self.program)).ok_or_else(|| missing(self.program))?;
        tracing::debug!("running {line}");
        let mut command = Command::new(path);
        let mut child = ends_with_caller(&mut command)
            .args(&self.arguments)
            .env("LC_ALL", "C")
            .envs(self.environment.iter().copied())
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {line}"))?;
        if let (Some(text), Some(mut pipe)) = (&self.input, child.stdin.take())
            && let Err(error) = pipe.write_all(text.as_bytes())
        {
            // The program's own status says more than the broken pipe.
            tracing::debug!("writing to {line}: {error}");
        }
        let output = child.wait_with_output().with_context(|| format!("waiting for {line}"))?;
        Ok(Done { line, output })
    }
}

impl Done {
    pub(super) fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    pub(super) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(super) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Its standard output, or the whole line and what it said.
    pub(super) fn success(self) -> Result<String> {
        if self.output.status.success() { Ok(self.stdout()) } else { Err(self.failure()) }
    }

    /// The whole line, how it ended, and what it said.
    pub(super) fn failure(&self) -> anyhow::Error {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        let said = if stderr.trim().is_empty() { stdout.trim() } else { stderr.trim() };
        let line = &self.line;
        let status = self.output.status;
        if said.is_empty() {
            anyhow::anyhow!("`{line}` ended with {status}")
        } else {
            anyhow::anyhow!("`{line}` ended with {status}:\n{said}")
        }
    }
}

/// The failure for a program that this host lacks, with the command that mends it.
fn missing(program: &str) -> Failure {
    let release = std::fs::read_to_string(Path::new("/etc/os-release")).unwrap_or_default();
    Failure::new(Kind::Host, format!("this host lacks the program {program}"))
        .hint(install_hint(program, &release))
}

fn install_hint(program: &str, os_release: &str) -> String {
    let needed = NEEDED.iter().find(|needed| needed.program == program);
    let (deb, rpm) = needed.map_or((program, program), |needed| (needed.deb, needed.rpm));
    let family: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        .collect();
    if family.iter().any(|id| matches!(*id, "debian" | "ubuntu")) {
        format!("install it: sudo apt-get install {deb}")
    } else if family.iter().any(|id| matches!(*id, "fedora" | "rhel" | "amzn" | "centos")) {
        format!("install it: sudo dnf install {rpm}")
    } else if family.iter().any(|id| id.contains("suse")) {
        format!("install it: sudo zypper install {rpm}")
    } else {
        format!("install it: the package {deb} (deb) or {rpm} (rpm)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{failure_of, kind_of};

    #[test]
    fn hint_is_the_hosts_own_command() {
        assert_eq!(
            install_hint("sfdisk", "NAME=x\nID=ubuntu\nID_LIKE=debian\n"),
            "install it: sudo apt-get install fdisk"
        );
        assert_eq!(
            install_hint("sfdisk", "ID=\"amzn\"\nID_LIKE=\"centos rhel fedora\"\n"),
            "install it: sudo dnf install util-linux"
        );
        assert_eq!(
            install_hint("btrfs", "ID=\"opensuse-leap\"\n"),
            "install it: sudo zypper install btrfs-progs"
        );
    }

    #[test]
    fn missing_program_is_the_hosts_failure() {
        let error = Tool::new("no-such-program-here").run().unwrap_err();
        assert_eq!(kind_of(&error), Kind::Host);
        assert!(failure_of(&error).unwrap().hint.is_some());
    }

    #[test]
    fn failure_shows_the_line_and_what_was_said() {
        let error = Tool::new("ls").arg("/no/such/path").run().unwrap().success().unwrap_err().to_string();
        assert!(error.contains("`ls /no/such/path`") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(Tool::new("cat").input("abc").run().unwrap().success().unwrap(), "abc");
    }
}
