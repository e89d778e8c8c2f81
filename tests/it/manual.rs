//! What is made of the command line's definitions: completions and the manual.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bakehouse::program::find;

fn bakehouse(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_bakehouse")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = bakehouse(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a program says of a file, where this host has the program.
fn judged(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    if find(program.as_ref()).is_none() {
        eprintln!("skipped: no {program} on this host");
        return None;
    }
    let output = Command::new(program).args(arguments).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {}: {said}", file.display());
    assert_eq!(said, "", "{program} {}", file.display());
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn completions_are_scripts_that_their_shells_read() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, options) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("pause-after") && script.contains("create-base"), "{shell}");
        let file = folder.path().join(shell);
        fs::write(&file, &script).unwrap();
        judged(shell, options, &file);
    }
    // Bash itself completes by it.
    let file = folder.path().join("bash");
    let ask = format!(
        ". {}; COMP_WORDS=(bakehouse bake --pau); COMP_CWORD=2; _bakehouse bakehouse --pau bake; echo \"${{COMPREPLY[*]}}\"",
        file.display()
    );
    let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--pause-after\n", "{output:?}");

    let refused = bakehouse(&["completions", "cmd.exe"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn the_manual_has_a_page_for_every_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    assert_eq!(printed(&["man", "--out", out.to_str().unwrap()]), "");
    let mut names: Vec<String> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in [
        "bakehouse.1",
        "bakehouse-bake.1",
        "bakehouse-enter.1",
        "bakehouse-local-import.1",
        "bakehouse-man.1",
    ] {
        assert!(names.iter().any(|other| other == name), "{name}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
    for name in &names {
        judged("groff", &["-k", "-man", "-Tutf8", "-ww", "-z"], &out.join(name));
    }
    let shown = judged("groff", &["-k", "-man", "-Tutf8", "-P-cbou"], &out.join("bakehouse-bake.1"));
    if let Some(shown) = shown {
        let shown: String = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in ["bakehouse-bake", "--until <STEP>", "ask: A question where a step or a check failed"] {
            assert!(shown.contains(text), "{text}: {shown}");
        }
    }
    assert!(printed(&["man"]).contains("Exit status"));
    assert_eq!(
        printed(&["man", "local", "import"]).trim_end(),
        fs::read_to_string(out.join("bakehouse-local-import.1")).unwrap().trim_end()
    );
    let refused = bakehouse(&["man", "bkae"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no subcommand bkae"));
}
