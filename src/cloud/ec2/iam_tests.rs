use super::*;
use crate::recipe::{Source, parse};

fn of(text: &str, builders: &Builders) -> Value {
    let source = Source { name: "web.toml".into(), text: text.to_owned() };
    policy(&parse(&source).unwrap(), builders)
}

fn statement<'a>(policy: &'a Value, sid: &str) -> &'a Value {
    let all = policy["Statement"].as_array().unwrap();
    all.iter().find(|one| one["Sid"] == sid).unwrap_or_else(|| panic!("{sid}: {policy:#}"))
}

const PLAIN: &str = "[image]\nname = \"web-{time}\"\n[base]\nname = \"debian-*\"\n";

fn builders() -> Builders {
    Builders {
        region: Some("eu-west-1".into()),
        account: Some("123456789012".into()),
        instances: vec!["i-0b1d0c2e3f4a56789".into()],
        prune: false,
        takes_role: false,
    }
}

#[test]
fn a_plain_recipe_asks_for_little() {
    let policy = of(PLAIN, &builders());
    let all = actions(&policy);
    for action in ["ec2:CopyImage", "ec2:ModifyImageAttribute", "ssm:PutParameter", "ec2:RunInstances"] {
        assert!(!all.contains(action), "{action}");
    }
    assert!(all.contains("ec2:DescribeImageAttribute"), "the base's UEFI variables");
    let here = statement(&policy, "AttachToTheBuilder");
    let arn = json!(["arn:aws:ec2:eu-west-1:123456789012:instance/i-0b1d0c2e3f4a56789"]);
    assert_eq!(here["Resource"], arn);
    assert_eq!(here["Condition"]["ArnLike"]["ec2:SourceInstanceARN"], arn);
    for (sid, key) in [
        ("MakeVolume", "aws:RequestTag/bakehouse:bake"),
        ("MakeSnapshot", "aws:RequestTag/bakehouse:bake"),
        ("MakeImage", "aws:RequestTag/bakehouse:bake"),
        ("OwnVolumes", "aws:ResourceTag/bakehouse:bake"),
        ("UndoSnapshot", "aws:ResourceTag/bakehouse:bake"),
        ("UndoImage", "aws:ResourceTag/bakehouse:bake"),
    ] {
        assert_eq!(statement(&policy, sid)["Condition"]["StringLike"][key], json!(["bake-*"]), "{sid}");
    }
    let text = policy.to_string();
    assert_eq!(text.matches("\"*\"").count(), 1, "Describe calls alone are of everything: {policy:#}");
    // A managed policy has at most 6,144 characters.
    assert!(text.len() < 6_144, "{}", text.len());
    let role = of(PLAIN, &Builders { takes_role: true, ..builders() });
    assert_eq!(statement(&role, "AttachToTheBuilder")["Condition"], Value::Null);
}

#[test]
fn a_disk_of_the_users_is_neither_made_nor_deleted() {
    let head = "[image]\nname = \"web-{time}\"\n[base]\n";
    let policy = of(&format!("{head}volume = \"vol-0abc1234def567890\"\n"), &builders());
    let volume = json!(["arn:aws:ec2:eu-west-1:123456789012:volume/vol-0abc1234def567890"]);
    assert_eq!(statement(&policy, "GivenVolume")["Resource"], volume);
    let device = of(&format!("{head}device = \"/dev/nvme1n1\"\n"), &builders());
    assert_eq!(statement(&device, "GivenVolume")["Action"], json!(["ec2:CreateSnapshot"]));
    assert!(!actions(&device).contains("ec2:AttachVolume"));
    for policy in [policy, device] {
        for action in ["ec2:CreateVolume", "ec2:DeleteVolume"] {
            assert!(!policy.to_string().contains(action), "{action}: {policy:#}");
        }
    }
}

#[test]
fn what_is_not_known_is_any() {
    let policy = of(PLAIN, &Builders::default());
    assert_eq!(statement(&policy, "MakeImage")["Resource"], json!(["arn:*:ec2:*::image/*"]));
    assert_eq!(statement(&policy, "Look")["Condition"], Value::Null);
}

#[test]
fn parameters_keys_and_sources_are_named() {
    let text = r#"
[image]
name = "web-{time}"
[base]
parameter = "/aws/service/debian/release/12/latest/amd64"
[[step]]
use = "files"
copy = [
{ from = { s3 = "s3://releases/web/1.4.tar.gz", version = "abc" }, to = "/srv" },
{ from = "s3://releases/other#sha256=0", to = "/srv" },
]
[publish]
regions = ["us-east-1", "eu-west-1"]
accounts = ["210987654321"]
parameters = ["/images/web/{arch}/latest"]
[[publish.copy]]
region = "eu-central-1"
kms_key = "alias/images"
"#;
    let policy = of(text, &builders());
    assert_eq!(
        statement(&policy, "BaseByParameter")["Resource"],
        json!(["arn:aws:ssm:eu-west-1::parameter/aws/service/debian/release/12/latest/amd64"])
    );
    assert_eq!(
        statement(&policy, "Parameters")["Resource"],
        json!([
            "arn:aws:ssm:eu-west-1:123456789012:parameter/images/web/*/latest",
            "arn:aws:ssm:us-east-1:123456789012:parameter/images/web/*/latest",
            "arn:aws:ssm:eu-central-1:123456789012:parameter/images/web/*/latest"
        ])
    );
    assert_eq!(
        statement(&policy, "Copy")["Resource"],
        json!(["arn:aws:ec2:us-east-1::image/*", "arn:aws:ec2:eu-central-1::image/*"])
    );
    let keys = statement(&policy, "KeysByAlias");
    assert_eq!(keys["Resource"], json!(["arn:aws:kms:eu-central-1:123456789012:key/*"]));
    assert_eq!(
        keys["Condition"]["StringEquals"]["kms:ViaService"],
        json!(["ec2.eu-central-1.amazonaws.com"])
    );
    assert_eq!(keys["Condition"]["ForAnyValue:StringEquals"]["kms:ResourceAliases"], json!(["alias/images"]));
    let sources = statement(&policy, "Sources");
    assert_eq!(
        sources["Resource"],
        json!(["arn:aws:s3:::releases/other", "arn:aws:s3:::releases/web/1.4.tar.gz"])
    );
    assert_eq!(sources["Action"], json!(["s3:GetObject", "s3:GetObjectVersion"]));
    // The bucket may keep versions though the recipe says none: then the one that the plan pinned is fetched.
    let plain = of(&text.replace(", version = \"abc\"", ""), &builders());
    assert_eq!(statement(&plain, "Sources")["Action"], sources["Action"]);
}

#[test]
fn a_replaced_image_is_anybodys_and_a_volumes_key_is_used() {
    let head = "[image]\nname = \"web\"\non_collision = \"replace\"\n";
    let rest = "[base]\nname = \"debian-*\"\n[disk]\nkms_key = \"alias/images\"\n";
    let policy = of(&format!("{head}{rest}"), &builders());
    assert_eq!(statement(&policy, "ReplaceImage")["Condition"], Value::Null);
    assert!(policy["Statement"].as_array().unwrap().iter().all(|one| one["Sid"] != "ReplaceSnapshots"));
    let keys = statement(&policy, "KeysByAlias");
    assert_eq!(keys["Resource"], json!(["arn:aws:kms:eu-west-1:123456789012:key/*"]));
    assert_eq!(keys["Condition"]["StringEquals"]["kms:ViaService"], json!(["ec2.eu-west-1.amazonaws.com"]));
    let with = of(&format!("{head}delete_replaced_snapshots = true\n{rest}"), &builders());
    assert_eq!(statement(&with, "ReplaceSnapshots")["Action"], json!(["ec2:DeleteSnapshot"]));
}

#[test]
fn the_parameters_of_secrets_are_read_and_no_others() {
    let text = format!(
        "{PLAIN}[[step]]\nuse = \"script\"\nrun = [\"true\"]\n\
         secrets = {{ token = {{ parameter = \"/web/token\" }}, key = {{ env = \"KEY\" }} }}\n"
    );
    let policy = of(&text, &builders());
    let secrets = statement(&policy, "Secrets");
    assert_eq!(secrets["Action"], json!(["ssm:GetParameter"]));
    assert_eq!(secrets["Resource"], json!(["arn:aws:ssm:eu-west-1:123456789012:parameter/web/token"]));
    assert!(!actions(&of(PLAIN, &builders())).contains("ssm:GetParameter"));

    let arn = "arn:aws:ssm:eu-west-1:210987654321:parameter/web/token";
    let shared = of(&text.replace("/web/token", &format!("{arn}:3")), &builders());
    assert_eq!(statement(&shared, "Secrets")["Resource"], json!([arn]), "its version is no part of its name");
}

#[test]
fn the_key_of_the_disk_is_allowed_as_those_of_copies_are() {
    let key = "1234abcd-12ab-34cd-56ef-1234567890ab";
    let policy = of(&format!("{PLAIN}[disk]\nkms_key = \"{key}\"\n"), &builders());
    let statement = statement(&policy, "Keys");
    assert_eq!(statement["Resource"], json!([format!("arn:aws:kms:eu-west-1:123456789012:key/{key}")]));
    assert_eq!(
        statement["Condition"]["StringEquals"]["kms:ViaService"],
        json!(["ec2.eu-west-1.amazonaws.com"])
    );
    let anywhere = of(&format!("{PLAIN}[disk]\nkms_key = \"{key}\"\n"), &Builders::default());
    let text = anywhere.to_string();
    assert!(text.contains("ec2.*.amazonaws.com") && text.contains("StringLike"), "{anywhere:#}");
}
