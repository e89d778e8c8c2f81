//! Codes to kinds, and what is said of them.

use super::*;
use crate::error::{failure_of, kind_of};

fn answered(action: &'static str, code: &str, status: u16) -> Trouble {
    let facts = Facts {
        code: Some(code.to_owned()),
        message: Some("AWS says so.".to_owned()),
        request: Some("req-1".to_owned()),
        status: Some(status),
        way: Way::Answered,
    };
    judge(action, "eu-central-1", facts, "")
}

fn on_the_way(way: Way) -> Trouble {
    let facts = Facts { code: None, message: None, request: None, status: None, way };
    judge("ec2:DescribeImages", "eu-central-1", facts, "dispatch failure: connection refused")
}

#[test]
fn a_protected_image_is_no_matter_of_iam() {
    let (kind, hint) = answered("ec2:DeregisterImage", "OperationNotPermitted", 400).kind_and_hint();
    assert_eq!(kind, Kind::Cloud);
    assert!(hint.unwrap().contains("disable-image-deregistration-protection"));
    let (kind, _) = answered("ec2:ModifyImageAttribute", "OperationNotPermitted", 400).kind_and_hint();
    assert_eq!(kind, Kind::Access);
}

#[test]
fn every_code_has_its_kind_and_class() {
    for (code, status, class, kind) in [
        ("UnauthorizedOperation", 403, Class::Final, Kind::Access),
        ("AuthFailure", 401, Class::Final, Kind::Access),
        ("ExpiredToken", 400, Class::Final, Kind::Access),
        ("InvalidAMIID.NotFound", 400, Class::Final, Kind::Base),
        ("InvalidAMIID.Malformed", 400, Class::Final, Kind::Base),
        ("InvalidSnapshot.NotFound", 400, Class::Final, Kind::Base),
        ("InvalidAMIName.Duplicate", 400, Class::Final, Kind::Name),
        ("SnapshotLimitExceeded", 400, Class::Final, Kind::Cloud),
        ("InsufficientVolumeCapacity", 500, Class::Final, Kind::Cloud),
        ("RequestLimitExceeded", 503, Class::Throttled, Kind::Cloud),
        ("ConcurrentSnapshotLimitExceeded", 400, Class::Throttled, Kind::Cloud),
        ("InternalError", 500, Class::Lost, Kind::Cloud),
        ("NeverHeardOf", 502, Class::Lost, Kind::Cloud),
        ("InvalidParameterValue", 400, Class::Final, Kind::Recipe),
    ] {
        let trouble = answered("ec2:CreateVolume", code, status);
        assert_eq!(trouble.class, class, "{code}");
        assert_eq!(kind_of(&trouble.into_error()), kind, "{code}");
    }
}

#[test]
fn parameters_that_are_not_the_recipes_are_no_fault_of_it() {
    let trouble = answered("ec2:AttachVolume", "InvalidParameterValue", 400);
    assert_eq!(trouble.class, Class::Final);
    assert_eq!(kind_of(&trouble.into_error()), Kind::Cloud);
}

#[test]
fn a_refusal_names_the_action_the_code_and_the_request() {
    let error = answered("ec2:CreateVolume", "UnauthorizedOperation", 403).into_error();
    let failure = failure_of(&error).unwrap();
    assert_eq!(
        failure.message,
        "CreateVolume in eu-central-1: UnauthorizedOperation: AWS says so (request req-1)"
    );
    assert!(failure.hint.as_deref().unwrap().contains("ec2:CreateVolume and ec2:CreateTags"));
}

#[test]
fn no_such_ami_says_where_it_was_looked_for() {
    let error = answered("ec2:DescribeImages", "InvalidAMIID.NotFound", 400).into_error();
    assert!(error.to_string().starts_with("no such AMI in eu-central-1"), "{error}");
}

#[test]
fn what_never_arrived_is_told_apart() {
    let missing = on_the_way(Way::NoCredentials);
    assert_eq!(missing.class, Class::Final);
    assert_eq!(kind_of(&missing.into_error()), Kind::Access);
    let unsent = on_the_way(Way::Unsent);
    assert_eq!(unsent.class, Class::Lost);
    assert!(unsent.clone().into_error().to_string().contains("connection refused"));
    assert_eq!(kind_of(&unsent.into_error()), Kind::Cloud);
}
