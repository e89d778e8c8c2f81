//! What `[image]` says of how the image boots and what it supports: what EC2 calls its attributes.

use serde::{Deserialize, Serialize};

use super::device::is_device_name;
use super::reader::{Complaints, Table, did_you_mean, listed, shown};
use super::{Complaint, Spanned};

/// What the image is registered with; each the base's where left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShapeSpec {
    /// `legacy-bios`, `uefi` or `uefi-preferred`.
    pub boot_mode: Option<String>,
    /// The UEFI variable store.
    pub uefi_data: Option<UefiData>,
    /// Whether there is a TPM 2.0.
    pub tpm: Option<bool>,
    /// Whether instances require version 2 of the metadata service.
    pub imds: Option<bool>,
    /// Whether enhanced networking with ENA is supported.
    pub ena: Option<bool>,
    /// Whether enhanced networking with the Intel 82599 VF interface is supported.
    pub sriov: Option<bool>,
    /// The root device's name, `/dev/xvda`.
    pub root_device: Option<String>,
}

/// A UEFI variable store.
#[derive(Debug, Clone, PartialEq)]
pub enum UefiData {
    /// Base64, as RegisterImage takes it.
    Data(String),
    /// A file with it, as the recipe names it; it is read before anything is planned.
    File(Spanned<String>),
    /// None, whatever the base has.
    None,
}

/// What becomes of an image that has the name already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collision {
    /// The bake fails before it makes anything.
    #[default]
    Fail,
    /// The new image takes its place.
    Replace {
        /// Whether the old one's snapshots go too.
        delete_snapshots: bool,
    },
    /// The new image gets a number: `web-2`.
    Suffix,
}

const BOOT_MODES: [&str; 3] = ["legacy-bios", "uefi", "uefi-preferred"];

/// Reads the keys of `[image]` that are about its shape.
pub(super) fn shape(table: &mut Table, complaints: &mut Complaints) -> ShapeSpec {
    let boot_mode = table.string("boot_mode", complaints);
    if let Some(mode) = &boot_mode
        && !BOOT_MODES.contains(&mode.value.as_str())
    {
        complaints.push(unknown("boot mode", mode, &BOOT_MODES));
    }
    let uefi_data = table.string("uefi_data", complaints);
    let tpm = version(table, "tpm", complaints);
    let imds = version(table, "imds", complaints);
    let ena = table.bool("ena", complaints);
    let sriov = table.bool("sriov", complaints);
    let root_device = table.string("root_device", complaints);
    if let Some(device) = &root_device
        && !is_device_name(&device.value)
    {
        complaints.push(
            Complaint::new("`root_device` is no block device's name", device.span.clone())
                .help("/dev/xvda or /dev/sda1"),
        );
    }
    if boot_mode.as_ref().is_some_and(|mode| mode.value == "legacy-bios") {
        let given = [("tpm", tpm == Some(true)), ("uefi_data", uefi_data.as_ref().is_some_and(is_some))];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let span = table.entry(key).map_or(0..0, |(name, _)| name.span.clone());
            complaints.push(
                Complaint::new(format!("`{key}` needs UEFI, and `boot_mode` is legacy-bios"), span)
                    .help("boot_mode = \"uefi\" or \"uefi-preferred\""),
            );
        }
    }
    let uefi_data = uefi_data.map(|text| uefi(text, complaints));
    ShapeSpec {
        boot_mode: boot_mode.map(|mode| mode.value),
        uefi_data,
        tpm,
        imds,
        ena,
        sriov,
        root_device: root_device.map(|device| device.value),
    }
}

/// Reads `on_collision` and `delete_replaced_snapshots`.
pub(super) fn collision(table: &mut Table, complaints: &mut Complaints) -> Option<Collision> {
    const KNOWN: [&str; 3] = ["fail", "replace", "suffix"];
    let word = table.string("on_collision", complaints);
    let delete = table.bool("delete_replaced_snapshots", complaints);
    let collision = match word.as_ref().map(|word| word.value.as_str()) {
        Some("replace") => Some(Collision::Replace { delete_snapshots: delete == Some(true) }),
        Some("suffix") => Some(Collision::Suffix),
        Some("fail") => Some(Collision::Fail),
        None => None,
        Some(_) => {
            if let Some(word) = &word {
                complaints.push(unknown("way", word, &KNOWN));
            }
            return None;
        }
    };
    if let (Some((name, _)), false) =
        (table.entry("delete_replaced_snapshots"), matches!(collision, Some(Collision::Replace { .. })))
    {
        complaints.push(
            Complaint::new(
                "`delete_replaced_snapshots` goes with on_collision = \"replace\"",
                name.span.clone(),
            )
            .label("nothing is replaced"),
        );
    }
    collision
}

fn unknown(what: &str, word: &Spanned<String>, known: &[&str]) -> Complaint {
    let complaint = Complaint::new(format!("unknown {what} `{}`", shown(&word.value)), word.span.clone());
    match did_you_mean(&word.value, known) {
        Some(near) => complaint.help(format!("did you mean `{near}`?")),
        None => complaint.help(format!("known are {}", listed(known))),
    }
}

/// `v2.0`, or `none` where the base has it and the image is not to.
fn version(table: &mut Table, key: &str, complaints: &mut Complaints) -> Option<bool> {
    let word = table.string(key, complaints)?;
    match word.value.as_str() {
        "v2.0" => Some(true),
        "none" => Some(false),
        other => {
            let message = format!("`{key}` can't be `{}`", shown(other));
            complaints.push(Complaint::new(message, word.span).help("\"v2.0\", or \"none\""));
            None
        }
    }
}

fn is_some(text: &Spanned<String>) -> bool {
    text.value != "none"
}

/// How base64 of a UEFI variable store of EC2's begins: `AMZNUEFI`.
/// <https://github.com/awslabs/python-uefivars>.
const MAGIC: &str = "AMZNUEFI";
const MAGIC_BASE64: &str = "QU1aTlVFRk";

/// The longest that RegisterImage takes, in characters of base64.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html>.
const LONGEST: usize = 64_000;

fn uefi(text: Spanned<String>, complaints: &mut Complaints) -> UefiData {
    match text.value.as_str() {
        "none" => UefiData::None,
        data if data.starts_with(MAGIC_BASE64) => {
            if let Err(why) = uefi_data(data.as_bytes()) {
                complaints.push(Complaint::new(format!("`uefi_data` {why}"), text.span.clone()));
            }
            UefiData::Data(data.to_owned())
        }
        "" => {
            complaints.push(
                Complaint::new("`uefi_data` is empty", text.span).help("base64, a file with it, or \"none\""),
            );
            UefiData::None
        }
        _ => UefiData::File(text),
    }
}

/// A file's content as RegisterImage takes it: it may be base64 (as GetInstanceUefiData tells it) or the bytes
/// themselves.
///
/// # Errors
/// Why it is neither.
pub fn uefi_data(content: &[u8]) -> Result<String, String> {
    let text = if content.starts_with(MAGIC.as_bytes()) {
        base64(content)
    } else {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace();
        let bytes = content.iter().copied().filter(|byte| !is_blank(byte)).collect::<Vec<_>>();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let inner = text.trim_end_matches('=');
    let whole = text.len().is_multiple_of(4) && text.len() - inner.len() <= 2;
    let letters = inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
    if !text.starts_with(MAGIC_BASE64) {
        return Err(format!("is no UEFI variable store of EC2's: it does not begin with {MAGIC}"));
    }
    if !whole || !letters {
        return Err("is no base64".to_owned());
    }
    if text.len() > LONGEST {
        return Err(format!("has {} characters of base64, at most {LONGEST} fit", text.len()));
    }
    Ok(text)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).copied().map_or(0, usize::from);
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = LETTERS.get(group >> shift & 63).copied().unwrap_or(b'=');
            text.push(char::from(if at > chunk.len() { b'=' } else { letter }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_store_is_taken_as_bytes_and_as_base64() {
        for (bytes, text) in [
            (&b"AMZNUEFI"[..], "QU1aTlVFRkk="),
            (b"AMZNUEFI\x00", "QU1aTlVFRkkA"),
            (b"AMZNUEFI\xff\xfe", "QU1aTlVFRkn//g=="),
        ] {
            assert_eq!(uefi_data(bytes).unwrap(), text);
            assert_eq!(uefi_data(text.as_bytes()).unwrap(), text);
            assert_eq!(uefi_data(format!("{text}\n").as_bytes()).unwrap(), text);
        }
        for wrong in [&b""[..], b"\x7fELF", b"QU1aTlVFRkk", b"QU1aTlVFRk$=", b"QU1aTlVFRkk=="] {
            uefi_data(wrong).unwrap_err();
        }
        assert!(uefi_data(&[b"AMZNUEFI".as_slice(), &[0; 64_000]].concat()).unwrap_err().contains("fit"));
    }
}
