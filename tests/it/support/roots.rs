//! Small roots for the sandbox: folders of their own, with this host's /usr seen in them.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use bakehouse::sandbox::{Bind, Network, Outcome, Program, Run, Sandbox, Stream};
use bakehouse::stop::Stop;

/// A root: the folders that a system has, all of /usr bound from this host when something runs in it.
#[derive(Debug)]
pub struct Root {
    pub folder: tempfile::TempDir,
}

/// What a run did.
#[derive(Debug)]
pub struct Ran {
    pub result: anyhow::Result<Outcome>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Its standard output; it must have exited with 0.
    #[track_caller]
    pub fn good(self) -> String {
        match self.result {
            Ok(Outcome::Exited(0)) => self.out,
            other => panic!("{other:?}\n{}{}", self.out, self.err),
        }
    }

    /// The whole error; it must not have run.
    #[track_caller]
    pub fn refused(self) -> anyhow::Error {
        match self.result {
            Ok(outcome) => panic!("{outcome:?}\n{}{}", self.out, self.err),
            Err(error) => error,
        }
    }
}

impl Root {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().expect("making a folder"))
    }

    /// One in this folder.
    pub fn at(folder: tempfile::TempDir) -> Self {
        let path = folder.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("opening it to all");
        for name in ["dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var", "var/tmp"] {
            std::fs::create_dir(path.join(name)).expect("making a folder of the root");
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            if Path::new("/").join(name).is_symlink() {
                symlink(format!("usr/{name}"), path.join(name)).expect("linking into /usr");
            }
        }
        std::fs::write(path.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nother:x:7:7::/:/bin/sh\n")
            .expect("writing /etc/passwd");
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn sandbox(&self) -> Sandbox {
        Sandbox { root: self.path().to_owned(), helper: env!("CARGO_BIN_EXE_bakehouse").into() }
    }

    /// Runs it to its end, on this thread: in its namespaces.
    pub fn go(&self, run: &Run) -> Ran {
        self.go_with(run, &Stop::default(), |_| {})
    }

    /// The same, each line told as it comes.
    pub fn go_with(&self, run: &Run, stop: &Stop, mut told: impl FnMut(&str) + Send) -> Ran {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("making a runtime");
        let (mut out, mut err) = (String::new(), String::new());
        let result = runtime.block_on(self.sandbox().run(run, stop, &mut |stream, line| {
            told(line);
            let to = if stream == Stream::Out { &mut out } else { &mut err };
            to.push_str(line);
            to.push('\n');
        }));
        Ran { result, out, err }
    }

    /// Runs a shell script without network.
    pub fn sh(&self, script: &str) -> Ran {
        self.go(&sh(script))
    }
}

/// A run of an argument vector without network, /usr bound.
pub fn argv(words: &[&str]) -> Run {
    let mut run = Run::new(Program::Argv(words.iter().map(|word| (*word).to_owned()).collect()));
    run.network = Network::None;
    run.binds.push(Bind { source: "/usr".into(), target: "/usr".into(), writable: false });
    run
}

/// A run of a shell script.
pub fn sh(script: &str) -> Run {
    argv(&["/bin/sh", "-c", script])
}

/// Whether roots can be made here: root, and the usual folders being links into /usr.
pub fn can_make() -> bool {
    let unmerged = (!Path::new("/bin").is_symlink()).then_some("/bin is no link into /usr");
    !super::skipped(super::not_root().or(unmerged))
}
