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
                if let Some(region) = home_of(&error, &self.region) {
                    return Ok(Home::In(region));
                }
                // The answer to a HEAD has no body, so none that says its code.
                let status = error.raw_response().map(|response| response.status().as_u16());
                let mut trouble = explain("s3:HeadObject", &self.region, error);
                match status {
                    Some(403) if trouble.code.is_none() => trouble.code = Some("AccessDenied".to_owned()),
                    Some(404) if trouble.code.is_none() => trouble.code = Some("NotFound".to_owned()),
                    _ => {}
                }
                return Err(trouble);
            }
        };
        // A bucket without versions says "null".
        let version = answer.version_id().filter(|version| *version != "null").map(str::to_owned);
        Ok(Home::Here((version, answer.e_tag().map(str::to_owned))))
    }
}
