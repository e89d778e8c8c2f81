//! A base by an SSM parameter: its value is an AMI's id, or JSON that holds one.

use anyhow::{Context as _, Result};

use super::Ec2;
use super::explain::Trouble;
use super::get_parameter::Parameter;
use super::retry::insist;
use crate::error::{Failure, Kind};
use crate::plan::BaseFacts;

impl Ec2 {
    pub(super) async fn base_by_parameter(&self, name: &str) -> Result<BaseFacts> {
        is_of_region(name, &self.api.region)?;
        let parameter = insist(self.effort(None), || self.api.get_parameter(name))
            .await
            .map_err(Trouble::into_error)
            .with_context(|| format!("reading the SSM parameter {name}"))?;
        let id = image_in(&parameter).map_err(|holds| {
            Failure::new(Kind::Base, format!("the SSM parameter {name} holds no AMI id, but {holds}"))
                .hint("name a parameter whose value is an AMI id, or JSON with an `image_id`")
        })?;
        let facts = self.base_by_id(&id).await;
        let mut facts = facts.with_context(|| format!("using the image of the SSM parameter {name}"))?;
        facts.notes.insert(0, format!("the SSM parameter {name} says {id}"));
        Ok(facts)
    }
}

/// Parameters are read in their own Region alone.
fn is_of_region(name: &str, region: &str) -> Result<(), Failure> {
    let of = name.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
    match of {
        Some(of) if of != region => Err(Failure::new(
            Kind::Base,
            format!("the SSM parameter {name} is in {of}, but the Region in use is {region}"),
        )
        .hint(format!("name the parameter of {region}: an image is of one Region too"))),
        _ => Ok(()),
    }
}

/// The AMI id of a parameter's value: the value itself, or `image_id` of JSON, as the parameters under
/// `/aws/service/ecs/optimized-ami` and `/aws/service/eks/optimized-ami` have it. Else what it holds, in words: the
/// value itself is not told, for it may be a secret that was named by mistake.
fn image_in(parameter: &Parameter) -> Result<String, String> {
    let value = parameter.value.trim();
    match parameter.kind.as_str() {
        "SecureString" => return Err("a secret (it is a SecureString)".to_owned()),
        "StringList" => return Err("a list (it is a StringList)".to_owned()),
        _ => {}
    }
    if is_image(value) {
        return Ok(value.to_owned());
    }
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(serde_json::Value::Object(object)) => {
            let image = object.get("image_id").and_then(|image| image.as_str()).map(str::trim);
            match image {
                Some(image) if is_image(image) => Ok(image.to_owned()),
                Some(_) => Err("JSON whose `image_id` is none".to_owned()),
                None => Err("JSON without an `image_id`".to_owned()),
            }
        }
        _ if value.is_empty() => Err("nothing".to_owned()),
        _ => Err(format!("a text of {} characters", value.chars().count())),
    }
}

fn is_image(text: &str) -> bool {
    text.strip_prefix("ami-")
        .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(kind: &str, value: &str) -> Result<String, String> {
        image_in(&Parameter { kind: kind.into(), value: value.into() })
    }

    #[test]
    fn parameters_hold_an_id_or_json() {
        assert_eq!(holds("String", " ami-0123abcd\n").as_deref(), Ok("ami-0123abcd"));
        let ecs =
            r#"{"ecs_agent_version":"1.89.0","image_id":"ami-2","os":"Amazon Linux 2","schema_version":1}"#;
        assert_eq!(holds("String", ecs).as_deref(), Ok("ami-2"));
    }

    #[test]
    fn what_else_a_parameter_holds_is_told_without_its_value() {
        for (kind, value, told) in [
            ("String", "hunter2", "a text of 7 characters"),
            ("String", "", "nothing"),
            ("String", "ami-", "a text of 4 characters"),
            ("String", r#"{"image":"ami-1"}"#, "JSON without an `image_id`"),
            ("String", r#"{"image_id":"hunter2"}"#, "JSON whose `image_id` is none"),
            ("SecureString", "AQICAHj", "a secret (it is a SecureString)"),
            ("StringList", "ami-1,ami-2", "a list (it is a StringList)"),
        ] {
            assert_eq!(holds(kind, value).as_ref().map_err(String::as_str), Err(told));
        }
    }

    #[test]
    fn a_parameter_of_another_region_is_refused() {
        assert!(is_of_region("/images/web:3", "eu-west-1").is_ok());
        let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/images/web";
        assert!(is_of_region(arn, "eu-west-1").is_ok());
        let failure = is_of_region(arn, "us-east-1").unwrap_err();
        assert!(failure.message.contains("is in eu-west-1"), "{failure}");
    }
}
