//! The network: none at all, or the builder's without the metadata service.

use bakehouse::sandbox::Network;

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
