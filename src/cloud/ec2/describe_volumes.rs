//! `DescribeVolumes`.

use aws_sdk_ec2::types::{Filter, Volume};

use super::api::{Api, tags};
use super::explain::{Trouble, explain};
use super::watch::{Attached, Seen};

impl Api {
    /// The volumes that pass the filters, by id.
    pub(super) async fn describe_volumes(
        &self,
        filters: Vec<Filter>,
    ) -> Result<Vec<(String, Seen)>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_volumes()
                .set_filters(Some(filters.clone()))
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeVolumes", &self.region, error))?;
            all.extend(page.volumes().iter().filter_map(seen));
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}

fn seen(volume: &Volume) -> Option<(String, Seen)> {
    let attached = volume.attachments().iter().map(|attachment| Attached {
        instance: attachment.instance_id().unwrap_or_default().to_owned(),
        device: attachment.device().unwrap_or_default().to_owned(),
        state: attachment.state().map_or_else(String::new, |state| state.as_str().to_owned()),
    });
    let seen = Seen {
        state: volume.state().map_or_else(String::new, |state| state.as_str().to_owned()),
        attached: attached.collect(),
        tags: tags(volume.tags()),
        created: volume.create_time().map(ToString::to_string).unwrap_or_default(),
        ..Seen::default()
    };
    Some((volume.volume_id()?.to_owned(), seen))
}
