//! Who and where the builder is: the instance identity document, by IMDSv2.

use anyhow::Result;
use aws_config::imds::client::error::ImdsError;
use serde::Deserialize;

use super::Ec2;
use super::explain::chain;
use crate::cloud::binfmt;
use crate::error::{Failure, Kind};
use crate::plan::{Arch, Place};

/// Instance identity document of IMDS, as far as a bake needs it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    account_id: Option<String>,
    architecture: String,
    availability_zone: String,
    instance_id: String,
    region: String,
}

const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";

impl Ec2 {
    /// Asked once, then remembered.
    pub(super) async fn where_am_i(&self) -> Result<&Place> {
        self.place.get_or_try_init(|| self.ask_metadata()).await
    }

    async fn ask_metadata(&self) -> Result<Place> {
        let Some(imds) = &self.imds else {
            return Err(not_an_instance(
                "neither its DMI nor AWS_EC2_METADATA_SERVICE_ENDPOINT says that it is",
            ));
        };
        let document = match imds.get(DOCUMENT).await {
            Ok(document) => document,
            Err(ImdsError::ErrorResponse(answer)) => {
                let status = answer.response().status().as_u16();
                return Err(not_an_instance(&format!(
                    "the metadata service answers {DOCUMENT} with HTTP status {status}"
                )));
            }
            Err(error) => return Err(not_an_instance(&chain(&error))),
        };
        place(document.as_ref(), &self.api.region)
    }
}

fn place(document: &str, region: &str) -> Result<Place> {
    let identity: Identity = serde_json::from_str(document)
        .map_err(|error| not_an_instance(&format!("its identity document cannot be read: {error}")))?;
    if identity.region != region {
        return Err(Failure::new(
            Kind::Host,
            format!("this instance is in {}, but the Region in use is {region}", identity.region),
        )
        .hint("a volume can be attached only in its own Region: unset AWS_REGION, or bake on a builder there")
        .into());
    }
    let arch = Arch::parse(&identity.architecture).ok_or_else(|| {
        Failure::new(
            Kind::Host,
            format!("a builder of architecture {} is not supported", identity.architecture),
        )
        .hint("bake on an x86_64 or arm64 instance")
    })?;
    Ok(Place {
        cloud: "ec2".to_owned(),
        region: identity.region,
        zone: Some(identity.availability_zone),
        builder: identity.instance_id,
        arch,
        account: identity.account_id,
        runs: binfmt::runs(arch),
    })
}

fn not_an_instance(why: &str) -> anyhow::Error {
    Failure::new(Kind::Host, format!("not on an EC2 instance, or its metadata service is off: {why}"))
        .hint(
            "bake on an instance with the metadata service enabled (IMDSv2, hop limit 2 in a container), or with --cloud local; \
             AWS_EC2_METADATA_SERVICE_ENDPOINT names another address of the service",
        )
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    const DOCUMENT: &str = r#"{
      "accountId" : "123456789012", "architecture" : "arm64", "availabilityZone" : "eu-central-1b",
      "billingProducts" : null, "imageId" : "ami-1", "instanceId" : "i-0abc", "region" : "eu-central-1"
    }"#;

    #[test]
    fn the_identity_document_says_it_all() {
        let place = place(DOCUMENT, "eu-central-1").unwrap();
        assert_eq!(place.builder, "i-0abc");
        assert_eq!(place.zone.as_deref(), Some("eu-central-1b"));
        assert_eq!(place.account.as_deref(), Some("123456789012"));
        assert_eq!(place.arch, Arch::Arm64);
        assert!(place.runs.contains(&Arch::Arm64));
    }

    #[test]
    fn another_region_than_the_builders_is_refused() {
        let error = place(DOCUMENT, "us-east-1").unwrap_err();
        assert_eq!(kind_of(&error), Kind::Host);
        assert!(error.to_string().contains("eu-central-1"), "{error}");
    }

    #[test]
    fn garbage_is_a_failure_of_the_host() {
        for document in ["", "<html>", "{}", "null"] {
            assert_eq!(kind_of(&place(document, "x").unwrap_err()), Kind::Host, "{document}");
        }
    }
}
