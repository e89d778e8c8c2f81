//! `DescribeVolumes`.

use aws_sdk_ec2::types::{Filter, Volume};

use super::api::{Api, tags};
use super::explain::{Trouble, explain};
use super::watch::{Attached, Seen};

/// A volume as far as baking it in place looks at it.
#[derive(Debug, Clone, Default)]
pub(super) struct VolumeSeen {
    pub id: String,
    /// In GiB.
    pub size: u64,
    pub zone: String,
    /// Volume type, `gp3`.
    pub kind: Option<String>,
    pub iops: Option<i32>,
    /// In MiB/s.
    pub throughput: Option<i32>,
    pub encrypted: Option<bool>,
    pub seen: Seen,
}

impl Api {
    /// The volumes that pass the filters, by id.
    pub(super) async fn describe_volumes(
        &self,
        filters: Vec<Filter>,
    ) -> Result<Vec<(String, Seen)>, Trouble> {
        let volumes = self.all_volumes(filters).await?;
        Ok(volumes.iter().filter_map(seen).collect())
    }

    /// The volumes that pass the filters, with their shape.
    pub(super) async fn whole_volumes(&self, filters: Vec<Filter>) -> Result<Vec<VolumeSeen>, Trouble> {
        let whole = |volume: &Volume| {
            let (id, seen) = seen(volume)?;
            Some(VolumeSeen {
                id,
                size: volume.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                zone: volume.availability_zone().unwrap_or_default().to_owned(),
                kind: volume.volume_type().map(|kind| kind.as_str().to_owned()),
                iops: volume.iops(),
                throughput: volume.throughput(),
                encrypted: volume.encrypted(),
                seen,
            })
        };
        Ok(self.all_volumes(filters).await?.iter().filter_map(whole).collect())
    }

    async fn all_volumes(&self, filters: Vec<Filter>) -> Result<Vec<Volume>, Trouble> {
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
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(page.volumes.unwrap_or_default());
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
