//! The sandbox on real roots: a busybox and the test's own probe programs, nothing stood in for.

use bakehouse::sandbox::{Outcome, Program, Run, Sandbox, Stream};
use bakehouse::stop::Stop;

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let busybox = folder.path().join("bin/busybox");
        std::fs::copy("/bin/busybox", &busybox).unwrap();
        for applet in ["sh", "ls", "cat", "ps", "wc", "mount", "id", "env", "sleep", "true"] {
            std::os::unix::fs::symlink("busybox", folder.path().join("bin").join(applet)).unwrap();
        }
        Self(folder)
    }
    fn sandbox(&self) -> Sandbox {
        Sandbox { root: self.0.path().to_owned(), helper: env!("CARGO_BIN_EXE_bakehouse").into() }
    }
}

fn sh(script: &str) -> Run {
    Run::new(Program::Argv(vec!["sh".into(), "-c".into(), script.into()]))
}

fn go(root: &Root, run: &Run) -> (anyhow::Result<Outcome>, String, String) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let result = runtime.block_on(root.sandbox().run(run, &Stop::default(), &mut |stream, line| {
        let to = if stream == Stream::Out { &mut out } else { &mut err };
        to.push_str(line);
        to.push('\n');
    }));
    (result, out, err)
}

#[test]
fn a_program_runs_as_root_in_its_own_root() {
    let root = Root::new();
    let (result, out, err) = go(&root, &sh("ps | wc -l; id -u; exit 3"));
    assert_eq!(result.unwrap(), Outcome::Exited(3), "{err}");
    assert!(out.ends_with("0\n"), "{out}");
    assert!(!root.0.path().join("etc/resolv.conf").exists());
}
