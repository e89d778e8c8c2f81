//! The store's ids: a prefix and 17 hexadecimal digits as EC2's have, time first, so that ids sort by age.

use std::io::Read as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

/// Digits after the prefix: 11 of milliseconds since 1970 (enough until the year 2527), 6 of chance.
const DIGITS: usize = 17;

/// A new id, `PREFIX-` and 17 digits.
pub(super) fn new(prefix: &str) -> Result<String> {
    let mut chance = [0; 3];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut chance))
        .context("reading /dev/urandom for a new id")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Ok(from_parts(prefix, now, chance))
}

fn from_parts(prefix: &str, milliseconds: u128, [a, b, c]: [u8; 3]) -> String {
    let time = milliseconds & 0xfff_ffff_ffff;
    format!("{prefix}-{time:011x}{a:02x}{b:02x}{c:02x}")
}

/// Whether `id` is one that this store gives with `prefix`: safe as a file's name too.
pub(super) fn is(prefix: &str, id: &str) -> bool {
    id.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_age_and_are_told_from_names() {
        let earlier = from_parts("img", 1_795_000_000_000, [255; 3]);
        let later = from_parts("img", 1_795_000_000_001, [0; 3]);
        assert!(earlier < later);
        assert!(is("img", &earlier) && is("img", &new("img").unwrap()));
        assert!(!is("snap", &earlier));
        for other in ["img-", "img-xyz", "img-../../../etc/passwd", "img-0123456789ABCDEF0", "debian-12"] {
            assert!(!is("img", other), "{other}");
        }
    }
}
