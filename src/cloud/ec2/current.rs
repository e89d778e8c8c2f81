//! The parameters of SSM that say which image is the current one: read, written, and left to a later bake.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::api::{filter, tags};
use super::capture::BAKE_TAG;
use super::explain::Trouble;
use super::region::There;
use super::retry::{insist, search};
use crate::cloud::publish::{Change, Parameter};
use crate::error::{Failure, Kind};

impl There<'_> {
    pub(super) async fn parameter(&self, name: &str, with_tags: bool) -> Result<Option<Parameter>> {
        let ask = || format!("reading the parameter {name} in {}", self.api.region);
        let seen = insist(self.effort(), || self.api.parameter_seen(name)).await;
        let Some((value, is_image)) = seen.map_err(Trouble::into_error).with_context(ask)? else {
            return Ok(None);
        };
        let tags = match with_tags {
            false => BTreeMap::new(),
            true => insist(self.effort(), || self.api.tags_of_parameter(name))
                .await
                .map_err(Trouble::into_error)
                .with_context(ask)?,
        };
        Ok(Some(Parameter { value, is_image, tags }))
    }

    /// The image that a parameter which is to be overwritten says now, where a bake made it that began later than this
    /// one: of two bakes side by side the earlier may well be the last to end. Only in a bake: what is published by hand
    /// is meant to be.
    pub(super) async fn later_in(&self, change: &Change) -> Result<Option<String>> {
        let (Change::SetParameter { name, .. }, Some(_)) = (change, self.how.journal) else {
            return Ok(None);
        };
        let Some(own) = begun(&self.image.tags) else { return Ok(None) };
        let doing =
            || format!("asking whether the parameter {name} in {} says a later image", self.api.region);
        let says = insist(self.effort(), || self.api.parameter_seen(name)).await;
        let Some((says, _)) = says.map_err(Trouble::into_error).with_context(doing)? else { return Ok(None) };
        if !says.starts_with("ami-") {
            return Ok(None);
        }
        let found = insist(self.effort(), || self.api.own_images(vec![filter("image-id", &says)]))
            .await
            .map_err(Trouble::into_error)
            .with_context(doing)?;
        let is_later = found.iter().any(|image| {
            let tags = tags(image.tags());
            let stands = image.state().is_some_and(|state| state.as_str() == "available");
            let is_it = image.image_id() == Some(&says) && tags.contains_key(BAKE_TAG);
            stands && is_it && begun(&tags).is_some_and(|other| other > own)
        });
        Ok(Some(says).filter(|_| is_later))
    }

    /// Writes a parameter, with tags where it is new, and sees that it stands: SSM asks EC2 about the image after it
    /// has answered, and forgets what EC2 does not know.
    pub(super) async fn set_parameter(
        &self,
        name: &str,
        image: &str,
        new: Option<&BTreeMap<String, String>>,
    ) -> Result<()> {
        let doing = || format!("writing the parameter {name} in {}", self.api.region);
        let effort = self.effort();
        let mut put = match new {
            Some(tags) => insist(effort, || self.api.new_parameter(name, image, tags)).await,
            None => insist(effort, || self.api.overwrite_parameter(name, image)).await,
        };
        // By an earlier try whose answer was lost, or by somebody else a moment ago.
        if put.as_ref().is_err_and(|trouble| trouble.is(&["ParameterAlreadyExists"])) {
            put = insist(effort, || self.api.overwrite_parameter(name, image)).await;
        }
        put.map_err(Trouble::into_error).with_context(doing)?;
        let stands = || async {
            let seen = self.api.parameter_seen(name).await?;
            Ok(seen.filter(|seen| *seen == (image.to_owned(), true)))
        };
        let seen = search(effort, self.ec2.settings.visible, stands);
        match self
            .how
            .stop
            .race(async { seen.await.map_err(Trouble::into_error) })
            .await
            .with_context(doing)?
        {
            Some(_) => Ok(()),
            None => Err(Failure::new(
                Kind::Publish,
                format!("SSM took {image} for {name}, and then did not keep it"),
            )
            .hint("EC2 must know the image there (data type aws:ec2:image); allow ec2:DescribeImages"))
            .with_context(doing),
        }
    }
}

/// When the bake began that made an image with these tags.
fn begun(tags: &BTreeMap<String, String>) -> Option<Timestamp> {
    tags.get("creation_time")?.parse().ok()
}
