//! `bakehouse iam-policy`: the calls that bakes make and the actions that the policy allows are the same set, and the
//! policy's conditions hold for what is sent.

use std::collections::BTreeSet;

use bakehouse::cloud::ec2::actions;
use serde_json::{Value, json};

use crate::bake_ec2::{Builder, RECIPE};
use crate::publish::everything;
use crate::scratch;
use crate::support::host::run;
use crate::support::standin::{ACCOUNT, INSTANCE, Options, REGION, Standin};

/// The permission that a call needs. S3 knows none for HEAD, and one of its own for an object's version:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>.
fn permission(request: &Value) -> String {
    let service = request["service"].as_str().unwrap();
    let action = match service {
        "s3" if request["params"]["VersionId"].is_string() => "GetObjectVersion",
        "s3" => "GetObject",
        _ => request["action"].as_str().unwrap(),
    };
    format!("{service}:{action}")
}

/// What calls need to be allowed: their own actions, and those that tagging at creation takes.
fn needed(requests: &[Value]) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    for request in requests.iter().filter(|each| each["service"] != "imds") {
        needed.insert(permission(request));
        let params = request["params"].as_object().unwrap();
        if params.keys().any(|key| key.starts_with("TagSpecification")) {
            needed.insert("ec2:CreateTags".to_owned());
        }
        if params.contains_key("Tags") {
            needed.insert("ssm:AddTagsToResource".to_owned());
        }
    }
    needed
}

/// A request's tags by resource type.
fn tags_of(request: &Value, kind: &str) -> Vec<(String, String)> {
    let params = request["params"].as_object().unwrap();
    let text = |key: &str| params.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut tags = Vec::new();
    for number in 1.. {
        let specification = format!("TagSpecification.{number}");
        let Some(found) = text(&format!("{specification}.ResourceType")) else { break };
        for tag in 1.. {
            let Some(key) = text(&format!("{specification}.Tag.{tag}.Key")) else { break };
            if found == kind {
                tags.push((key, text(&format!("{specification}.Tag.{tag}.Value")).unwrap_or_default()));
            }
        }
    }
    tags
}

/// Asserts that what is made has the tag that the policy asks for, and that what is named is in its Regions.
fn meets_conditions(policy: &Value, requests: &[Value]) {
    let made = [
        ("CreateVolume", "volume"),
        ("CreateSnapshot", "snapshot"),
        ("RegisterImage", "image"),
        ("CopyImage", "image"),
        ("CopyImage", "snapshot"),
    ];
    let look = policy["Statement"].as_array().unwrap().iter().find(|one| one["Sid"] == "Look").unwrap();
    let regions = look["Condition"]["StringEquals"]["aws:RequestedRegion"].as_array().unwrap();
    for request in requests.iter().filter(|each| each["service"] != "imds") {
        assert!(regions.contains(&request["region"]), "{request:#}");
        assert!(is_allowed_in_its_region(policy, request), "{request:#}\n{policy:#}");
        for (_, kind) in made.iter().filter(|(action, _)| request["action"] == *action) {
            let tags = tags_of(request, kind);
            let bake = tags.iter().find(|(key, _)| key == "bakehouse:bake");
            assert!(bake.is_some_and(|(_, value)| value.starts_with("bake-")), "{kind}: {request:#}");
        }
        if ["AttachVolume", "DetachVolume"].contains(&request["action"].as_str().unwrap()) {
            assert_eq!(request["params"]["InstanceId"], INSTANCE);
        }
    }
}

/// Whether a statement allows the call for resources of the Region that it went to, or for the object that it names.
fn is_allowed_in_its_region(policy: &Value, request: &Value) -> bool {
    let action = permission(request);
    let params = &request["params"];
    let text = |key: &str| params[key].as_str().unwrap_or_default();
    let object = format!("arn:aws:s3:::{}/{}", text("Bucket"), text("Key"));
    let fits = |resource: &str| match request["service"] == "s3" {
        true => resource == object,
        false => resource == "*" || resource.split(':').nth(3) == request["region"].as_str(),
    };
    policy["Statement"].as_array().unwrap().iter().any(|statement| {
        let has = |key: &str, fits: &dyn Fn(&str) -> bool| {
            statement[key].as_array().unwrap().iter().any(|one| fits(one.as_str().unwrap()))
        };
        has("Action", &|one| one == action) && has("Resource", &fits)
    })
}

fn policy_of(builder: &Builder) -> Value {
    policy_with(builder, &[])
}

fn policy_with(builder: &Builder, more: &[&str]) -> Value {
    let arguments =
        ["iam-policy", "recipe.toml", "--region", REGION, "--account", ACCOUNT, "--instance", INSTANCE];
    let before = builder.standin.requests().len();
    let policy = builder.bakery.bakehouse(&[&arguments[..], more].concat()).json();
    assert_eq!(builder.standin.requests().len(), before, "nothing is asked");
    policy
}

/// Bakes well, with a registration that is refused (the snapshot goes), and with an image that fails (it is
/// deregistered). What is published is so twice: the second time parameters are there already.
fn bakes(builder: &Builder, unique: &str) {
    let Builder { standin, bakery, .. } = builder;
    let bake = |name: &str| bakery.bakehouse(&["bake", "recipe.toml", "--name", name]);
    let times = if unique == "published" { 2 } else { 1 };
    for time in 0..times {
        bake(&format!("{unique}-{time}")).good();
    }
    if unique == "replaced" {
        bake("replaced-0").good();
    }
    for (name, kind) in [("refused", "quota"), ("failed", "error-state")] {
        standin.fault(json!({"action": "RegisterImage", "kind": kind, "times": 0}));
        let ran = bake(&format!("{unique}-{name}"));
        assert!(ran.status.is_some_and(|status| status != 0), "{}", ran.told());
        standin.clear_faults();
    }
    bakery.bakehouse(&["gc", "--all", "--yes"]).good();
    bakery.assert_nothing_left();
}

/// Steps that fetch from a bucket with versions and from one without, and that have a secret of a parameter.
fn fetching(standin: &Standin) -> String {
    for (bucket, versioned) in [("plain", false), ("build", true)] {
        let text = "#!/bin/sh\n";
        standin.object(json!({"bucket": bucket, "key": "more.sh", "text": text, "versioned": versioned}));
    }
    standin.parameter_of("/web/token", json!({"value": "hunter2", "type": "SecureString"}));
    let steps = r#"
[[step]]
use = "script"
script = "s3://plain/more.sh"
[[step]]
use = "script"
script = "s3://build/more.sh"
[[step]]
use = "script"
run = ["/bin/sh", "-c", ":"]
secrets = { token = { parameter = "/web/token" } }
"#;
    format!("{RECIPE}{steps}")
}

#[test]
fn the_policy_and_the_calls_of_bakes_are_the_same_set() {
    let Some(builder) = Builder::start(&Options::default(), json!({"boot_mode": "uefi-preferred"})) else {
        return;
    };
    let Builder { standin, bakery, ami, snapshot, disk } = &builder;
    standin.parameter("/bases/small", ami);
    let given = standin.volume(disk.path(), json!({}))["volume_id"].as_str().unwrap().to_owned();
    let attached = json!({"attached": {"instance": INSTANCE, "device": "/dev/sdk"}});
    let device = standin.volume(disk.path(), attached)["link"].as_str().unwrap().to_owned();
    let script = bakery.put("bootstrap.sh", scratch::BOOTSTRAP);
    run("chmod", &["+x", script.to_str().unwrap()]);
    let (head, rest) = RECIPE.split_once("[disk]").unwrap();
    let in_place = format!("{head}{}", &rest[rest.find("[[step]]").unwrap()..]);
    let on = |base: &str| RECIPE.replace("name = \"base-*\"\nowner = \"self\"", base);
    let replaces = "on_collision = \"replace\"\ndelete_replaced_snapshots = true\ntags =";
    let replaced = RECIPE.replace("tags =", replaces) + "\n[publish]\nregions = [\"us-east-1\"]\n";
    let in_place = |base: &str| in_place.replace("name = \"base-*\"\nowner = \"self\"", base);
    let blank = "scratch = { bootstrap = \"./bootstrap.sh\", args = [\"x\"], boot_loader = false }";
    let mut recipes = vec![
        ("plain", RECIPE.to_owned()),
        ("by id", on(&format!("ami = {ami:?}"))),
        ("by parameter", on("parameter = \"/bases/small\"")),
        ("of a snapshot", on(&format!("snapshot = {snapshot:?}"))),
        ("in place", in_place(&format!("volume = {given:?}"))),
        ("on a device", in_place(&format!("device = {device:?}"))),
        ("with what is fetched", fetching(standin)),
        ("published", everything()),
        ("replaced", replaced),
        ("deprecated here alone", format!("{RECIPE}\n[publish]\ndeprecate_after = \"90d\"\n")),
        (
            "shared without snapshots",
            format!("{RECIPE}\n[publish]\naccounts = [\"210987654321\"]\nsnapshots = false\n"),
        ),
    ];
    if scratch::can_fill() {
        recipes.push(("from scratch", on(blank)));
    }
    for (what, recipe) in recipes {
        bakery.put("recipe.toml", recipe);
        let policy = policy_of(&builder);
        standin.clear_requests();
        bakes(&builder, what);
        let requests = standin.requests();
        let allowed: BTreeSet<String> =
            actions(&policy).into_iter().filter(|action| !action.starts_with("kms:")).collect();
        assert_eq!(needed(&requests), allowed, "{what}: {policy:#}");
        meets_conditions(&policy, &requests);
    }
}

#[test]
fn the_policy_and_the_calls_of_prune_are_the_same_set_too() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    bakery.put("recipe.toml", RECIPE);
    let image = |name: &str| {
        let tags = json!({"bakehouse:bake": format!("bake-{name}"), "bakehouse:family": "web"});
        let about = json!({"name": name, "public": false, "tags": tags, "snapshot_tags": tags});
        standin.seed(disk.path(), about).0
    };
    let used = image("web-1");
    for name in ["web-2", "web-3", "web-4"] {
        image(name);
    }
    standin.parameter("/images/web", &used);
    standin.users(json!({"templates": [{
        "LaunchTemplateId": "lt-0123456789abcdef0", "LaunchTemplateName": "web", "Versions": ["resolve:ssm:/images/web"],
    }]}));
    standin.clear_requests();
    for (name, action) in [("web-2", "deprecate"), ("web-3", "disable"), ("web-*", "deregister")] {
        bakery.bakehouse(&["prune", "--name", name, "--keep", "0", "--action", action, "--yes"]).good();
    }
    let requests = standin.requests();
    let with = policy_with(&builder, &["--prune"]);
    let (all, bake) = (actions(&with), actions(&policy_of(&builder)));
    let needed = needed(&requests);
    assert!(needed.is_subset(&all), "{:?}", needed.difference(&all));
    let more: BTreeSet<_> = all.difference(&bake).cloned().collect();
    assert!(more.is_subset(&needed), "{:?}", more.difference(&needed));
    for statement in with["Statement"].as_array().unwrap() {
        let deletes = ["Deregister", "DeleteSnapshot", "DisableImage"];
        if deletes.iter().any(|word| statement["Action"].to_string().contains(word)) {
            assert_eq!(
                statement["Condition"]["StringLike"]["aws:ResourceTag/bakehouse:bake"],
                json!(["bake-*"])
            );
        }
    }
}

#[test]
fn what_is_no_account_or_instance_is_refused() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let policy = |more: &[&str]| builder.bakery.bakehouse(&[&["iam-policy", "recipe.toml"], more].concat());
    policy(&["--account", "mine"]).refused(2, &["--account mine"]);
    policy(&["--instance", "web-1"]).refused(2, &["--instance web-1"]);
    let any = policy(&[]).json();
    assert!(any.to_string().contains("arn:*:ec2:*"), "{any:#}");
}

#[test]
fn an_instance_is_named_as_the_caller_only_where_it_calls_with_its_own_credentials() {
    let Some(mut builder) = Builder::start(&Options::default(), json!({})) else { return };
    let asks = |builder: &Builder, more: &[&str]| {
        let policy = policy_with(builder, more);
        let all = policy["Statement"].as_array().unwrap();
        let attach = all.iter().find(|one| one["Sid"] == "AttachToTheBuilder").unwrap();
        assert!(attach["Resource"].to_string().contains(INSTANCE), "{attach:#}");
        attach.to_string().contains("SourceInstanceARN")
    };
    assert!(asks(&builder, &[]));
    assert!(!asks(&builder, &["--assume-role", "arn:aws:iam::123456789012:role/baker"]));
    assert!(!asks(&builder, &["--oidc"]));
    builder.bakery.set("AWS_WEB_IDENTITY_TOKEN_FILE", Some("/run/token"));
    assert!(!asks(&builder, &[]));
}

#[test]
fn recipes_of_one_builder_have_one_policy() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { bakery, .. } = &builder;
    let alone = policy_of(&builder);
    bakery.put("other.toml", everything());
    bakery.put("third.toml", RECIPE.replace("small-", "third-"));
    let policy = |recipes: &[&str]| bakery.bakehouse(&[&["iam-policy"], recipes].concat()).json();
    let (first, other) = (policy(&["recipe.toml"]), policy(&["other.toml"]));
    let both = policy(&["recipe.toml", "other.toml", "third.toml"]);
    let union: BTreeSet<_> = actions(&first).union(&actions(&other)).cloned().collect();
    assert_eq!(actions(&both), union);
    assert!(both.to_string().len() < first.to_string().len() + other.to_string().len(), "{both:#}");
    assert_eq!(policy(&["recipe.toml", "third.toml"]), first, "what is alike is said once");
    assert_eq!(policy_with(&builder, &["third.toml"]), alone);
}
