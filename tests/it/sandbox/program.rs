//! Programs: how they are found, how they end, and what becomes of their output.

use std::os::unix::fs::PermissionsExt as _;

use bakehouse::error::{Kind, failure_of, kind_of};
use bakehouse::sandbox::Outcome;

use crate::support::roots::{Root, argv, can_make, sh};

#[test]
fn it_exits_or_is_ended_by_a_signal() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    assert_eq!(root.sh("exit 7").result.unwrap(), Outcome::Exited(7));
    assert_eq!(root.sh("kill -9 $$").result.unwrap(), Outcome::Signaled(9));
    assert_eq!(root.sh("kill -SEGV $$").result.unwrap(), Outcome::Signaled(11));
    // Process 1 does not mind.
    assert_eq!(root.sh("kill -9 1; kill -TERM 1; kill -SEGV 1; exit 5").result.unwrap(), Outcome::Exited(5));
    assert_eq!(root.go(&argv(&["sh", "-c", "exit 0"])).result.unwrap(), Outcome::Exited(0), "found in PATH");
}

#[test]
fn a_program_that_cannot_be_run_is_named_with_the_reason() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let file = |name: &str, content: &str, mode| {
        let path = root.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("no-interpreter", "#!/opt/none\n", 0o755);
    file("no-script", "just words\n", 0o755);
    file("no-mode", "#!/bin/sh\n", 0o644);
    for (program, message) in [
        ("frobnicate", "the image has no program frobnicate in /usr/local/sbin:"),
        ("/opt/frobnicate", "the image has no program /opt/frobnicate"),
        ("/no-interpreter", "/no-interpreter needs an interpreter that the image lacks"),
        ("/no-script", "/no-script is not a program that this machine can run"),
        ("/no-mode", "/no-mode is not executable"),
    ] {
        let error = root.go(&argv(&[program])).refused();
        assert!(format!("{error:#}").contains(message), "{error:#}");
        assert_eq!(kind_of(&error), Kind::Step, "{error:#}");
        assert!(failure_of(&error).unwrap().hint.is_some());
    }
    let mut run = sh("true");
    run.cwd = Some("/nowhere".into());
    let error = root.go(&run).refused();
    assert!(format!("{error:#}").contains("the working directory /nowhere cannot be entered"), "{error:#}");
}

#[test]
fn output_comes_as_lines_however_long() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let ran = root.sh("head -c 200000 /dev/zero | tr '\\0' x; printf 'a\\r\\nb\\rc\\377'; echo problem >&2");
    assert_eq!(ran.err, "problem\n");
    let out = ran.good();
    let xs = out.bytes().filter(|byte| *byte == b'x').count();
    assert_eq!(xs, 200_000);
    assert!(out.lines().all(|line| line.len() <= 64 * 1024));
    assert!(out.ends_with("xa\nb\nc\u{fffd}\n"), "{:?}", out.get(out.len().saturating_sub(20)..));
}

#[test]
fn sync_is_suppressed_only_where_asked() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    // A character device cannot be synced: the true call says so.
    let script = "sync /dev/null && sync -d /dev/null && sync -f /proc/self/status && echo suppressed";
    let mut run = sh(script);
    assert_eq!(root.go(&run).result.unwrap(), Outcome::Exited(1));
    run.suppress_sync = true;
    assert_eq!(root.go(&run).good(), "suppressed\n");
}

#[test]
fn eight_at_once_do_not_meet() {
    if !can_make() {
        return;
    }
    let threads: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                let root = Root::new();
                let script =
                    format!("for i in 1 2 3 4 5; do echo {number}; done; ls -d /proc/[0-9]* | wc -l");
                (number, root.sh(&script).good())
            })
        })
        .collect();
    for thread in threads {
        let (number, out) = thread.join().unwrap();
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        // The shell, ls, wc and the init.
        assert!(lines.pop().is_some_and(|count| count.parse::<u32>().unwrap() <= 4), "{out}");
        assert_eq!(lines, vec![number.to_string(); 5]);
    }
}

/// Writes "i386", then asks for what the filter answers: to sync a descriptor that there is not, by i386's numbers.
const I386: &str = r#"
static long call(long number, long a, long b, long c) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return answer;
}
void _start(void) {
    call(4, 1, (long)"i386\n", 5);
    call(1, call(118, -1, 0, 0) == 0 ? 10 : 11, 0, 0);
}
"#;

#[test]
fn a_program_of_the_32_bit_architecture_runs_and_is_filtered_too() {
    if !can_make() || !cfg!(target_arch = "x86_64") || !crate::support::host::has(&["cc"]) {
        return;
    }
    let root = Root::new();
    let (source, program) = (root.path().join("p.c"), root.path().join("p"));
    std::fs::write(&source, I386).unwrap();
    let [from, to] = [&source, &program].map(|path| path.to_str().unwrap());
    crate::support::host::run("cc", &["-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-o", to, from]);
    if let Err(error) = std::process::Command::new(&program).status() {
        eprintln!("skipped: this kernel runs no 32-bit programs: {error}");
        return;
    }
    let mut run = argv(&["/p"]);
    let ran = root.go(&run);
    assert_eq!((ran.result.unwrap(), ran.out.as_str()), (Outcome::Exited(11), "i386\n"));
    run.suppress_sync = true;
    assert_eq!(root.go(&run).result.unwrap(), Outcome::Exited(10), "by its own number");
}

/// core(5): of a limit of 1 the kernel takes it that no handler is to run, and 1 byte is less than any core file.
/// A limit of 0, which anyone may set, would let the builder's handler run with a memory image made inside.
#[test]
fn a_crash_runs_no_handler_of_the_builder() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let limit = "grep 'core file' /proc/self/limits | tr -s ' '";
    let out = root.sh(&format!(
        "{limit}; ulimit -c 0 && {limit}; prlimit --core=0:0 true; ulimit -c; ulimit -n 100; ulimit -n"
    ));
    assert_eq!(out.good(), "Max core file size 1 1 bytes \n".repeat(2) + "0\n100\n", "dash counts in blocks");
}
