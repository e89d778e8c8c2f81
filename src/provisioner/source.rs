//! What a `path` or a package spec names: a file, a URL with its checksum, or a package's name.

use std::ops::Range;

use super::format::{endings, format_of};
use super::object::Object;
use crate::recipe::reader::{Complaints, Table, shown, string, wrong_type};
use crate::recipe::url::holds_credentials;
use crate::recipe::{Complaint, RawValue, Spanned};

/// What a text of the recipe names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Named {
    /// A package's name, perhaps with its version.
    Word(Spanned<String>),
    /// A path on the builder.
    File(Spanned<String>),
    /// Something to be fetched.
    Url {
        /// Without its fragment.
        url: String,
        /// Lower-case hexadecimal.
        sha256: String,
        /// The file's name, the last part of the URL's path.
        name: String,
        /// Where it stands in the recipe.
        span: Range<usize>,
    },
    /// An object of S3, fetched with the builder's own credentials.
    Object {
        /// Bucket, key and perhaps its version.
        object: Object,
        /// Lower-case hexadecimal, where one is given.
        sha256: Option<String>,
        /// The file's name, the last part of the key.
        name: String,
        /// Where it stands in the recipe.
        span: Range<usize>,
    },
}

impl Named {
    /// The format, where it is a package's file: one of those taken, or one that is known besides.
    pub(super) fn package_format<'f>(&self, taken: &'f [String]) -> Option<&'f str> {
        match self {
            Self::Word(_) => None,
            Self::File(path) => format_of(&path.value, taken),
            Self::Url { name, .. } | Self::Object { name, .. } => format_of(name, taken),
        }
    }

    /// Whether it is a path that says to be a folder.
    pub(super) fn ends_with_slash(&self) -> bool {
        match self {
            Self::File(path) => path.value.ends_with('/'),
            Self::Word(_) | Self::Url { .. } | Self::Object { .. } => false,
        }
    }
}

/// A path or a URL.
pub(super) fn path(what: &str, raw: &Spanned<RawValue>, complaints: &mut Complaints) -> Option<Named> {
    if let RawValue::Table(_) = &raw.value {
        return url_table(what, raw, complaints);
    }
    let text = string(what, raw, complaints)?;
    if text.value.contains("://") {
        return url(what, &text, complaints);
    }
    if text.value.is_empty() || text.value.contains('\n') {
        let message = format!("{what} is empty or holds a line break; it must be a path");
        complaints.push(Complaint::new(message, text.span));
        return None;
    }
    Some(Named::File(text))
}

/// A package spec; `taken` are the formats of package files that are taken.
pub(super) fn package(
    what: &str,
    raw: &Spanned<RawValue>,
    taken: &[String],
    complaints: &mut Complaints,
) -> Option<Named> {
    let named = match &raw.value {
        RawValue::Table(_) => url_table(what, raw, complaints)?,
        RawValue::String(_) => {
            let text = string(what, raw, complaints)?;
            if text.value.contains("://") {
                url(what, &text, complaints)?
            } else {
                word(what, text, taken, complaints)?
            }
        }
        other => {
            let wanted = "a package's name, file or URL";
            complaints.push(wrong_type(&format!("an item of {what}"), wanted, other, raw.span.clone()));
            return None;
        }
    };
    if let (Named::Url { span, .. } | Named::Object { span, .. }, None) =
        (&named, named.package_format(taken))
    {
        complaints.push(
            Complaint::new("the URL names no package file", span.clone())
                .help(format!("it must end in {}", endings(taken))),
        );
        return None;
    }
    Some(named)
}

fn word(what: &str, text: Spanned<String>, taken: &[String], complaints: &mut Complaints) -> Option<Named> {
    let value = text.value.as_str();
    let is_path = value.contains('/');
    let complaint = match format_of(value, taken) {
        _ if value.contains('\n') => {
            Complaint::new(format!("an item of {what} holds a line break"), text.span)
        }
        Some(_) if is_path => return Some(Named::File(text)),
        Some(_) => Complaint::new(format!("{} looks like a file's name", shown(value)), text.span)
            .help(format!("a file needs a slash: ./{}", shown(value))),
        None if value.starts_with("./") || value.starts_with("../") => {
            Complaint::new(format!("{} is no package file", shown(value)), text.span)
                .help(format!("a package file ends in {}", endings(taken)))
        }
        None if value.is_empty()
            || value.starts_with('-')
            || value.contains(|c: char| c.is_whitespace() || c.is_control()) =>
        {
            Complaint::new(format!("`{}` is no package's name", shown(value)), text.span)
                .help("a name, perhaps with its version: nginx=1.22.*; each package is an item of its own")
        }
        None if compares(value) => {
            Complaint::new(format!("`{}` is no package's name", shown(value)), text.span)
                .help("one version is asked for, perhaps with a glob: nginx=1.22.*")
        }
        None => return Some(Named::Word(text)),
    };
    complaints.push(complaint);
    None
}

/// Whether a plain name has a comparison behind it, or `=` with nothing on one side: no package manager that is
/// asked by us takes either. Of what is more than a name (apt's patterns, `perl(A::B)`) the managers are to judge.
fn compares(value: &str) -> bool {
    let Some(at) = value.find(['<', '>', '=']) else { return false };
    let (name, rest) = value.split_at(at);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+:-".contains(c);
    name.chars().all(plain)
        && (name.is_empty() || rest == "=" || rest.starts_with(['<', '>']) || rest.starts_with("=="))
}

/// `{ url = "…", sha256 = "…" }`.
fn url_table(what: &str, raw: &Spanned<RawValue>, complaints: &mut Complaints) -> Option<Named> {
    let mut table = Table::of(what, raw, complaints)?;
    if table.get("s3").is_some() {
        return s3_table(what, table, complaints);
    }
    let address = table.string("url", complaints);
    let sum = table.string("sha256", complaints);
    for key in ["url", "sha256"] {
        if table.get(key).is_none() {
            complaints
                .missing(Complaint::new(format!("{what} needs `{key}` beside the other"), raw.span.clone()));
        }
    }
    table.finish(complaints);
    let (address, sum) = (address?, sum?);
    let sha256 = checksum(&sum.value, &sum.span, complaints);
    let (url, name) = address_and_name(what, &address, complaints)?;
    Some(Named::Url { url, sha256: sha256?, name, span: address.span })
}

/// `{ s3 = "s3://…", version = "…", sha256 = "…" }`.
fn s3_table(what: &str, mut table: Table, complaints: &mut Complaints) -> Option<Named> {
    let address = table.string("s3", complaints);
    let version = table.string("version", complaints);
    let sum = table.string("sha256", complaints);
    table.finish(complaints);
    let sha256 = sum.map(|sum| checksum(&sum.value, &sum.span, complaints));
    let address = address?;
    let mut named = s3(what, &address, complaints)?;
    if let Named::Object { object, sha256: in_address, .. } = &mut named {
        if (object.version.is_some() && version.is_some()) || (in_address.is_some() && sha256.is_some()) {
            complaints.push(
                Complaint::new(format!("{what} says its version or checksum twice"), address.span.clone())
                    .help("leave one of them"),
            );
            return None;
        }
        if let Some(version) = version {
            object.version = Some(good_version(what, &version, complaints)?);
        }
        if let Some(sha256) = sha256 {
            *in_address = Some(sha256?);
        }
    }
    Some(named)
}

fn good_version(what: &str, version: &Spanned<String>, complaints: &mut Complaints) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !version.value.is_empty() && version.value.len() <= 1024 && version.value.chars().all(good) {
        return Some(version.value.clone());
    }
    complaints.push(
        Complaint::new(format!("{what}: this is no version id of S3"), version.span.clone())
            .help("`aws s3api list-object-versions` shows them"),
    );
    None
}

/// `s3://BUCKET/KEY`, with `?versionId=…` and `#sha256=HEX` where they are given.
fn s3(what: &str, text: &Spanned<String>, complaints: &mut Complaints) -> Option<Named> {
    let span = text.span.clone();
    let mut refuse = |why: &str, help: &str| {
        complaints.push(Complaint::new(format!("{what}: {why}"), span.clone()).help(help));
        None
    };
    let Some(rest) = text.value.strip_prefix("s3://") else {
        return refuse("this is no object of S3", "write s3://BUCKET/KEY");
    };
    let (rest, fragment) = match rest.rsplit_once("#sha256=") {
        Some((rest, sum)) => (rest, Some(sum)),
        None => (rest, None),
    };
    let (path, version) = match rest.split_once("?versionId=") {
        Some((path, version)) => (path, Some(version)),
        None => (rest, None),
    };
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let in_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(in_bucket) {
        return refuse(
            "the URL names no bucket",
            "3 to 63 lower-case letters, digits, dots and hyphens: s3://BUCKET/KEY",
        );
    }
    let name = key.rsplit('/').next().unwrap_or_default();
    if key.len() > 1024 || key.contains(char::is_control) || matches!(name, "" | "." | "..") {
        return refuse("the URL names no object", "s3://BUCKET/PATH/FILE: a folder cannot be fetched");
    }
    let mut object = Object { bucket: bucket.to_owned(), key: key.to_owned(), ..Object::default() };
    if let Some(version) = version {
        let version = Spanned { value: version.to_owned(), span: text.span.clone() };
        object.version = Some(good_version(what, &version, complaints)?);
    }
    let sha256 = match fragment {
        Some(sum) => Some(checksum(sum, &text.span, complaints)?),
        None => None,
    };
    Some(Named::Object { object, sha256, name: name.to_owned(), span: text.span.clone() })
}

/// `https://…#sha256=HEX`, or an object of S3.
fn url(what: &str, text: &Spanned<String>, complaints: &mut Complaints) -> Option<Named> {
    if text.value.starts_with("s3://") {
        return s3(what, text, complaints);
    }
    let (address, fragment) = text.value.split_once('#').unwrap_or((&text.value, ""));
    let sha256 = match fragment.strip_prefix("sha256=") {
        Some(sum) => checksum(sum, &text.span, complaints),
        None => {
            complaints.push(
                Complaint::new(format!("{what}: the URL has no checksum"), text.span.clone())
                    .help("put #sha256= and the file's SHA-256 behind it; sha256sum prints it"),
            );
            None
        }
    };
    let address = Spanned { value: address.to_owned(), span: text.span.clone() };
    let (url, name) = address_and_name(what, &address, complaints)?;
    Some(Named::Url { url, sha256: sha256?, name, span: text.span.clone() })
}

fn checksum(sum: &str, span: &Range<usize>, complaints: &mut Complaints) -> Option<String> {
    if sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(sum.to_ascii_lowercase());
    }
    complaints.push(Complaint::new("a SHA-256 has 64 hexadecimal digits", span.clone()));
    None
}

/// The URL and the name of the file that it fetches.
fn address_and_name(
    what: &str,
    text: &Spanned<String>,
    complaints: &mut Complaints,
) -> Option<(String, String)> {
    let mut refuse = |why: &str, help: &str| {
        complaints.push(Complaint::new(format!("{what}: {why}"), text.span.clone()).help(help));
        None
    };
    let Some(rest) = text.value.strip_prefix("https://") else {
        return refuse("only https:// and s3:// URLs are fetched", "write https://");
    };
    if rest.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
        return refuse("the URL holds a character that can't be in one", "write it percent-encoded");
    }
    let (path, _) = rest.split_once(['?', '#']).unwrap_or((rest, ""));
    let (host, path) = path.split_once('/').unwrap_or((path, ""));
    if holds_credentials(&text.value) {
        return refuse(
            "the URL holds credentials",
            "they would stand in logs and tags; fetch the file first",
        );
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    if host.is_empty() || matches!(name, "" | "." | "..") {
        return refuse("the URL names no file", "https://HOST/PATH/FILE");
    }
    Some((text.value.clone(), name.to_owned()))
}
