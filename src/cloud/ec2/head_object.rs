//! `HeadObject` of S3.

use super::api::Api;
use super::explain::{Trouble, explain};
use super::objects::{Home, home_of};
use crate::provisioner::Object;

impl Api {
    /// The version id and the ETag of an object, as far as the bucket has them; or the Region where it is.
    pub(super) async fn head_object(
        &self,
        object: &Object,
    ) -> Result<Home<(Option<String>, Option<String>)>, Trouble> {
        let sent = self
            .s3
            .head_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version.clone())
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                return match home_of(&error, &self.region) {
                    Some(region) => Ok(Home::In(region)),
                    None => Err(explain("s3:HeadObject", &self.region, error)),
                };
            }
        };
        // A bucket without versions says "null".
        let version = answer.version_id().filter(|version| *version != "null").map(str::to_owned);
        Ok(Home::Here((version, answer.e_tag().map(str::to_owned))))
    }
}
