//! What tests need of the host, and how they leave it as they found it.

use std::path::Path;
use std::process::Command;

use bakehouse::program::find;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use super::{not_root, skipped};

/// Whether the test runs as root, with the programs that it needs; if not it says why (see [`skipped`]).
pub fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find(program.as_ref()).is_none());
    let missing = missing.map(|program| format!("no {program} on this host"));
    !skipped(not_root().or(missing.as_deref()))
}

/// Runs a test's body in a thread with a mount namespace of its own: what it mounts goes away with it, pass or fail.
pub fn in_own_mounts(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        own_mounts();
        body();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Gives this thread a mount namespace of its own.
pub fn own_mounts() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("unsharing the mount namespace");
    let none = None::<&Path>;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .expect("making mounts private");
}

/// Runs a program that must succeed; its standard output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    run_with(program, arguments, "")
}

/// The same, with standard input.
pub fn run_with(program: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let path = find(program.as_ref()).unwrap_or_else(|| panic!("no {program} on this host"));
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starting a program");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("writing its input");
    let output = child.wait_with_output().expect("waiting for a program");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// The loop devices whose file is this one.
pub fn loops_of(file: &Path) -> Vec<String> {
    let wanted = file.to_string_lossy();
    std::fs::read_dir("/sys/block")
        .expect("reading /sys/block")
        .flatten()
        .filter(|entry| {
            let backing = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            backing.trim_end().trim_end_matches(" (deleted)") == wanted
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// How many processes of this host see something at this path (without its first `/`) in their own mounts.
pub fn seen_by(path: &str) -> usize {
    let processes = std::fs::read_dir("/proc").expect("reading /proc").flatten();
    processes.filter(|process| process.path().join("root").join(path).symlink_metadata().is_ok()).count()
}
