//! `DescribeImages`.

use aws_sdk_ec2::types::{Filter, Image};

use super::api::Api;
use super::explain::{Trouble, explain};
use super::watch::Seen;

/// Images a page: the most that a call returns. Without it a call for a large owner's images may time out.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html>
const PAGE: i32 = 1000;

impl Api {
    /// The images of some owners that pass the filters. Without `deprecated` those are left out that are deprecated
    /// by now and another account's: an owner is shown its own all the same.
    /// An owner is shown its own disabled ones too: their names are taken, and their snapshots used.
    pub(super) async fn describe_images(
        &self,
        owners: &[String],
        filters: Vec<Filter>,
        deprecated: bool,
    ) -> Result<Vec<Image>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_images()
                .set_owners(Some(owners.to_vec()))
                .set_include_disabled((owners == ["self"]).then_some(true))
                .set_filters(Some(filters.clone()))
                .set_include_deprecated(deprecated.then_some(true))
                .max_results(PAGE)
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeImages", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(page.images.unwrap_or_default());
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// This account's images that pass the filters.
    pub(super) async fn own_images(&self, filters: Vec<Filter>) -> Result<Vec<Image>, Trouble> {
        self.describe_images(&["self".to_owned()], filters, false).await
    }

    /// An image by its id, of any account; deprecated ones are told by their id in any case, those that their owner
    /// disabled only on request.
    pub(super) async fn describe_image(&self, id: &str) -> Result<Option<Image>, Trouble> {
        let page = self
            .ec2
            .describe_images()
            .image_ids(id)
            .include_disabled(true)
            .send()
            .await
            .map_err(|error| explain("ec2:DescribeImages", &self.region, error))?;
        Ok(page.images.unwrap_or_default().into_iter().next())
    }
}

/// What the watcher shows of an image.
pub(super) fn seen(image: &Image) -> Option<(String, Seen)> {
    let seen = Seen {
        state: image.state().map_or_else(String::new, |state| state.as_str().to_owned()),
        reason: image.state_reason().and_then(|reason| reason.message()).map(str::to_owned),
        billing: (image.platform_details().map(str::to_owned), image.usage_operation().map(str::to_owned)),
        ..Seen::default()
    };
    Some((image.image_id()?.to_owned(), seen))
}
