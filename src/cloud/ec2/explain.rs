//! What an SDK error means: whether trying again may help, what kind of failure it is, and what to do about it.
//!
//! Codes are from the EC2 API's "Error codes" page and the common AWS error codes; throttling and server faults
//! are told apart because a throttled call had no effect, while a server fault or a lost reply may have had one.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId as _;

use crate::error::{Failure, Interrupted, Kind};

/// Whether a call may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Refused for now and without effect: try again.
    Throttled,
    /// It may have had its effect: look for it, or try again where that is idempotent.
    Lost,
    /// Refused, without effect, over something that was just made and that EC2 does not know yet: try until it must.
    Unseen,
    /// Refused, without effect, over something that EC2 still knows although it is gone: try a few times.
    Early,
    /// A final answer.
    Final,
    /// Not tried again, because this signal asked to stop.
    Stopped(i32),
}

/// An AWS call that went wrong, in plain data.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// The IAM action, `ec2:CreateVolume`.
    pub action: &'static str,
    /// The Region.
    pub region: String,
    /// Whether to try again.
    pub class: Class,
    /// AWS's code, where there was an answer.
    pub code: Option<String>,
    /// AWS's message with the request's id, or what went wrong on the way.
    pub message: String,
    /// For how long it was tried, when it was given up.
    pub given_up: Option<Duration>,
    /// Whether one of the tries may have had its effect all the same.
    pub unsure: bool,
}

/// What there is to know of an SDK error, without its type.
struct Facts {
    code: Option<String>,
    message: Option<String>,
    request: Option<String>,
    status: Option<u16>,
    way: Way,
}

/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Unbuilt,
    Unsent,
    NoCredentials,
    TimedOut,
    Garbled,
    Answered,
}

/// Explains the error of a call of `action` (`ec2:CreateVolume`) in `region`.
pub(super) fn explain<E>(action: &'static str, region: &str, error: SdkError<E, HttpResponse>) -> Trouble
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let meta = error.meta();
    let facts = Facts {
        code: meta.code().map(str::to_owned),
        message: meta.message().map(str::to_owned),
        request: meta.request_id().map(str::to_owned),
        status: error.raw_response().map(|response| response.status().as_u16()),
        way: way(&error),
    };
    judge(action, region, facts, &chain(&error))
}

/// The id in an answer; an answer without one is as good as lost.
pub(super) fn id_in(action: &'static str, region: &str, id: Option<&str>) -> Result<String, Trouble> {
    let id = id.filter(|id| !id.is_empty()).map(str::to_owned);
    id.ok_or_else(|| {
        let facts = Facts { code: None, message: None, request: None, status: None, way: Way::Garbled };
        judge(action, region, facts, "the answer holds no id")
    })
}

fn way<E: StdError + 'static>(error: &SdkError<E, HttpResponse>) -> Way {
    let mut cause = error.source();
    while let Some(at) = cause {
        if at.is::<CredentialsError>() {
            return Way::NoCredentials;
        }
        cause = at.source();
    }
    match error {
        SdkError::ConstructionFailure(_) => Way::Unbuilt,
        SdkError::TimeoutError(_) => Way::TimedOut,
        SdkError::DispatchFailure(_) => Way::Unsent,
        SdkError::ServiceError(_) => Way::Answered,
        _ => Way::Garbled,
    }
}

/// The messages of an error and of its causes, without those that repeat the one above.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(at) = cause {
        let text = at.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        cause = at.source();
    }
    texts.join(": ")
}

fn judge(action: &'static str, region: &str, facts: Facts, chain: &str) -> Trouble {
    let class = match facts.way {
        Way::Unbuilt => Class::Final,
        Way::Unsent | Way::TimedOut | Way::Garbled => Class::Lost,
        Way::NoCredentials => Class::Final,
        Way::Answered => class_of(facts.code.as_deref(), facts.status),
    };
    let message = match facts.way {
        Way::Answered => facts.message.unwrap_or_else(|| match facts.status {
            Some(status) => format!("HTTP status {status} without a message"),
            None => "no message".to_owned(),
        }),
        Way::NoCredentials => format!("no credentials: {chain}"),
        Way::TimedOut => "no answer in time".to_owned(),
        Way::Unbuilt | Way::Unsent | Way::Garbled => chain.to_owned(),
    };
    let mut message = message.trim_end_matches('.').to_owned();
    if let Some(request) = &facts.request {
        message.push_str(&format!(" (request {request})"));
    }
    let code = facts.code.or_else(|| {
        let code = match facts.way {
            Way::NoCredentials => NO_CREDENTIALS,
            Way::Unsent | Way::TimedOut => UNREACHABLE,
            Way::Unbuilt | Way::Garbled | Way::Answered => return None,
        };
        Some(code.to_owned())
    });
    Trouble {
        action,
        region: region.to_owned(),
        class,
        code,
        message,
        given_up: None,
        unsure: class == Class::Lost,
    }
}

/// Our own codes, for what never reached AWS.
const NO_CREDENTIALS: &str = "NoCredentials";
const UNREACHABLE: &str = "Unreachable";

fn class_of(code: Option<&str>, status: Option<u16>) -> Class {
    match code.unwrap_or_default() {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "EC2ThrottledException"
        | "SlowDown"
        | "BandwidthLimitExceeded"
        | "PriorRequestNotComplete"
        // One snapshot of a volume every 15 seconds, and only so many pending at once: both pass with time.
        | "SnapshotCreationPerVolumeRateExceeded"
        | "ConcurrentSnapshotLimitExceeded"
        | "PendingSnapshotLimitExceeded" => Class::Throttled,
        "InternalError" | "InternalFailure" | "InternalServerError" | "Unavailable" | "ServiceUnavailable"
        | "RequestTimeout" | "RequestTimeoutException" => Class::Lost,
        // Answered with a status of 500, but final: nothing was made, and there is no room for it.
        code if code.starts_with("Insufficient") => Class::Final,
        _ if status.is_some_and(|status| status >= 500) => Class::Lost,
        _ if status == Some(429) => Class::Throttled,
        _ => Class::Final,
    }
}

impl Trouble {
    /// Whether AWS's code is one of these.
    pub(super) fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// The same, where what it says not to be there was just made: [`Class::Unseen`].
    pub(super) fn unseen(mut self) -> Self {
        let codes = [
            "InvalidVolume.NotFound",
            "InvalidSnapshot.NotFound",
            "InvalidAMIID.NotFound",
            "InvalidAMIID.Unavailable",
        ];
        if self.is(&codes) {
            self.class = Class::Unseen;
        }
        self
    }

    /// The same, to be tried a few times more: [`Class::Early`].
    pub(super) fn early(mut self) -> Self {
        self.class = Class::Early;
        self
    }

    /// `CreateVolume`, of `ec2:CreateVolume`.
    pub(super) fn operation(&self) -> &'static str {
        self.action.split_once(':').map_or(self.action, |(_, operation)| operation)
    }

    /// Whether the credentials were good, but the action is not allowed to them.
    pub(super) fn refused(&self) -> bool {
        let Some(code) = self.code.as_deref() else { return false };
        matches!(
            code,
            "UnauthorizedOperation"
                | "AccessDenied"
                | "AccessDeniedException"
                | "NotAuthorized"
                | "OptInRequired"
                | "Blocked"
                | "OperationNotPermitted"
        )
    }

    fn unauthenticated(&self) -> bool {
        let Some(code) = self.code.as_deref() else { return false };
        matches!(
            code,
            "AuthFailure"
                | "ExpiredToken"
                | "ExpiredTokenException"
                | "RequestExpired"
                | "InvalidClientTokenId"
                | "UnrecognizedClientException"
                | "SignatureDoesNotMatch"
                | "InvalidSignatureException"
                | "IncompleteSignature"
                | "MissingAuthenticationToken"
        )
    }

    /// The kind of failure that it is, and what to do about it.
    fn kind_and_hint(&self) -> (Kind, Option<String>) {
        let Self { action, region, .. } = self;
        let code = self.code.as_deref().unwrap_or_default();
        if code == "OperationNotPermitted" && self.operation() == "DeregisterImage" {
            let hint = "end its protection (aws ec2 disable-image-deregistration-protection); one that had a cool-down holds for a \
                        day more";
            return (Kind::Cloud, Some(hint.to_owned()));
        }
        if self.refused() {
            let tags = match self.operation() {
                "CreateVolume" | "CreateSnapshot" | "RegisterImage" | "CopyImage" => {
                    " and ec2:CreateTags (tags are set at creation)"
                }
                _ => "",
            };
            return (
                Kind::Access,
                Some(format!("allow the IAM action {action}{tags} to these credentials, then try again")),
            );
        }
        if self.unauthenticated() {
            let hint = if code.contains("Expired") {
                "renew the credentials (`aws sso login`, a new session token), and see that this host's clock is right"
            } else {
                "the credentials are not accepted: see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or the profile \
                 in use, and that this host's clock is right"
            };
            return (Kind::Access, Some(hint.to_owned()));
        }
        let (kind, hint) = match code {
            NO_CREDENTIALS => (
                Kind::Access,
                "tried in this order: environment (AWS_ACCESS_KEY_ID, …), profile (~/.aws, AWS_PROFILE, SSO), web identity, \
                 container, and on an instance its role; give the instance a role, or set one of the others"
                    .to_owned(),
            ),
            UNREACHABLE => (
                Kind::Cloud,
                format!(
                    "the endpoint of {region} does not answer: see this host's network and proxy, AWS_ENDPOINT_URL if it is set, \
                     and that the Region is right"
                ),
            ),
            "InvalidAMIName.Duplicate" => {
                (Kind::Name, "choose another name, or put {time} in the name's template".to_owned())
            }
            "InvalidAMIName.Malformed" => {
                (Kind::Name, "an image's name is 3-128 characters of A-Za-z0-9()[] ./-'@_".to_owned())
            }
            code if code.starts_with("InvalidAMIID") => (
                Kind::Base,
                format!("see that the id is right, that the image is in {region}, and that it is shared with this account"),
            ),
            "InvalidSnapshot.NotFound" | "InvalidSnapshotID.Malformed" => (
                Kind::Base,
                format!(
                    "see that the snapshot is in {region} and that this account may make volumes of it; an image shared without its \
                     snapshot has to be copied into this account first (aws ec2 copy-image)"
                ),
            ),
            "ParameterNotFound" => (
                Kind::Base,
                format!("see that the SSM parameter is in {region}; one that another account shares is named by its ARN"),
            ),
            "ParameterVersionNotFound" => {
                (Kind::Base, "see which versions and labels it has: aws ssm get-parameter-history --name NAME".to_owned())
            }
            "VolumeLimitExceeded" | "MaxIOPSLimitExceeded" | "SnapshotLimitExceeded" | "ResourceLimitExceeded" => (
                Kind::Cloud,
                format!("a quota of this account in {region} is used up: `bakehouse gc --all` frees what dead bakes left, or ask for more in Service Quotas"),
            ),
            "AttachmentLimitExceeded" => (
                Kind::Cloud,
                "this instance has as many volumes as its type takes: bake less at once, or on a larger instance".to_owned(),
            ),
            code if code.starts_with("InvalidParameter") && self.operation() == "CreateVolume" => (
                Kind::Recipe,
                "EC2 takes no such volume: see size, type, iops and throughput of the recipe's [disk], and what the base's own are"
                    .to_owned(),
            ),
            "InsufficientVolumeCapacity" | "VolumeTypeNotAvailableInZone" => (
                Kind::Cloud,
                "this zone has no room for such a volume now: try again later, another volume type, or a builder in another zone"
                    .to_owned(),
            ),
            _ if self.class == Class::Throttled => (
                Kind::Cloud,
                format!("{region} throttles this account's calls: bake less at once, or ask for a higher API request rate"),
            ),
            _ if self.class == Class::Lost => (Kind::Cloud, "try again; see the AWS Health Dashboard if it goes on".to_owned()),
            _ if matches!(self.operation(), "CreateSnapshot" | "RegisterImage") => return (Kind::Capture, None),
            _ => return (Kind::Cloud, None),
        };
        (kind, Some(hint))
    }

    /// As a failure; add the resource as a context.
    pub(super) fn into_error(self) -> anyhow::Error {
        if let Class::Stopped(signal) = self.class {
            return Interrupted(signal).into();
        }
        let (kind, hint) = self.kind_and_hint();
        let mut message = format!("{} in {}", self.operation(), self.region);
        if self.code.as_deref().is_some_and(|code| code.starts_with("InvalidAMIID")) {
            message = format!("no such AMI in {}: {}", self.region, self.operation());
        }
        match self.code.as_deref() {
            Some(NO_CREDENTIALS | UNREACHABLE) | None => message.push_str(&format!(": {}", self.message)),
            Some(code) => message.push_str(&format!(": {code}: {}", self.message)),
        }
        if let Some(after) = self.given_up {
            message.push_str(&format!("; given up after {} s", after.as_secs()));
        }
        Failure { kind, message, hint }.into()
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
