//! `GetObject` of S3.

use aws_sdk_s3::primitives::ByteStream;

use super::api::Api;
use super::explain::{Trouble, explain};
use super::objects::{Home, home_of};
use crate::provisioner::Object;

impl Api {
    /// An object's content, of its version, or as long as its ETag is the one that is known; or the Region where it is.
    pub(super) async fn get_object(&self, object: &Object) -> Result<Home<ByteStream>, Trouble> {
        let sent = self
            .s3
            .get_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version.clone())
            .set_if_match(object.etag.clone())
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(Home::Here(answer.body)),
            Err(error) => match home_of(&error, &self.region) {
                Some(region) => Ok(Home::In(region)),
                None => Err(explain("s3:GetObject", &self.region, error)),
            },
        }
    }
}
