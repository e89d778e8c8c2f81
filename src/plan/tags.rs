//! The tags of what a bake makes: those of all its things, those of one alone, and Bakehouse's own.

use std::collections::BTreeMap;

use super::make::{FAMILY_TAG, cut};
use crate::error::{Failure, Kind};
use crate::recipe::Tags;

/// The most tags on a resource, and the longest value in characters.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions>.
const TAGS_MOST: usize = 50;
pub(super) const TAG_VALUE_MOST: usize = 256;

/// One thing's tags, filled in as far as they can be.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub tags: BTreeMap<String, String>,
    /// Keys of those whose values hold a word that is still open.
    pub open: Vec<String>,
}

impl Filled {
    /// With the tag of its family, which may be open.
    pub(super) fn of_family(mut self, family: Option<(String, bool)>) -> Self {
        let Some((family, open)) = family else { return self };
        let family = match open {
            true => {
                self.open.push(FAMILY_TAG.to_owned());
                family
            }
            false => cut(&family, TAG_VALUE_MOST),
        };
        self.tags.insert(FAMILY_TAG.to_owned(), family);
        self
    }
}

/// Fills in a thing's tags: `common`, `separate` over them, `own` below both but for those by which Bakehouse
/// finds what it made. `more` is how many come later.
pub(super) fn fill(
    what: &str,
    common: &Tags,
    separate: &Tags,
    own: &[(String, String)],
    more: usize,
    settle: impl Fn(&str, &str) -> Result<(String, bool), Failure>,
) -> Result<Filled, Failure> {
    let mut filled = Filled::default();
    let said = common.iter().filter(|(key, _)| !separate.contains_key(*key)).chain(separate);
    for (key, template) in said {
        let (value, open) = settle(&format!("the tag {key}"), &template.value)?;
        judge(key, &value)?;
        if open {
            filled.open.push(key.clone());
        }
        filled.tags.insert(key.clone(), value);
    }
    for (key, value) in own {
        if key.starts_with("bakehouse:") {
            filled.tags.insert(key.clone(), value.clone());
        } else {
            filled.tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if filled.tags.len() + more > TAGS_MOST {
        let message = format!("{} tags on the {what}, and EC2 takes {TAGS_MOST}", filled.tags.len() + more);
        return Err(Failure::new(Kind::Recipe, message).hint("drop some of [image] tags or [tags]"));
    }
    Ok(filled)
}

fn judge(key: &str, value: &str) -> Result<(), Failure> {
    if value.chars().count() <= TAG_VALUE_MOST {
        return Ok(());
    }
    let message = format!("the tag {key}'s value, filled in, has more than {TAG_VALUE_MOST} characters");
    Err(Failure::new(Kind::Recipe, message).hint("shorten it"))
}
