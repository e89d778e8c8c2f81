//! `DescribeSnapshots`.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, Snapshot};

use super::api::{Api, tags};
use super::explain::{Trouble, explain};
use super::watch::Seen;

/// A snapshot as far as a bake looks at it.
#[derive(Debug, Clone)]
pub(super) struct SnapshotSeen {
    pub id: String,
    /// In GiB.
    pub size: u64,
    /// RFC 3339.
    pub started: Option<String>,
    /// `vol-…`, perhaps of a volume that is gone.
    pub volume: String,
    pub tags: BTreeMap<String, String>,
    pub seen: Seen,
}

impl Api {
    /// This account's snapshots that pass the filters.
    pub(super) async fn own_snapshots(&self, filters: Vec<Filter>) -> Result<Vec<SnapshotSeen>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_snapshots()
                .owner_ids("self")
                .set_filters(Some(filters.clone()))
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeSnapshots", &self.region, error))?;
            all.extend(page.snapshots().iter().filter_map(seen));
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// A snapshot by its id, of any account.
    pub(super) async fn describe_snapshot(&self, id: &str) -> Result<Option<SnapshotSeen>, Trouble> {
        let page = self
            .ec2
            .describe_snapshots()
            .snapshot_ids(id)
            .send()
            .await
            .map_err(|error| explain("ec2:DescribeSnapshots", &self.region, error))?;
        Ok(page.snapshots().first().and_then(seen))
    }
}

fn seen(snapshot: &Snapshot) -> Option<SnapshotSeen> {
    Some(SnapshotSeen {
        id: snapshot.snapshot_id()?.to_owned(),
        size: snapshot.volume_size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        started: snapshot.start_time().map(ToString::to_string),
        volume: snapshot.volume_id().unwrap_or_default().to_owned(),
        tags: tags(snapshot.tags()),
        seen: Seen {
            state: snapshot.state().map_or_else(String::new, |state| state.as_str().to_owned()),
            reason: snapshot.state_message().filter(|text| !text.is_empty()).map(str::to_owned),
            progress: snapshot.progress().filter(|text| !text.is_empty()).map(str::to_owned),
            ..Seen::default()
        },
    })
}
