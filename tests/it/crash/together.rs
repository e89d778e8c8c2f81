//! Many at once: bakes beside bakes, sweeps beside sweeps and beside a bake.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::kill::kill_at;
use super::site::{NEEDED, On, Site, Stands};
use crate::support::host::{has, run};

const AT_ONCE: usize = 8;

#[test]
fn eight_bakes_of_one_base_at_once_on_the_local_store() {
    eight(On::Local);
}

#[test]
fn eight_bakes_of_one_base_at_once_on_ec2() {
    eight(On::Ec2);
}

fn eight(on: On) {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(on);
    let before = site.base_digest();
    let bakes: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let recipe = format!("recipe-{number}.toml");
            // It fails where it sees what another one wrote.
            let script =
                format!("set -e; test ! -e /srv/mine; echo {number} > /srv/mine; echo baked > /srv/marker");
            site.write_recipe_as(&recipe, &script);
            site.start(&[], &["bake", &recipe, "--name", &format!("eight-{number}")])
        })
        .collect();
    let ended: Vec<_> = bakes.into_iter().map(super::site::Running::wait).collect();
    for (number, ended) in ended.iter().enumerate() {
        assert!(ended.status.success(), "{number}: {}", ended.told());
        let name = format!("eight-{number}");
        assert_eq!(site.stands(&name), Ok(Stands::Image));
        let disk = site.disk_of(&name).unwrap();
        let mine = run("debugfs", &["-R", "cat /srv/mine", disk.to_str().unwrap()]);
        assert_eq!(mine.trim(), number.to_string());
    }
    site.settle().unwrap();
    assert_eq!(site.base_digest(), before, "the base is as it was");
}

/// A dead bake is swept by two at once while another one lives and goes on.
#[test]
fn two_sweeps_and_a_bake_at_once() {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(On::Ec2);
    for round in 0..3 {
        kill_at(&site, "AttachVolume", "after", "dead");
        site.ec2().fault(json!({"action": "CreateSnapshot", "kind": "hold"}));
        let live = format!("live-{round}");
        let bake = site.bake(&[], &live);
        assert_eq!(site.ec2().held(Duration::from_secs(120)).len(), 1);
        let sweeps = [(); 2].map(|()| site.start(&[], &["gc", "--all", "--older-than", "1s", "--yes"]));
        for sweep in sweeps {
            let ended = sweep.wait();
            assert!(ended.status.success(), "{}", ended.told());
        }
        let volumes = site.ec2().state()["volumes"].as_array().unwrap().len();
        assert_eq!(volumes, 1, "the dead bake's is gone, the live one's is not");
        assert_eq!(site.journals().len(), 1);
        site.ec2().release(false);
        let ended = bake.wait();
        assert!(ended.status.success(), "{}", ended.told());
        site.ec2().clear_faults();
        assert_eq!(site.stands(&live), Ok(Stands::Image));
    }
}

/// Sweeps without a pause while bakes go on, on a store where nothing but names and locks tells what lives.
#[test]
fn sweeps_do_not_touch_live_bakes_of_the_local_store() {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(On::Local);
    let mut bakes: Vec<_> = (0..4).map(|number| site.bake(&[], &format!("live-{number}"))).collect();
    let mut rounds = 0;
    while bakes.iter_mut().any(|bake| !bake.is_over()) {
        site.gc(&["--yes"]).unwrap();
        site.gc(&["--all", "--older-than", "1s", "--yes"]).unwrap();
        rounds += 1;
    }
    assert!(rounds > 0);
    for (number, bake) in bakes.into_iter().enumerate() {
        let ended = bake.wait();
        assert!(ended.status.success(), "{}", ended.told());
        assert_eq!(site.stands(&format!("live-{number}")), Ok(Stands::Image));
    }
}

/// A sweep that is killed is taken up by the next one.
#[test]
fn a_sweep_killed_at_each_of_its_lines_is_finished_by_the_next() {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(On::Ec2);
    for nth in 1.. {
        kill_at(&site, "CreateSnapshot", "after", "dead");
        let inject = format!("inject=fdatasync:signal=SIGKILL:when={nth}");
        let through = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
        let ended = site.start(&through, &["gc", "--yes"]).wait();
        site.gc(&["--yes"]).unwrap();
        assert_eq!(site.stands("dead"), Ok(Stands::Nothing));
        if !ended.was_killed() {
            assert!(ended.status.success() && nth == 4, "snapshot, attachment and volume: {}", ended.told());
            break;
        }
    }
}

/// What no journal tells of is found by its tags, or by what no image's record speaks of.
#[test]
fn what_a_lost_journal_told_of_is_found_by_tags() {
    if !has(NEEDED) {
        return;
    }
    for on in [On::Ec2, On::Local] {
        let site = Site::new(on);
        match on {
            On::Ec2 => kill_at(&site, "CreateSnapshot", "after", "dead"),
            On::Local => {
                let inject = "inject=fdatasync:signal=SIGKILL:when=6";
                let through = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject];
                assert!(site.bake(&through, "dead").wait().was_killed());
            }
        }
        site.settle().unwrap();
        for journal in site.journals() {
            std::fs::remove_file(journal).unwrap();
        }
        site.forget_works();
        assert!(site.stands("dead").is_err());
        assert_eq!(
            site.gc(&["--all", "--yes"]),
            Ok(Vec::new()),
            "it is young: another state folder may have it"
        );
        let any = ["--all", "--older-than", "1s", "--any-builder"];
        let wanted = if on == On::Ec2 { 2 } else { 1 };
        let shown = site.gc_until(&any, wanted);
        assert!(shown.iter().all(|finding| finding["verdict"] == "release"), "{shown:?}");
        let done = site.gc(&["--all", "--older-than", "1s", "--yes"]).unwrap();
        assert!(
            done.len() == wanted && done.iter().all(|finding| finding["verdict"] == "released"),
            "{done:?}"
        );
        assert_eq!(site.stands("dead"), Ok(Stands::Nothing));
    }
}

/// A step is ended with all that it started, and the bake unwinds, when its reader or its terminal goes away.
#[test]
fn a_broken_pipe_and_a_closed_terminal_unwind() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;
    if !has(&[NEEDED, &["script"]].concat()) {
        return;
    }
    let site = Site::new(On::Local);
    site.write_recipe("echo asleep; sleep 600 & sleep 600");
    for more in [&[][..], &["-v"]] {
        let arguments = [&["bake", "recipe.toml", "--name", "pipe"], more].concat();
        let mut child =
            site.command(&[], &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // By now all else is told.
        assert!(lines.by_ref().any(|line| line.unwrap().trim_end().ends_with(" asleep")));
        drop(lines);
        // It has nothing to say while the step sleeps: as with every program, the next word finds the pipe broken.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143));
        site.settle().unwrap();
        assert_eq!(site.stands("pipe"), Ok(Stands::Nothing));
    }

    // A step that talks meets the broken pipe by itself.
    site.write_recipe("while :; do echo talk; sleep 0.1; done");
    let mut child = site
        .command(&[], &["bake", "recipe.toml", "--name", "talk"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("talk")));
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGPIPE));
    site.settle().unwrap();
    assert_eq!(site.stands("talk"), Ok(Stands::Nothing));

    // A terminal: `script` has the other end of it, and is killed.
    site.write_recipe("sleep 600");
    let own = site.path("bakehouse");
    let line = format!("exec {} bake recipe.toml --name terminal", own.display());
    let mut terminal = site
        .command_of("script", &["-qec", &line, "/dev/null"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).split(b'\n');
    assert!(lines.by_ref().any(|line| String::from_utf8_lossy(&line.unwrap()).contains("provision")));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    site.settle().unwrap();
    assert_eq!(site.stands("terminal"), Ok(Stands::Nothing));
}

/// A second signal ends the process whatever it waits for; it says what the journal still holds.
#[test]
fn a_second_signal_stops_waiting_and_leaves_the_rest_to_gc() {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(On::Ec2);
    for action in ["CreateVolume", "DetachVolume"] {
        site.ec2().fault(json!({"action": action, "kind": "hold", "when": "after"}));
        let mut bake = site.bake(&[], "second");
        assert_eq!(site.ec2().held(Duration::from_secs(120)).len(), 1);
        bake.signal(Signal::SIGTERM);
        bake.until_said("stopping: ");
        let hurried = Instant::now();
        bake.signal(Signal::SIGINT);
        let ended = bake.wait();
        assert_eq!(ended.status.code(), Some(143), "{}", ended.told());
        assert!(hurried.elapsed() < Duration::from_secs(15), "{}", ended.told());
        assert!(ended.err.contains("still there: volume in eu-west-1"), "{}", ended.told());
        assert!(ended.err.contains("bakehouse gc --yes"), "{}", ended.told());
        site.ec2().release(true);
        site.ec2().clear_faults();
        site.settle().unwrap();
        site.gc(&["--yes"]).unwrap();
        assert_eq!(site.stands("second"), Ok(Stands::Nothing));
    }
}
