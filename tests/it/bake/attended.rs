//! Bakes that somebody attends: shells, questions, pauses and early ends.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::small::can_bake;
use crate::support::bakery::{Bakery, small_disk};
use crate::support::host::has;
use crate::support::images::Image;
use crate::support::terminal::Terminal;

const RECIPE: &str = r#"
[image]
name = "attended"
[base]
image = "small"
[[step]]
use = "script"
name = "first"
run = ["/bin/sh", "-c", "echo once >> /srv/first"]
[[step]]
use = "script"
name = "mended"
run = ["/bin/sh", "-c", "[ -e /srv/mended ] || { echo it is not mended; exit 3; }"]
[[check]]
run = ["/bin/sh", "-c", "[ -e /srv/checked ]"]
"#;

const QUESTION: &str = "what now? ";

fn bakery() -> Option<(Bakery, Image)> {
    if !can_bake() || !has(&["script"]) {
        return None;
    }
    let (bakery, disk) = (Bakery::new(), small_disk());
    bakery.base("small", disk.path());
    bakery.put("recipe.toml", RECIPE);
    Some((bakery, disk))
}

fn lines(bakery: &Bakery, image: &str, path: &str) -> usize {
    bakery.look(image, 1, "ext4", |root| fs::read_to_string(root.join(path)).unwrap().lines().count())
}

#[test]
fn a_failed_step_and_a_failed_check_are_run_again_once_they_are_mended_in_a_shell() {
    let Some((bakery, _disk)) = bakery() else { return };
    let mut terminal = Terminal::bakehouse(&bakery, "bake recipe.toml --on-error shell");
    terminal.until("it is not mended").until("a shell in the root");
    // Left as it is, the step fails again.
    terminal.types("exit").until(QUESTION).types("r").until("step 2 of 2: mended, again");
    terminal.until("it is not mended").until("a shell in the root");
    terminal.types("echo x > /srv/mended; exit 7").until(QUESTION);
    // A word that is no answer, then the shell once more.
    terminal.types("perhaps").until("none of these letters").until(QUESTION);
    terminal.types("s").until("a shell in the root").types("exit").until(QUESTION);
    terminal.types("retry").until("step 2 of 2: mended, again");
    terminal.until("check 1 of 1").until("a shell in the root");
    terminal.types("echo x > /srv/checked; exit").until(QUESTION).types("r").until("again");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    let image = bakery.store().image("attended").unwrap();
    assert!(shown.trim_end().ends_with(&image.id), "{shown}");
    assert_eq!(lines(&bakery, "attended", "srv/first"), 1, "what went well is not run again");
    bakery.assert_nothing_left();
}

#[test]
fn a_question_without_a_shell_is_answered_by_giving_up_or_keeping() {
    let Some((bakery, _disk)) = bakery() else { return };
    let mut terminal = Terminal::bakehouse(&bakery, "bake recipe.toml --on-error ask");
    let (status, shown) = {
        terminal.until("it is not mended").until(QUESTION).types("c");
        terminal.end()
    };
    assert_eq!(status, Some(9), "{shown}");
    assert!(!shown.contains("a shell in the root, as asked"), "{shown}");
    assert!(shown.contains("log: "), "{shown}");
    bakery.assert_nothing_left();

    let mut terminal = Terminal::bakehouse(&bakery, "bake recipe.toml --on-error ask");
    terminal.until(QUESTION).types("k");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(9), "{shown}");
    assert!(shown.contains("kept, as asked: "), "{shown}");
    let disks = || fs::read_dir(bakery.path("store/disks")).unwrap().count();
    assert_eq!(disks(), 2, "the base's and the kept one");
    bakery.bakehouse(&["gc", "--yes", "--kept-older-than", "0s"]).good();
    assert_eq!(disks(), 1);
    bakery.assert_nothing_left();

    // Nobody is there to be asked.
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--on-error", "ask"]);
    ran.refused(9, &["nobody can be asked", "it is not mended"]);
    bakery.assert_nothing_left();
}

#[test]
fn a_pause_is_a_shell_and_a_question_at_a_terminal() {
    let Some((bakery, _disk)) = bakery() else { return };
    let mut terminal = Terminal::bakehouse(&bakery, "bake recipe.toml --pause-after first");
    terminal.until("after step 1 of 2: first").until("a shell in the root");
    terminal.types("exit").until(QUESTION).types("r").until("first, again").until("a shell in the root");
    terminal.types("echo x > /srv/mended; echo x > /srv/checked; exit").until(QUESTION).types("g");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    assert_eq!(lines(&bakery, "attended", "srv/first"), 2, "it was run again, as asked");

    let mut terminal = Terminal::bakehouse(&bakery, "bake recipe.toml --name other --pause-after 1");
    terminal.until("a shell in the root").types("exit").until(QUESTION).types("c");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "given up on purpose: {shown}");
    assert!(bakery.store().image("other").is_err());
    bakery.assert_nothing_left();
}

#[test]
fn a_shell_before_the_root_is_closed_changes_the_image() {
    let Some((bakery, _disk)) = bakery() else { return };
    let fine = RECIPE.replace("[ -e /srv/mended ] ||", "true ||").replace("[ -e /srv/checked ]", "true");
    bakery.put("recipe.toml", fine);
    let mut terminal = Terminal::bakehouse(&bakery, "bake recipe.toml --shell");
    terminal.until("check 1 of 1").until("a shell in the root").types("echo x > /srv/by-hand; exit 4");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "how it is left decides nothing: {shown}");
    assert_eq!(lines(&bakery, "attended", "srv/by-hand"), 1);
    bakery.assert_nothing_left();
}

#[test]
fn signals_and_a_lost_terminal_end_whatever_waits_for_an_operator() {
    let Some((bakery, _disk)) = bakery() else { return };
    // ^C at the question.
    let mut terminal = Terminal::bakehouse(&bakery, "bake recipe.toml --on-error ask");
    terminal.until(QUESTION).types("\u{3}");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(128 + libc::SIGINT), "{shown}");
    bakery.assert_nothing_left();

    // The terminal goes away at the question, and in a shell.
    for (flags, at) in [("--on-error ask", QUESTION), ("--pause-after 1", "a shell in the root")] {
        let mut terminal = Terminal::bakehouse(&bakery, &format!("bake recipe.toml {flags}"));
        terminal.until(at);
        terminal.lose();
        let deadline = Instant::now() + Duration::from_secs(60);
        let journals = || fs::read_dir(bakery.path("state/bakes")).unwrap().count();
        while journals() > 0 {
            assert!(Instant::now() < deadline, "{flags}: its bake goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
        bakery.assert_nothing_left();
    }
}

#[test]
fn without_a_terminal_a_pause_ends_when_its_file_appears() {
    let Some((bakery, _disk)) = bakery() else { return };
    let err = bakery.path("err");
    let mut child = bakery
        .command(&[], &["bake", "recipe.toml", "--pause-after", "1", "--until", "1"])
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let told = loop {
        let told = fs::read_to_string(&err).unwrap();
        if told.contains("goes on, SIGTERM ends") {
            break told;
        }
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "{told}");
        std::thread::sleep(Duration::from_millis(10));
    };
    let between =
        |from: &str, to: &str| told.split(from).nth(1).unwrap().split(to).next().unwrap().to_owned();
    // What it names is there to be looked at.
    let root = between("its root is ", ";");
    assert_eq!(fs::read_to_string(format!("{root}/srv/first")).unwrap(), "once\n");
    fs::write(between("`touch ", "`"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let told = fs::read_to_string(&err).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(output.stdout.is_empty() && told.contains("ended after step 1 of 2: first, as asked"), "{told}");
    bakery.assert_nothing_left();

    // A signal ends it too.
    let err = fs::File::create(&err).unwrap();
    let mut command = bakery.command(&[], &["bake", "recipe.toml", "--pause-after", "1"]);
    let mut child = command.stdout(Stdio::null()).stderr(err).spawn().unwrap();
    while !fs::read_to_string(bakery.path("err")).unwrap().contains("goes on, SIGTERM ends") {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    // `timeout` passes it on.
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    let told = fs::read_to_string(bakery.path("err")).unwrap();
    assert!(told.contains("stopped by SIGTERM"), "{told}");
    bakery.assert_nothing_left();
}

#[test]
fn until_ends_after_a_step_without_an_image() {
    let Some((bakery, _disk)) = bakery() else { return };
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--until", "first", "--output", "json"]);
    let document = ran.json();
    assert_eq!(document["image"], serde_json::Value::Null);
    assert_eq!(document["until"], "step 1 of 2: first");
    let log = fs::read_to_string(document["log"].as_str().unwrap()).unwrap();
    assert!(!log.contains("step 2 of 2") && !log.contains("check 1 of 1"), "{log}");
    bakery.assert_nothing_left();

    let kept = bakery.bakehouse(&["bake", "recipe.toml", "--until", "1", "--on-error", "keep"]).good();
    assert!(kept.out.is_empty() && kept.err.contains("kept, as asked: "), "{}", kept.told());
    bakery.bakehouse(&["gc", "--yes", "--kept-older-than", "0s"]).good();
    bakery.assert_nothing_left();

    let planned =
        bakery.bakehouse(&["bake", "recipe.toml", "--until", "1", "--pause-after", "2", "--dry-run"]);
    let told = planned.good().out;
    assert!(
        told.contains("until        step 1 of 2: first") && told.contains("pause        after step 2"),
        "{told}"
    );
    let planned =
        bakery.bakehouse(&["bake", "recipe.toml", "--until", "1", "--dry-run", "--output", "json"]).json();
    assert_eq!(planned["stops"]["until"], 1);
    // Before anything is made.
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--until", "frist"]);
    ran.refused(2, &["--until frist: no step is called so", "did you mean \"first\"?", "2 (mended)"]);
}

/// The example of the README: the first steps and a look around.
#[test]
fn a_shell_after_the_step_that_is_the_last_sees_what_it_made() {
    let Some((bakery, _disk)) = bakery() else { return };
    let mut terminal = Terminal::bakehouse(&bakery, "bake recipe.toml --until 1 --shell");
    terminal.until("step 1 of 2: first").until("a shell in the root");
    terminal.types("read line </srv/first; echo \"seen $line\"; exit 5").until("seen once");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains("ended after step 1 of 2: first, as asked"), "{shown}");
    assert!(!shown.contains("step 2 of 2") && !shown.contains("check 1 of 1"), "{shown}");
    assert!(bakery.store().image("attended").is_err());
    bakery.assert_nothing_left();
}

#[test]
fn a_dry_run_shows_the_shell_and_nothing_that_the_bake_does_not_come_to() {
    let Some((bakery, _disk)) = bakery() else { return };
    let hook = |at: &str| format!("[[hook]]\nat = \"{at}\"\nname = \"hook at {at}\"\nrun = [\"true\"]\n");
    let points = ["before-mount", "after-mount", "before-close", "after-image"];
    let hooks: String = points.iter().map(|at| hook(at)).collect();
    bakery.put("recipe.toml", format!("{RECIPE}{hooks}"));
    let planned = |more: &[&str]| {
        let mut words = vec!["bake", "recipe.toml", "--dry-run"];
        words.extend(more);
        let told = bakery.bakehouse(&words).good().out;
        let row =
            |key: &str| told.lines().find(|line| line.split(' ').next() == Some(key)).map(str::to_owned);
        let hooks: Vec<_> = points.into_iter().filter(|at| told.contains(&format!("hook at {at}"))).collect();
        (row("shell"), row("hygiene").is_some(), row("audit").is_some(), hooks)
    };
    let shell = |text: &str| Some(format!("shell        in the root, after {text}"));
    assert_eq!(planned(&[]), (None, true, true, points.to_vec()));
    assert_eq!(planned(&["--shell"]), (shell("the checks, before hygiene"), true, true, points.to_vec()));
    let begun = points[..2].to_vec();
    assert_eq!(planned(&["--until", "1"]), (None, false, false, begun.clone()));
    assert_eq!(
        planned(&["--until", "first", "--shell"]),
        (shell("step 1 of 2: first"), false, false, begun.clone())
    );
    let document =
        bakery.bakehouse(&["bake", "recipe.toml", "--shell", "--dry-run", "--output", "json"]).json();
    assert_eq!(document["stops"]["shell"], true);

    // As the bake itself has it.
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--until", "1"]).good();
    let log = ran.err.lines().find_map(|line| line.trim().strip_prefix("log: ")).unwrap();
    let log = fs::read_to_string(log).unwrap();
    // The plan stands at its beginning.
    let (_, run) = log.split_once("provision").unwrap_or_else(|| panic!("{log}"));
    assert!(!run.contains("hygiene") && !run.contains("hook at before-close"), "{log}");
    bakery.assert_nothing_left();
}

#[test]
fn progress_is_json_where_asked_for_and_a_failure_names_its_log() {
    let Some((mut bakery, _disk)) = bakery() else { return };
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--log-format", "json"]);
    assert_eq!(ran.status, Some(9), "{}", ran.told());
    let read = |err: &str| -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        err.lines().map(parse).collect()
    };
    let told = read(&ran.err);
    let has = |key: &str, value: &str| told.iter().any(|line| line[key] == value);
    for (key, value) in
        [("kind", "phase"), ("kind", "note"), ("kind", "output"), ("phase", "provision"), ("step", "mended")]
    {
        assert!(has(key, value), "{key} {value}: {}", ran.told());
    }
    assert!(has("text", "it is not mended"), "{}", ran.told());
    let last = told.last().unwrap();
    assert_eq!(last["kind"], "error");
    assert_eq!(last["error"]["status"], 9);
    // The whole log has the failure too, and is named.
    let note = told.iter().rev().find_map(|line| line["text"].as_str()?.strip_prefix("log: "));
    let log = fs::read_to_string(note.unwrap_or_else(|| panic!("{}", ran.told()))).unwrap();
    assert!(log.contains("it is not mended") && log.contains("what to do: "), "{log}");
    assert!(told.iter().any(|line| line["bake"].as_str().is_some_and(|bake| bake.starts_with("bake-"))));

    // By the environment, as quiet as asked for; and more with -v.
    bakery.set("BAKEHOUSE_LOG_FORMAT", Some("json"));
    let quiet = bakery.bakehouse(&["bake", "recipe.toml", "-q"]);
    assert!(read(&quiet.err).iter().all(|line| line["kind"] == "error" || line["kind"] == "warning"));
    let loud = bakery.bakehouse(&["bake", "recipe.toml", "--until", "1", "-v"]).good();
    assert!(read(&loud.err).iter().any(|line| line["kind"] == "detail"), "{}", loud.told());
    bakery.assert_nothing_left();
}
