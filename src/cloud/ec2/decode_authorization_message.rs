//! `DecodeAuthorizationMessage` of STS: what an `UnauthorizedOperation` of EC2 was about, where the credentials may ask.

use std::time::Duration;

use serde::Deserialize;

use super::explain::Trouble;

/// What stands before the encoded part, in EC2's message.
const MARK: &str = "Encoded authorization failure message: ";
/// An explanation is worth a moment, not a bake's time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Explains refusals.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    pub(super) sts: aws_sdk_sts::Client,
}

impl Decoder {
    /// The trouble with what its encoded message says in place of that message; as it was where STS does not tell.
    pub(super) async fn explained(&self, mut trouble: Trouble) -> Trouble {
        let Some((before, encoded)) = trouble.message.split_once(MARK) else { return trouble };
        let (encoded, after) = encoded.split_once([' ', '\n']).unwrap_or((encoded, ""));
        let asked = self.sts.decode_authorization_message().encoded_message(encoded).send();
        let said = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => answer.decoded_message().and_then(summary),
            Ok(Err(_)) | Err(_) => None,
        };
        let said = said.unwrap_or_else(|| {
            "allow sts:DecodeAuthorizationMessage to these credentials to be told more".to_owned()
        });
        trouble.message = format!("{} {said} {after}", before.trim_end()).trim_end().to_owned();
        trouble
    }
}

/// The decoded message, as far as it tells what to change.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decoded {
    #[serde(default)]
    explicit_deny: bool,
    #[serde(default)]
    matched_statements: Items<Statement>,
    context: Option<Request>,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    statement_id: Option<String>,
    source_policy_id: Option<String>,
    source_policy_type: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    principal: Option<Principal>,
    action: Option<String>,
    resource: Option<String>,
}

#[derive(Deserialize)]
struct Principal {
    arn: Option<String>,
}

fn summary(text: &str) -> Option<String> {
    let decoded: Decoded = serde_json::from_str(text).ok()?;
    let context = decoded.context?;
    let mut said = match (decoded.explicit_deny, decoded.matched_statements.items.first()) {
        (true, Some(statement)) => {
            let named = [
                ("statement", &statement.statement_id),
                ("policy", &statement.source_policy_id),
                ("type", &statement.source_policy_type),
            ];
            let named = named.iter().filter_map(|(what, name)| {
                name.as_ref().filter(|name| !name.is_empty()).map(|name| format!("{what} {name}"))
            });
            format!("Denied outright by {}", named.collect::<Vec<_>>().join(", "))
        }
        (true, None) => "Denied outright by a policy".to_owned(),
        (false, _) => "No policy allows it".to_owned(),
    };
    for (what, value) in [
        ("action", context.action),
        ("resource", context.resource),
        ("principal", context.principal.and_then(|principal| principal.arn)),
    ] {
        if let Some(value) = value {
            said.push_str(&format!("; {what} {value}"));
        }
    }
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_names_action_and_resource() {
        let text = r#"{"allowed":false,"explicitDeny":false,"matchedStatements":{"items":[]},"failures":{"items":[]},
            "context":{"principal":{"id":"AIDA","name":"bob","arn":"arn:aws:iam::123456789012:user/bob"},
            "action":"ec2:CreateVolume","resource":"arn:aws:ec2:eu-west-1:123456789012:volume/*","conditions":{"items":[]}}}"#;
        let said = summary(text).unwrap();
        assert_eq!(
            said,
            "No policy allows it; action ec2:CreateVolume; resource arn:aws:ec2:eu-west-1:123456789012:volume/*; \
             principal arn:aws:iam::123456789012:user/bob"
        );
    }

    #[test]
    fn a_denial_names_its_statement() {
        let text = r#"{"allowed":false,"explicitDeny":true,"matchedStatements":{"items":[{"statementId":"NoVolumes",
            "effect":"DENY","sourcePolicyId":"p-1","sourcePolicyType":"SCP"}]},"context":{"action":"ec2:CreateVolume"}}"#;
        assert_eq!(
            summary(text).unwrap(),
            "Denied outright by statement NoVolumes, policy p-1, type SCP; action ec2:CreateVolume"
        );
    }

    #[test]
    fn anything_else_is_no_explanation() {
        for text in ["", "[]", "{}", "{\"context\": 3}"] {
            assert_eq!(summary(text), None, "{text}");
        }
    }
}
