use super::super::{Look, Source, parse, render};
use super::*;

const HEAD: &str = "[image]\nname = \"web-{time}\"\n[base]\nimage = \"x\"\n[publish]\n";

fn read(text: &str) -> Result<PublishSpec, Vec<Complaint>> {
    let source = Source { name: "web.toml".into(), text: format!("{HEAD}{text}") };
    parse(&source).map(|recipe| recipe.publish.unwrap())
}

fn wrong(text: &str) -> String {
    let source = Source { name: "web.toml".into(), text: format!("{HEAD}{text}") };
    render(&parse(&source).unwrap_err(), &source, Look::plain())
}

#[test]
fn everything_is_read() {
    let spec = read(
        r#"
regions = ["us-east-1"]
copy_within = "1h"
accounts = ["210987654321"]
organizations = ["arn:aws:organizations::123456789012:organization/o-abcdefghij"]
organizational_units = ["arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-abcd-12345678"]
deprecate_after = "90d"
deregistration_protection = "with-cooldown"
parameters = ["/images/web/{arch}/latest"]
[[publish.copy]]
region = "eu-central-1"
kms_key = "alias/images"
within = "15m"
[[publish.copy]]
region = "ap-southeast-2"
kms_key = "arn:aws:kms:ap-southeast-2:123456789012:key/0b1d0c2e-3f4a-5678-9abc-def012345678"
"#,
    )
    .unwrap();
    let copies: Vec<_> =
        spec.targets.copies.iter().map(|copy| (copy.region.as_str(), copy.encrypted, copy.within)).collect();
    assert_eq!(
        copies,
        [
            ("us-east-1", false, Some(60)),
            ("eu-central-1", true, Some(15)),
            ("ap-southeast-2", true, Some(60))
        ]
    );
    assert_eq!(spec.targets.deprecate_after, Some(90 * DAY));
    assert_eq!(spec.targets.protection, Some(Protection::WithCooldown));
    assert!(spec.targets.share.is_any() && spec.targets.share.snapshots && !spec.targets.share.everybody);
    let public = read("groups = [\"all\"]\npublic = true\nsnapshots = false\n").unwrap();
    assert!(public.targets.share.everybody && !public.targets.share.snapshots);
    assert_eq!(
        read("deregistration_protection = true\n").unwrap().targets.protection,
        Some(Protection::WithoutCooldown)
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    insta::assert_snapshot!(wrong(
        r#"
regions = ["eu-west-1a", "Ireland", "us-east-1"]
copy_within = "20m"
accounts = ["12345", "self"]
organizations = ["o-abcdefghij"]
organizational_units = ["arn:aws:organizations::123456789012:organization/o-abcdefghij"]
groups = ["all", "friends"]
deprecate_after = "11000d"
deregistration_protection = "with-cool-down"
parameters = ["images/latest", "/aws/web", "/web/{versoin}", "/we b", "/web//x"]
region = "eu-west-1"
[[publish.copy]]
region = "us-east-1"
kms_key = "arn:aws:kms:eu-west-1:123456789012:key/0b1d0c2e-3f4a-5678-9abc-def012345678"
encrypted = false
[[publish.copy]]
kms_key = "images"
"#
    ));
}

#[test]
fn the_reference_has_every_key() {
    let reference = include_str!("../../docs/recipe.md");
    let ways = "regions copy_within accounts organizations organizational_units groups public snapshots \
        deprecate_after deregistration_protection parameters region kms_key encrypted within";
    for key in ways.split_whitespace() {
        assert!(reference.contains(&format!("| `{key}` |")), "{key}");
    }
}

#[test]
fn public_takes_two_words() {
    let one = wrong("groups = [\"all\"]\n");
    assert!(one.contains("everybody could launch") && one.contains("public = true"), "{one}");
    let other = wrong("public = true\n");
    assert!(other.contains("groups = [\"all\"]"), "{other}");
    let encrypted = wrong(
        "groups = [\"all\"]\npublic = true\n[[publish.copy]]\nregion = \"us-east-1\"\nencrypted = true\n",
    );
    assert!(encrypted.contains("can't be public"), "{encrypted}");
}

#[test]
fn names_of_parameters_are_judged() {
    for good in ["/images/web/x86_64/latest", "web-latest", "/a/b.c"] {
        assert_eq!(judge_parameter(good), Ok(()), "{good}");
    }
    for wrong in ["", "/", "a/b", "/a/", "//a", "/aws/x", "SSM-x", "/a b", &"/a".repeat(16)] {
        assert!(judge_parameter(wrong).is_err(), "{wrong}");
    }
}
