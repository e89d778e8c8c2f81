//! Sizes and durations as people write them.

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// A hundred years, in seconds: whatever is longer is a slip, and a clock to which it is added would overflow.
const LONGEST: u64 = 36_500 * 86_400;

const DURATIONS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// A size in bytes from a whole number and its unit: `8GiB`, `512 MiB`, `10GB` (powers of ten).
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    if number.is_empty() {
        return Err("a size begins with a whole number".to_owned());
    }
    if unit.is_empty() {
        return Err(format!("a size needs a unit: \"{number}GiB\", \"{number}MiB\""));
    }
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        let near = SIZES.iter().find(|(name, _)| {
            unit.chars()
                .next()
                .is_some_and(|first| name.to_lowercase().starts_with(first.to_ascii_lowercase()))
        });
        return Err(match near {
            Some((name, _)) if unit.is_ascii() => {
                format!("{unit:?} is no unit of size; \"{number}{name}\" may be meant")
            }
            _ => format!("{unit:?} is no unit of size: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB"),
        });
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| "too large a size".to_owned())
}

/// A size in the largest power of 1024 that it is a whole number of.
pub fn show_size(bytes: u64) -> String {
    let binary = SIZES.iter().filter(|(name, _)| name.ends_with("iB"));
    match binary.into_iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor)) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Seconds from a duration: `90s`, `5m`, `1h30m`, `2d`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err("a duration is empty".to_owned());
    }
    let mut rest = text;
    let mut total = 0u64;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err(format!("{text:?} is no duration"));
        }
        let Some((unit, factor)) = DURATIONS.iter().find(|(unit, _)| after.starts_with(unit)) else {
            return Err(match after.trim() {
                "" => format!("{text:?} needs a unit behind {number}: s, m, h or d"),
                unit if DURATIONS.iter().any(|(known, _)| *known == unit) => {
                    format!("{text:?} has a space; \"{number}{unit}\" may be meant")
                }
                other => format!("{other:?} is no unit of time: s, m, h or d"),
            });
        };
        if *factor >= last {
            return Err(format!("{text:?} does not go from the larger unit to the smaller"));
        }
        last = *factor;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*factor))
            .and_then(|seconds| total.checked_add(seconds))
            .filter(|total| *total <= LONGEST)
            .ok_or_else(|| "too long a duration".to_owned())?;
        rest = after.get(unit.len()..).unwrap_or_default();
    }
    if total == 0 {
        return Err("a duration of nothing".to_owned());
    }
    Ok(total)
}

/// A duration by its units, `1h30m`.
pub fn show_duration(seconds: u64) -> String {
    let mut left = seconds;
    let mut text = String::new();
    for (unit, factor) in DURATIONS {
        if left >= factor {
            text.push_str(&format!("{}{unit}", left / factor));
            left %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("8GiB"), Ok(8 << 30));
        assert_eq!(parse_size("512 MiB"), Ok(512 << 20));
        assert_eq!(parse_size("10GB"), Ok(10_000_000_000));
        assert_eq!(parse_size("8G").unwrap_err(), "\"G\" is no unit of size; \"8GiB\" may be meant");
        assert_eq!(parse_size("8").unwrap_err(), "a size needs a unit: \"8GiB\", \"8MiB\"");
        for wrong in ["", "GiB", "-1GiB", "1.5GiB", "8 GiB ", "99999999999999999999B", "99999999TiB", "8é"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("90s"), Ok(90));
        assert_eq!(parse_duration("1h30m"), Ok(5400));
        assert_eq!(parse_duration("36500d"), Ok(LONGEST));
        for wrong in ["", "90", "s", "5m1h", "5m5m", "0s", "1.5h", "5 m", "99999999999999999999s", "5é"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for (wrong, why) in [
            ("90", "\"90\" needs a unit behind 90: s, m, h or d"),
            ("30 d", "\"30 d\" has a space; \"30d\" may be meant"),
            ("30 days", "\"days\" is no unit of time: s, m, h or d"),
            ("18446744073709551615s", "too long a duration"),
            ("36501d", "too long a duration"),
        ] {
            assert_eq!(parse_duration(wrong).unwrap_err(), why);
        }
    }

    proptest! {
        #[test]
        fn a_size_shown_is_parsed_again(bytes in 0..u64::MAX, shift in 0..40u32) {
            let bytes = (bytes >> shift) << shift;
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn a_duration_shown_is_parsed_again(seconds in 1..=LONGEST) {
            prop_assert_eq!(parse_duration(&show_duration(seconds)), Ok(seconds));
        }

        #[test]
        fn any_text_is_a_unit_or_an_error(text in "\\PC*") {
            prop_assert!(parse_size(&text).is_ok() || parse_size(&text).is_err());
            prop_assert!(parse_duration(&text).is_ok() || parse_duration(&text).is_err());
        }
    }
}
