//! What stays once its bake has ended, and for how long `gc` leaves it: a disk that the operator kept for a look, and
//! the hooks after an image that wait for somebody to go on with them.

use std::time::Duration;

use jiff::Timestamp;

use super::Kitchen;
use crate::journal::{Journal, Record};
use crate::recipe::units::show_duration;
use crate::report::Reporter;

/// The journal's note of when it was kept.
const KEPT: &str = "kept";

/// How long `gc` leaves what was kept, unless told otherwise.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Notes that this journal is kept on purpose, and says until when.
pub(super) fn note_kept(journal: &Journal, reporter: &Reporter) {
    match journal.note(KEPT, &Timestamp::now().to_string()) {
        Ok(()) => reporter.warn(&format!(
            "what is kept stays for {}: then, or now with --kept-older-than 0s, `bakehouse gc --yes` releases it",
            show_duration(KEPT_FOR.as_secs())
        )),
        Err(error) => {
            reporter.warn(&format!("the next `bakehouse gc --yes` releases what is kept: {error:#}"));
        }
    }
}

/// Until when what the bake kept is left alone, where that is not over at `now`. An image on its way to the name of the
/// one that it replaces waits for nobody.
pub fn kept_until(record: &Record, kept_for: Duration, now: Timestamp) -> Option<Timestamp> {
    let since: Timestamp = record.notes.get(KEPT)?.parse().ok()?;
    let until = since.checked_add(kept_for).unwrap_or(Timestamp::MAX);
    // With a clock that was set back it seems to be from the future: "now" releases it all the same.
    let waits = kept_for > Duration::ZERO && now < until && !record.is_half_replaced();
    waits.then_some(until)
}

impl Kitchen<'_> {
    /// Tells what there is of a disk that stays.
    pub(super) fn tell_kept(&self, journal: &Journal) {
        for entry in journal.owned() {
            self.reporter.warn(&format!("kept, as asked: {entry}"));
        }
    }

    /// Tells of the image of a bake that failed although that stands, and how to go on; whether there is one.
    pub(super) fn tell_good(&self, journal: &Journal) -> bool {
        let Some(image) = journal.kept_image() else { return false };
        let what = image.made.unwrap_or_else(|| image.thing.to_string());
        let bake = journal.path().file_stem().unwrap_or_default().display();
        self.reporter.warn(&format!(
            "the image {what} is good, but not all that comes after it is done: `bakehouse bake --resume {bake}` goes on"
        ));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(lines: &str) -> Record {
        let first = r#"{"line":"bake","id":"bake-x","cloud":"local","about":{}}"#;
        crate::journal::read(&format!("{first}\n{lines}")).unwrap()
    }

    #[test]
    fn what_was_kept_stays_for_its_time_and_no_longer() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let kept = record("{\"line\":\"note\",\"key\":\"kept\",\"value\":\"2026-01-01T10:00:00Z\"}\n");
        let until = |now, kept_for| kept_until(&kept, kept_for, at(now));
        assert_eq!(until("2026-01-02T09:59:59Z", KEPT_FOR), Some(at("2026-01-02T10:00:00Z")));
        assert_eq!(until("2026-01-02T10:00:00Z", KEPT_FOR), None);
        assert_eq!(until("2026-01-01T10:00:00Z", Duration::ZERO), None);
        assert_eq!(
            until("2026-01-01T09:00:00Z", Duration::ZERO),
            None,
            "also with a clock that was set back"
        );
        assert_eq!(until("2026-01-02T10:00:00Z", Duration::MAX), Some(Timestamp::MAX));
        assert_eq!(kept_until(&record(""), KEPT_FOR, at("2026-01-01T10:00:00Z")), None);
    }

    #[test]
    fn an_image_on_its_way_to_anothers_name_waits_for_nobody() {
        let replaced = r#"{"thing":"replaced","region":"local","name":"web","image":"img-1","snapshots":[]}"#;
        let lines = format!(
            "{{\"line\":\"intend\",\"number\":0,\"thing\":{replaced}}}\n\
             {{\"line\":\"note\",\"key\":\"kept\",\"value\":\"2026-01-01T10:00:00Z\"}}\n"
        );
        let now = "2026-01-01T11:00:00Z".parse().unwrap();
        assert_eq!(kept_until(&record(&lines), KEPT_FOR, now), None);
    }
}
