//! Tags: those of `[image] tags`, which are on all that a bake makes, and `[tags.…]`, each for one of its things.

use std::collections::BTreeMap;

use super::reader::{Complaints, Table, shown};
use super::sections::template;
use super::template::OPEN;
use super::{Complaint, Spanned};

/// Tags: key to template.
pub type Tags = BTreeMap<String, Spanned<String>>;

/// `[tags]`: tags of one thing alone, over those of `[image] tags`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TagSpec {
    /// `[tags.volume]`: of the bake's volume.
    pub volume: Tags,
    /// `[tags.snapshot]`.
    pub snapshot: Tags,
    /// `[tags.image]`.
    pub image: Tags,
}

/// The first word of a template that is known only once packages are installed.
pub fn open_word(template: &str) -> Option<String> {
    let template = super::Template::parse(template).ok()?;
    template.placeholders().find(|name| OPEN.contains(name)).map(str::to_owned)
}

/// Reads `[tags]`.
pub(super) fn separate(mut table: Table, complaints: &mut Complaints) -> TagSpec {
    let volume = tags(&mut table, "volume", complaints);
    for text in volume.values() {
        if let Some(name) = open_word(&text.value) {
            complaints.push(
                Complaint::new(format!("{{{name}}} is not known when the volume is made"), text.span.clone())
                    .help("put it in [tags.snapshot] or [tags.image]"),
            );
        }
    }
    let snapshot = tags(&mut table, "snapshot", complaints);
    let image = tags(&mut table, "image", complaints);
    table.finish(complaints);
    TagSpec { volume, snapshot, image }
}

/// A table of tags, checked.
pub(super) fn tags(table: &mut Table, key: &str, complaints: &mut Complaints) -> Tags {
    let mut tags = Tags::new();
    for (key, value) in table.map(key, complaints).unwrap_or_default() {
        if let Some(why) = wrong_tag(&key.value) {
            let message = format!("`{}` can't be a tag: {why}", shown(&key.value));
            complaints.push(Complaint::new(message, key.span.clone()));
        }
        template("the tag", &value, 256, complaints);
        tags.insert(key.value, value);
    }
    tags
}

/// Why a tag's key is refused. EC2: at most 128 characters, none that begins with `aws:` in any case.
pub fn wrong_tag(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        Some("its name is empty")
    } else if key.chars().count() > 128 {
        Some("its name has more than 128 characters")
    } else if key.to_ascii_lowercase().starts_with("aws:") {
        Some("names that begin with aws: are AWS's own")
    } else if key.starts_with("bakehouse:") {
        Some("names that begin with bakehouse: are Bakehouse's own")
    } else {
        None
    }
}
