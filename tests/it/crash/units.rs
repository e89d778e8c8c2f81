//! The systemd units that sweep at boot and hourly.

use std::path::Path;
use std::process::Command;

use super::site::{NEEDED, On, Site};
use crate::support::cgroups::{Cgroups, dead};
use crate::support::host::has;

#[test]
fn the_units_are_well_formed_and_their_command_runs() {
    if !has(&[NEEDED, &["systemd-analyze", "unshare", "mount", "mountpoint"]].concat()) {
        return;
    }
    let site = Site::new(On::Local);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd");
    let own = site.path("bakehouse");
    let mut units = Vec::new();
    for name in ["bakehouse-gc.service", "bakehouse-gc.timer"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let unit = site.path(name);
        std::fs::write(&unit, text.replace("/usr/local/bin/bakehouse", own.to_str().unwrap())).unwrap();
        units.push(unit);
    }
    let verified = Command::new("systemd-analyze").arg("verify").args(&units).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    // Of this host's own units it may complain too.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("bakehouse-gc")).collect();
    assert_eq!(ours, Vec::<&str>::new(), "{said}");

    let service = std::fs::read_to_string(&units[0]).unwrap();
    let line = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<_> = line.split(' ').skip(1).collect();
    let ended = site.start(&[], &words).wait();
    assert!(ended.status.success(), "{}", ended.told());
    assert!(words.contains(&"--yes"));

    // And does its work with no more of the host to write to than the unit leaves it.
    let Some(cgroups) = Cgroups::make() else { return };
    let left = cgroups.run("system.slice/bakehouse-window.service", &dead());
    let around = format!("set -e\n{}exec \"$@\"\n", walls(&service));
    let through = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &around, "sh"];
    let ended = site.start(&through, &words).wait();
    assert!(ended.status.success() && !ended.err.contains("Read-only"), "{}", ended.told());
    assert!(!left.exists(), "{}", ended.told());
}

/// What systemd makes read-only for a service (systemd.exec(5)), as commands of a shell.
fn walls(service: &str) -> String {
    let of = [
        ("ProtectSystem=full", "/usr /boot /etc"),
        ("ProtectKernelTunables=yes", "/proc/sys /sys"),
        (
            "ProtectControlGroups=yes",
            "$(while read -r _ at kind _; do [ $kind = cgroup2 ] && echo $at; done < /proc/mounts)",
        ),
    ];
    let folders: Vec<_> = of.iter().filter(|(line, _)| service.lines().any(|one| one == *line)).collect();
    assert!(!folders.is_empty(), "{service}");
    let each = |(_, folders): &&(&str, &str)| {
        format!(
            "for at in {folders}; do\nmountpoint -q $at || mount --rbind $at $at\nmount -o remount,bind,ro $at\ndone\n"
        )
    };
    folders.iter().map(each).collect()
}
