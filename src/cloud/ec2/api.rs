//! The clients of one Region. Each AWS verb has a file of its own beside this one, with a method on [`Api`] that
//! makes the call once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};

use super::explain::Trouble;
use super::watch::{Look, Seen, Sort};

/// The services of one Region.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub ec2: aws_sdk_ec2::Client,
    pub ssm: aws_sdk_ssm::Client,
    pub autoscaling: aws_sdk_autoscaling::Client,
    pub s3: aws_sdk_s3::Client,
    pub region: String,
}

/// A filter of a Describe call takes at most this many values.
pub(super) const FILTER_VALUES: usize = 200;

/// A filter; the value may hold `*` and `?`.
pub(super) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// A filter that any of several values meets, at most [`FILTER_VALUES`]; each may hold `*` and `?`.
pub(super) fn any_of(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.to_vec())).build()
}

/// Tags to set at creation; none where there are none, for an empty list is refused.
pub(super) fn tag_at_creation(of: ResourceType, tags: &BTreeMap<String, String>) -> Option<TagSpecification> {
    (!tags.is_empty()).then(|| {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        TagSpecification::builder().resource_type(of).set_tags(Some(tags.collect())).build()
    })
}

/// A description as long as EC2 takes one: 255 characters.
pub(super) fn clipped(description: &str) -> String {
    description.chars().take(255).collect()
}

pub(super) fn tags(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
        .collect()
}

#[async_trait]
impl Look for Api {
    /// Filters, not ids: an id that is not known yet would fail the whole call.
    async fn look(&self, sort: Sort, ids: &[String]) -> Result<BTreeMap<String, Seen>, Trouble> {
        let mut all = BTreeMap::new();
        for ids in ids.chunks(FILTER_VALUES) {
            match sort {
                Sort::Volume => all.extend(self.describe_volumes(vec![any_of("volume-id", ids)]).await?),
                Sort::Snapshot => {
                    let snapshots = self.own_snapshots(vec![any_of("snapshot-id", ids)]).await?;
                    all.extend(snapshots.into_iter().map(|snapshot| (snapshot.id, snapshot.seen)));
                }
                Sort::Image | Sort::Copy => {
                    let images = self.own_images(vec![any_of("image-id", ids)]).await?;
                    all.extend(images.iter().filter_map(super::describe_images::seen));
                }
            }
        }
        Ok(all)
    }
}
