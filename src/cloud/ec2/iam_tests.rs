use super::*;
use crate::recipe::{Source, parse};

fn of(text: &str, builders: &Builders) -> Value {
    of_all(&[text], builders)
}

fn of_all(texts: &[&str], builders: &Builders) -> Value {
    let recipe = |text: &&str| parse(&Source { name: "web.toml".into(), text: (*text).to_owned() }).unwrap();
    policy(&texts.iter().map(recipe).collect::<Vec<_>>(), builders)
}

/// All that a policy allows, one by one: action, resource, and one value of each condition.
fn allowed(policy: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        let mut lines = vec![String::new()];
        let mut each = |what: &str, values: &Value| {
            let values = values.as_array().unwrap();
            let with = |line: &String| -> Vec<String> {
                values.iter().map(|value| format!("{line} {what} {value}")).collect()
            };
            lines = lines.iter().flat_map(with).collect();
        };
        each("action", &statement["Action"]);
        each("resource", &statement["Resource"]);
        for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
            for (key, values) in keys.as_object().unwrap() {
                each(&format!("{operator} {key}"), values);
            }
        }
        all.extend(lines);
    }
    all
}

#[test]
fn one_policy_of_several_recipes_allows_what_each_of_theirs_does_and_no_more() {
    let replaced =
        "[image]\nname = \"web\"\non_collision = \"replace\"\n[base]\nami = \"ami-0abc1234def567890\"\n";
    let published = format!("{PLAIN}[publish]\nregions = [\"us-east-1\"]\naccounts = [\"210987654321\"]\n");
    let fetching =
        |object: &str| format!("{PLAIN}[[step]]\nuse = \"script\"\nscript = \"s3://releases/{object}\"\n");
    let given = |base: &str| format!("[image]\nname = \"web-{{time}}\"\n[base]\n{base}\n");
    let texts = [
        PLAIN.to_owned(),
        fetching("a.sh"),
        replaced.to_owned(),
        given("volume = \"vol-0abc1234def567890\""),
        published,
        given("device = \"/dev/nvme1n1\""),
        format!("{replaced}[publish]\nregions = [\"eu-central-1\"]\n"),
        fetching("b.sh"),
        given("volume = \"vol-0abc1234def567891\""),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for builders in [builders(), Builders { prune: true, takes_role: true, ..builders() }] {
        for some in [&texts[..], &texts[2..5], &texts[4..]] {
            let one = of_all(some, &builders);
            let each: BTreeSet<_> = some.iter().flat_map(|text| allowed(&of(text, &builders))).collect();
            let told: Vec<_> = allowed(&one).symmetric_difference(&each).cloned().collect();
            assert!(told.is_empty(), "{told:#?}");
            let statements = one["Statement"].as_array().unwrap();
            let names: BTreeSet<_> = statements.iter().map(|one| one["Sid"].as_str().unwrap()).collect();
            assert_eq!(names.len(), statements.len(), "{names:?}");
            assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric())), "{names:?}");
        }
    }
    let alike = of_all(&[texts[1], texts[0], texts[7]], &builders());
    assert_eq!(statement(&alike, "Sources")["Resource"].as_array().unwrap().len(), 2);
    assert_eq!(
        alike["Statement"].as_array().unwrap().len(),
        of(texts[1], &builders())["Statement"].as_array().unwrap().len()
    );
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
