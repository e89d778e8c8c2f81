//! `bakehouse enter`: looks inside images.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::bake::small::can_bake;
use crate::bake_ec2::Builder;
use crate::support::bakery::{Bakery, small_disk};
use crate::support::host::{has, run};
use crate::support::standin::{INSTANCE, Options};
use crate::support::terminal::Terminal;

const SHOW: &str = "read -r line < /etc/os-release; echo \"$line\"; echo aside >&2; exit 5";
const WRITE: &str = "echo x > /srv/written && echo done";

#[test]
fn an_image_of_the_store_is_looked_into_and_stays_as_it_is() {
    if !can_bake() || !has(&["script"]) {
        return;
    }
    let (bakery, disk) = (Bakery::new(), small_disk());
    bakery.base("small", disk.path());
    let before = run("sha256sum", &[disk.path().to_str().unwrap()]);
    let enter = |more: &[&str]| bakery.bakehouse(&[&["enter", "small"], more].concat());

    // The command's own output and status are the result.
    let shown = enter(&["--", "/bin/sh", "-c", SHOW]);
    assert_eq!((shown.status, shown.out.as_str()), (Some(5), "ID=debian\n"), "{}", shown.told());
    assert!(shown.err.contains("\naside\n"), "{}", shown.told());
    let refused = enter(&["--", "/bin/sh", "-c", WRITE]);
    assert_eq!((refused.status, refused.out.as_str()), (Some(2), ""), "{}", refused.told());
    assert!(refused.err.contains("Read-only file system"), "{}", refused.told());
    // What is the sandbox's own can be written to, and on request all of it: for this once.
    assert_eq!(enter(&["--", "/bin/sh", "-c", "echo x > /tmp/x && echo done"]).good().out, "done\n");
    assert_eq!(enter(&["--writable", "--", "/bin/sh", "-c", WRITE]).good().out, "done\n");
    assert_eq!(enter(&["--", "/bin/sh", "-c", "[ ! -e /srv/written ]"]).good().out, "");
    // It is a sandbox: no builder's process, device or network is seen.
    let inside = "for node in /dev/loop*; do [ -e \"$node\" ] && echo $node; done; read -r _ < /proc/net/route && \
                  while read -r route; do echo $route; done < /proc/net/route; echo $$";
    let seen = enter(&["--", "/bin/sh", "-c", inside]);
    assert!(!seen.out.contains("loop"), "{}", seen.told());

    let mut terminal = Terminal::bakehouse(&bakery, "enter small");
    terminal
        .until("(read-only)")
        .types("[ -d /srv ] && echo it is $((20 + 3))")
        .until("it is 23")
        .types("exit 3");
    assert_eq!(terminal.end().0, Some(3));

    enter(&["--", "/bin/none"]).refused(9, &["no program /bin/none"]);
    bakery.bakehouse(&["enter", "./disk.raw"]).refused(2, &["is no image"]);
    bakery.bakehouse(&["enter", "nosuch"]).refused(5, &["nosuch"]);
    bakery.assert_nothing_left();
    assert_eq!(run("sha256sum", &[disk.path().to_str().unwrap()]), before, "the image is as it was");
    assert_eq!(fs::read_dir(bakery.path("store/images")).unwrap().count(), 1);
}

#[test]
fn on_ec2_a_volume_of_the_image_comes_and_goes_again() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, ami, snapshot, .. } = &builder;
    let shown = bakery.bakehouse(&["enter", ami, "--", "/bin/sh", "-c", SHOW]);
    assert_eq!((shown.status, shown.out.as_str()), (Some(5), "ID=debian\n"), "{}", shown.told());
    let counts = standin.counts();
    for action in ["CreateVolume", "AttachVolume", "DetachVolume", "DeleteVolume"] {
        assert_eq!(counts.get(action), Some(&1), "{action}: {counts:?}");
    }
    for action in ["CreateSnapshot", "RegisterImage", "CreateTags"] {
        assert!(!counts.contains_key(action), "{counts:?}");
    }
    let made = standin.requests_of("CreateVolume", 1, Duration::ZERO)[0].to_string();
    assert!(made.contains(snapshot.as_str()) && made.contains("bakehouse:bake"), "found by gc: {made}");
    assert_eq!(builder.left(), (0, 0, 0));
    bakery.assert_nothing_left();

    // Killed in mid-look, it leaves what gc releases.
    standin.clear_requests();
    let mut child =
        bakery.command(&[], &["enter", ami, "--", "/bin/sh", "-c", "while :; do :; done"]).spawn().unwrap();
    standin.until("attached", |state| state["volumes"][0]["Attachments"][0]["State"] == "attached");
    let group = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    // `timeout` is what was started: the command is its child.
    let children = fs::read_to_string(format!("/proc/{group}/task/{group}/children")).unwrap();
    let own = nix::unistd::Pid::from_raw(children.trim().parse().unwrap());
    kill(own, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    assert_eq!(builder.left(), (1, 0, 0), "of {INSTANCE}");
    bakery.bakehouse(&["gc", "--yes"]).good();
    assert_eq!(builder.left(), (0, 0, 0));
}
