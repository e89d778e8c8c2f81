//! Which distribution releases a foundation can be made of, and where their packages come from. Pure.

use std::collections::BTreeMap;

use crate::error::{Failure, Kind};
use crate::recipe::RELEASES;
use crate::recipe::url::holds_credentials;

/// A release that a foundation can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// What it is called on the command line and, where nothing else is said, in the store.
    pub name: &'static str,
    /// Its code name: the suite of its archive.
    pub suite: &'static str,
}

impl Release {
    /// The release of that name or code name.
    ///
    /// # Errors
    /// [`Kind::Usage`] with the names that there are.
    pub fn parse(name: &str) -> Result<Self, Failure> {
        let found = RELEASES.iter().find(|(release, suite)| *release == name || *suite == name);
        found.map(|(name, suite)| Self { name, suite }).ok_or_else(|| {
            let names = RELEASES.map(|(name, _)| name);
            Failure::new(Kind::Usage, format!("no foundation can be made of {name}")).hint(format!(
                "there are {}; bring others in with `bakehouse local import`",
                names.join(", ")
            ))
        })
    }
}

/// One entry of apt's sources, in either of its formats (sources.list(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    types: Vec<String>,
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
    trusted: bool,
}

/// The sources of a Debian host, turned to `wanted`: so that a host which has a mirror nearby uses it. None where the
/// host has no entry for its own release, or none without credentials in its address.
///
/// `files` are apt's source files: name and text. `host` is the host's own code name.
pub fn sources_like_host(files: &[(String, String)], host: &str, wanted: &str) -> Option<String> {
    let entries = files.iter().flat_map(|(name, text)| {
        if name.ends_with(".sources") { stanzas(text) } else { one_line_entries(text) }
    });
    let mut text = String::new();
    for mut entry in entries {
        // They would stay in the image, for whoever has it to read.
        entry.uris.retain(|uri| !holds_credentials(uri));
        let suites: Vec<_> = entry
            .suites
            .iter()
            .filter(|suite| ["", "-updates", "-security"].iter().any(|end| **suite == format!("{host}{end}")))
            .map(|suite| suite.replacen(host, wanted, 1))
            .collect();
        let fits = entry.types.iter().any(|kind| kind == "deb")
            && entry.components.iter().any(|component| component == "main")
            && !suites.is_empty()
            && !entry.uris.is_empty();
        if !fits {
            continue;
        }
        let mut line = |key: &str, value: &str| text.push_str(&format!("{key}: {value}\n"));
        line("Types", "deb");
        line("URIs", &entry.uris.join(" "));
        line("Suites", &suites.join(" "));
        line("Components", "main");
        if let Some(key) = &entry.signed_by {
            line("Signed-By", key);
        }
        if entry.trusted {
            line("Trusted", "yes");
        }
        text.push('\n');
    }
    // Without the release itself its updates are of no use.
    text.lines()
        .filter_map(|line| line.strip_prefix("Suites: "))
        .any(|suites| suites.split(' ').any(|suite| suite == wanted))
        .then_some(text)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn stanzas(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut fields = BTreeMap::<String, String>::new();
    let mut key = String::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(entry(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            // A value's further lines: embedded keys, or more words.
            fields.entry(key.clone()).or_default().push_str(&format!("\n{line}"));
        } else if let Some((name, value)) = line.split_once(':') {
            key = name.trim().to_ascii_lowercase();
            fields.insert(key.clone(), value.trim().to_owned());
        }
    }
    entries
}

fn entry(fields: &BTreeMap<String, String>) -> Option<Entry> {
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    if field("enabled") == "no" || field("uris").is_empty() {
        return None;
    }
    Some(Entry {
        types: words(field("types")),
        uris: words(field("uris")),
        suites: words(field("suites")),
        components: words(field("components")),
        signed_by: fields.get("signed-by").cloned(),
        trusted: field("trusted") == "yes",
    })
}

fn one_line_entries(text: &str) -> Vec<Entry> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Entry> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut rest = rest.split_whitespace().map(str::to_owned);
    let mut entry = Entry {
        types: vec![kind.to_owned()],
        uris: vec![rest.next()?],
        suites: vec![rest.next()?],
        components: rest.collect(),
        ..Entry::default()
    };
    for option in options.split_whitespace() {
        match option.split_once('=') {
            Some(("signed-by", keys)) => entry.signed_by = Some(keys.replace(',', " ")),
            Some(("trusted", "yes")) => entry.trusted = true,
            _ => {}
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\n\
        Suites: bookworm bookworm-updates bookworm-backports\nComponents: main contrib\n\
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb deb-src\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main\n\n\
        Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n";

    fn like_host(name: &str, text: &str, wanted: &str) -> Option<String> {
        sources_like_host(&[(name.to_owned(), text.to_owned())], "bookworm", wanted)
    }

    #[test]
    fn releases_are_found_by_either_name() {
        assert_eq!(Release::parse("debian-12").unwrap().suite, "bookworm");
        assert_eq!(Release::parse("trixie").unwrap().name, "debian-13");
        let failure = Release::parse("fedora-42").unwrap_err();
        assert!(failure.hint.unwrap().contains("debian-12, debian-13"));
    }

    #[test]
    fn a_hosts_mirror_is_used_for_another_release_too() {
        insta::assert_snapshot!(like_host("debian.sources", DEB822, "trixie").unwrap(), @r"
        Types: deb
        URIs: http://mirror.example/debian
        Suites: trixie trixie-updates
        Components: main
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

        Types: deb
        URIs: http://mirror.example/security
        Suites: trixie-security
        Components: main
        ");
    }

    #[test]
    fn the_one_line_format_is_read_with_its_options() {
        let text = "# deb http://no.example bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg trusted=yes] http://m.example/debian bookworm main # near\n\
                    deb https://packages.example/apt stable main\ndeb-src http://m.example/debian bookworm main\n";
        insta::assert_snapshot!(like_host("sources.list", text, "bookworm").unwrap(), @r"
        Types: deb
        URIs: http://m.example/debian
        Suites: bookworm
        Components: main
        Signed-By: /k.gpg
        Trusted: yes
        ");
    }

    #[test]
    fn a_hosts_source_with_credentials_is_left_out() {
        let text = "deb https://me:token@mirror.example/debian bookworm main\n\
                    deb https://open.example/debian bookworm main\n";
        let like = like_host("sources.list", text, "bookworm").unwrap();
        assert!(like.contains("URIs: https://open.example/debian\n") && !like.contains("token"), "{like}");
        let one = text.lines().next().unwrap();
        assert_eq!(like_host("sources.list", one, "bookworm"), None);
        let both = "Types: deb\nURIs: https://me:token@a.example https://b.example\nSuites: bookworm\nComponents: main\n";
        assert!(like_host("x.sources", both, "bookworm").unwrap().contains("URIs: https://b.example\n"));
    }

    #[test]
    fn a_host_without_its_own_release_has_nothing_to_offer() {
        assert_eq!(
            like_host("x.list", "deb http://m.example/debian bookworm-updates main", "bookworm"),
            None
        );
        assert_eq!(like_host("x.list", "deb [broken\ndeb\n\nnonsense", "bookworm"), None);
        assert_eq!(like_host("x.sources", "", "bookworm"), None);
    }
}
