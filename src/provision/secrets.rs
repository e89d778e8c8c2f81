//! The values of a bake's secrets: read before the bake's first effect, held in memory alone.

use std::collections::BTreeMap;
use std::fmt;

use crate::provisioner::StepPlan;
use crate::recipe::SecretSource;
use crate::sandbox::Secret;

/// Shorter texts than this (characters) are not masked in output: they would stand everywhere.
const SHORTEST_MASKED: usize = 6;

/// The values, by where they came from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Vault(BTreeMap<SecretSource, Vec<u8>>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Vault {
    /// Takes a value.
    pub fn put(&mut self, source: SecretSource, value: Vec<u8>) {
        self.0.insert(source, value);
    }

    /// A step's secrets, as the sandbox takes them. One without a value is left out: whoever fetched them
    /// knew that the step is not run.
    pub(super) fn of(&self, step: &StepPlan) -> Vec<Secret> {
        let held = step.secrets.iter().filter_map(|(name, source)| {
            Some(Secret { name: name.clone(), content: self.0.get(source)?.clone() })
        });
        held.collect()
    }

    /// What must not be seen in output: each value's lines, as they are and as JSON has them, and the values as base64
    /// has them.
    pub fn masks(&self) -> Vec<String> {
        let mut masks = Vec::new();
        for value in self.0.values() {
            let text = String::from_utf8_lossy(value);
            for line in text.lines().map(str::trim) {
                masks.push(line.to_owned());
                masks.extend(as_json(line));
            }
            masks.push(base64(text.trim_end().as_bytes()));
        }
        masks.retain(|mask| mask.chars().count() >= SHORTEST_MASKED);
        masks
    }
}

/// A text as programs write it into a JSON string, where that is another: as it is beyond ASCII, and escaped there.
fn as_json(text: &str) -> impl Iterator<Item = String> {
    let written = serde_json::Value::from(text).to_string();
    let inner =
        written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default().to_owned();
    let mut units = [0; 2];
    let ascii: String = inner
        .chars()
        .map(|c| match c.is_ascii() {
            true => c.to_string(),
            false => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        })
        .collect();
    let text = text.to_owned();
    [inner, ascii].into_iter().filter(move |other| *other != text)
}

/// Base64 (RFC 4648, section 4) without the last group where that is not full: what stands behind a value
/// in the same text would change it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks_exact(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        text.extend(
            [18, 12, 6, 0].iter().filter_map(|shift| DIGITS.get(bits >> shift & 63)).map(|c| char::from(*c)),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_base64_are_masked_and_short_ones_are_not() {
        let mut vault = Vault::default();
        vault.put(SecretSource::Env("A".into()), b"first line\n  second\nabc\n".to_vec());
        vault.put(SecretSource::Env("B".into()), b"12345".to_vec());
        let masks = vault.masks();
        assert_eq!(masks, ["first line", "second", "Zmlyc3QgbGluZQogIHNlY29uZAph"]);
        assert_eq!(format!("{vault:?}"), "{Env(\"A\"), Env(\"B\")}");
    }

    #[test]
    fn a_line_is_masked_as_json_has_it_too() {
        let mut vault = Vault::default();
        vault.put(SecretSource::Env("A".into()), "qu\"ote\\\u{e9}\u{1f511}".into());
        let json = [
            "qu\"ote\\\u{e9}\u{1f511}",
            "qu\\\"ote\\\\\u{e9}\u{1f511}",
            "qu\\\"ote\\\\\\u00e9\\ud83d\\udd11",
        ];
        assert_eq!(vault.masks()[..3], json);
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64(b"fooba"), "Zm9v");
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }
}
