//! The formats of package files: how their names end.

/// Known whatever a definition takes: their files are told apart from packages' names, and refused with the name of who
/// takes them.
pub(super) const KNOWN: [&str; 2] = ["deb", "rpm"];

/// Whether it can be a format: the end of a file's name, without the dot before it.
pub(super) fn is_format(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    word.starts_with(plain) && word.ends_with(plain) && word.chars().all(|c| plain(c) || "._-".contains(c))
}

/// The format that a file's name tells, of those taken and those known. The longest: `pkg.tar.zst` before `zst`.
pub(super) fn format_of<'f>(path: &str, taken: &'f [String]) -> Option<&'f str> {
    let formats = taken.iter().map(String::as_str).chain(KNOWN);
    let ends = |format: &&str| path.strip_suffix(*format).is_some_and(|stem| stem.ends_with('.'));
    formats.filter(ends).max_by_key(|format| format.len())
}

/// The ends of files' names that are taken, for people: `.deb or .rpm`.
pub(super) fn endings(taken: &[String]) -> String {
    match taken {
        [] => "nothing: no files are taken here".to_owned(),
        _ => taken.iter().map(|format| format!(".{format}")).collect::<Vec<_>>().join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_longest_format_that_its_name_ends_with() {
        let taken = ["zst", "pkg.tar.zst"].map(str::to_owned);
        for (path, format) in [
            ("./a-1.pkg.tar.zst", Some("pkg.tar.zst")),
            ("./a.zst", Some("zst")),
            ("./azst", None),
            ("a.rpm", Some("rpm")),
            ("a.apk", None),
        ] {
            assert_eq!(format_of(path, &taken), format, "{path}");
        }
        assert_eq!(endings(&taken), ".zst or .pkg.tar.zst");
    }

    #[test]
    fn a_format_is_the_end_of_a_name_and_nothing_else() {
        for (word, good) in [
            ("apk", true),
            ("pkg.tar.zst", true),
            ("7z", true),
            ("", false),
            (".apk", false),
            ("a/b", false),
            ("A", false),
        ] {
            assert_eq!(is_format(word), good, "{word}");
        }
    }
}
