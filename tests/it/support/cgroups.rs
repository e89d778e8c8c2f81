//! Cgroups of runs as they are left where a bake ran, in a service or a session, and was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A cgroup of a test's own, at the top; it goes with all that is in it.
pub struct Cgroups {
    top: TempDir,
    inside: Vec<Child>,
}

impl Cgroups {
    /// None where this host has none of version 2 that can be written to.
    pub fn make() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let hierarchy = mounts.lines().find_map(|line| line.split_once(" cgroup2 ")?.0.split(' ').nth(1));
        let made =
            hierarchy.and_then(|at| tempfile::Builder::new().prefix("bakehouse-test-").tempdir_in(at).ok());
        if made.is_none() {
            eprintln!("skipped: no cgroups of version 2");
        }
        Some(Self { top: made?, inside: Vec::new() })
    }

    /// That of a run, by its maker, somewhere below.
    pub fn run(&self, below: &str, maker: &str) -> PathBuf {
        let path = self.top.path().join(below).join(format!("bakehouse-run-{maker}"));
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Puts a program into one.
    pub fn fill(&mut self, path: &Path) {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        fs::write(path.join("cgroup.procs"), child.id().to_string()).unwrap();
        self.inside.push(child);
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.top.path().file_name().unwrap().to_str().unwrap().to_owned()
    }
}

/// A process that is over, as part of the name of what it made.
pub fn dead() -> String {
    let mut child = Command::new("true").spawn().unwrap();
    let name = format!("{}-1", child.id());
    assert!(child.wait().unwrap().success());
    name
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for child in &mut self.inside {
            child.kill().and_then(|()| child.wait()).map(drop).unwrap_or_default();
        }
        remove(self.top.path());
    }
}

/// A cgroup's files go with it: folders alone are removed.
fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(folder).unwrap_or_default();
}
