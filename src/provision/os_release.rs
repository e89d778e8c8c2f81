//! The image's os-release: which distribution it is.

use std::path::Path;

use anyhow::Result;

use crate::recipe::Release;

/// `ID` and `ID_LIKE`, in that order and lower case, and `VERSION_ID` (os-release(5)).
pub(super) fn read(root: &Path) -> Result<Release> {
    for path in ["etc/os-release", "usr/lib/os-release"] {
        if let Some(text) = crate::beneath::read_to_string(root, Path::new(path))? {
            return Ok(parse(&text));
        }
    }
    Ok(Release::default())
}

fn parse(text: &str) -> Release {
    let (mut id, mut like, mut version) = (Vec::new(), Vec::new(), None);
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let words = || unquote(value).split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
        match key {
            "ID" => id = words(),
            "ID_LIKE" => like = words(),
            "VERSION_ID" => version = Some(unquote(value)).filter(|version| !version.is_empty()),
            _ => {}
        }
    }
    id.append(&mut like);
    Release { families: id, version }
}

/// A value as a shell would read it: quotes taken off, backslashes before `"$\` and the backquote too.
fn unquote(value: &str) -> String {
    let value = value.trim();
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return value.to_owned();
    };
    let mut plain = String::new();
    let mut characters = value.chars().skip(1).peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if quote == '"' && matches!(characters.peek(), Some('"' | '$' | '\\' | '`')) => {
                plain.extend(characters.next());
            }
            _ if character == quote => break,
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn families_of_known_distributions() {
        assert_eq!(
            parse("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n"),
            Release { families: vec!["debian".into()], version: Some("12".into()) }
        );
        assert_eq!(
            parse("NAME=\"Amazon Linux\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n").families,
            ["amzn", "fedora"]
        );
        assert_eq!(parse("ID_LIKE='rhel fedora'\n# ID=x\nID=Rocky").families, ["rocky", "rhel", "fedora"]);
        assert_eq!(unquote(r#""a\"b\$c" d"#), "a\"b$c");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(text in "(ID|ID_LIKE|=|\"|'|\\\\|\n|[a-zé ]){0,40}") {
            for family in parse(&text).families {
                prop_assert!(!family.is_empty() && !family.contains(char::is_whitespace));
            }
        }
    }
}
