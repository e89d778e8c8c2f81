//! The network: none at all, or the builder's without the metadata service.

use bakehouse::error::{Kind, failure_of, kind_of};
use bakehouse::sandbox::Network;

use crate::support::host::in_own_mounts;
use crate::support::metadata::Place;
use crate::support::roots::{Root, can_make, sh};

#[test]
fn without_network_there_is_a_loopback_alone() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let out = root.sh("ls /sys/class/net; cat /sys/class/net/lo/operstate; grep -c . /proc/net/route").good();
    assert!(out.starts_with("lo\n"), "{out}");
    assert!(out.ends_with("\n1\n"), "the head of the table alone: {out}");
}

#[test]
fn the_metadata_service_is_out_of_reach_and_all_else_is_not() {
    if !can_make() {
        return;
    }
    Place::enter(|place| {
        let root = Root::new();
        // The same program on the same network, outside and inside.
        let script = "for a in 169.254.169.254 127.0.0.1 fd00:ec2::254 ::1 ::ffff:169.254.169.254; do bash -c \"exec 3<>/dev/tcp/$a/80 && head -1 <&3\" 2>&1 | tail -1; done";
        let outside = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&outside.stdout), "credentials\n".repeat(5));
        let mut run = sh(script);
        run.network = Network::Host;
        let out = root.go(&run).good();
        let answers: Vec<_> = out.lines().map(|line| line.contains("credentials")).collect();
        assert_eq!(answers, [false, true, false, true, false], "{out}");
        assert_eq!(out.matches("Operation not permitted").count(), 3, "{out}");
        run.network = Network::None;
        assert!(!root.go(&run).out.contains("credentials"));
        drop(place);
    });
}

#[test]
fn where_the_metadata_service_cannot_be_refused_nothing_runs_on_the_network() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    in_own_mounts(move || {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        for line in mounts.lines().filter(|line| line.contains(" - cgroup2 ")) {
            let place = line.split(' ').nth(4).unwrap();
            nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
        let mut run = sh("echo ran");
        assert_eq!(root.go(&run).good(), "ran\n", "without network all is well");
        run.network = Network::Host;
        let ran = root.go(&run);
        assert_eq!(ran.out, "");
        let error = ran.refused();
        assert_eq!(kind_of(&error), Kind::Host, "{error:#}");
        assert!(format!("{error:#}").contains("the metadata service cannot be kept from what runs inside"));
        assert!(failure_of(&error).unwrap().hint.as_deref().unwrap().contains("network = \"none\""));
        assert!(bakehouse::sandbox::walls().iter().any(|wall| wall.lacking.is_some()), "doctor tells");
    });
}

#[test]
fn a_trial_tells_whether_this_host_can_build_a_sandbox() {
    if !can_make() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let helper = std::path::Path::new(env!("CARGO_BIN_EXE_bakehouse"));
    for network in [Network::None, Network::Host] {
        runtime.block_on(bakehouse::sandbox::self_test(helper, network)).unwrap();
    }
    let missing =
        runtime.block_on(bakehouse::sandbox::self_test("/nowhere".as_ref(), Network::None)).unwrap_err();
    assert!(format!("{missing:#}").contains("starting the sandbox's helper /nowhere"), "{missing:#}");
    for wall in bakehouse::sandbox::walls() {
        println!("{}: {}", wall.what, wall.lacking.as_deref().unwrap_or("stands"));
    }
}
