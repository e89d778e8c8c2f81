//! The systemd units that sweep at boot and hourly.

use std::path::Path;
use std::process::Command;

use super::site::{NEEDED, On, Site};
use crate::support::host::has;

#[test]
fn the_units_are_well_formed_and_their_command_runs() {
    if !has(&[NEEDED, &["systemd-analyze"]].concat()) {
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
}
