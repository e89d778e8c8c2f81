//! Logs of bakes that ended long ago.
//!
//! A bake's manifest, which lies beside its log, stays: it is what tells of an image's packages for as long as the
//! image stands.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::broom::{Broom, Remove, Swept};
use crate::journal::Journal;
use crate::plan::BakeId;

/// Removes the logs that nothing was written to for longer than `older`; without `act` it only says what that is. The
/// folder may be one of other programs too: what has not the name of a bake's log is theirs. The log of a bake whose
/// journal is still there stays, for whoever looks why.
///
/// # Errors
/// The state folder cannot be listed; the first thing that kept a log from being removed. All others went nevertheless.
pub fn logs(logs: &Path, state: &Path, older: Duration, now: SystemTime, act: bool) -> (Swept, Result<()>) {
    let journals = match Journal::all(state) {
        Ok(journals) => journals,
        Err(error) => return (Swept::default(), Err(error)),
    };
    let open: BTreeSet<_> = journals.iter().map(|journal| Journal::bake_of(journal).0).collect();
    let remove: &Remove<'_> = &|path| std::fs::remove_file(path);
    let mut broom = Broom::new(older, now, act.then_some(remove));
    broom.files(logs, broom.before, |name| {
        let bake = name.strip_suffix(".log").and_then(|bake| BakeId::parse(bake).ok());
        bake.is_some_and(|bake| !open.contains(&bake.0))
    });
    (broom.gone, broom.wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn old_logs_of_bakes_go_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (own, state) = (folder.path().join("logs"), folder.path().join("state"));
        let log = |name: &str| own.join(name);
        std::fs::create_dir_all(state.join("bakes")).unwrap();
        std::fs::create_dir_all(log("bake-22222222222222222.log")).unwrap();
        let stays = [
            "bake-0123456789abcdef0.manifest.json",
            "bake-1.log",
            "bake.log",
            "syslog",
            "bake-00000000000000001.log",
        ];
        for name in stays {
            std::fs::write(log(name), "x").unwrap();
        }
        std::fs::write(log("bake-0123456789abcdef0.log"), "x").unwrap();
        std::fs::write(state.join("bakes/bake-00000000000000001.journal"), "").unwrap();
        let swept = |after: Duration, act: bool| {
            let (gone, done) = logs(&own, &state, 90 * DAY, SystemTime::now() + after, act);
            done.unwrap();
            (gone.files, log("bake-0123456789abcdef0.log").exists())
        };
        assert_eq!(swept(89 * DAY, true), (0, true));
        assert_eq!(swept(91 * DAY, false), (1, true), "shown, not done");
        assert_eq!(swept(91 * DAY, true), (1, false));
        assert_eq!(swept(91 * DAY, true), (0, false));
        assert!(stays.iter().all(|name| log(name).exists()) && log("bake-22222222222222222.log").is_dir());
    }

    #[test]
    fn a_folder_that_is_not_there_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let (swept, done) = logs(&gone, &gone, DAY, SystemTime::now(), true);
        done.unwrap();
        assert_eq!(swept, Swept::default());
    }
}
