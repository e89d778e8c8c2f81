//! `[publish]` against the stand-in: what reached EC2 and SSM in each Region, and that a second run changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::bake_ec2::{Builder, RECIPE};
use crate::support::standin::{Options, REGION, Standin};

mod newer;
mod refusals;
mod replaced;
mod replaced_at_once;
mod replaced_meanwhile;
mod unfinished;

pub const KEY: &str = "arn:aws:kms:eu-central-1:123456789012:key/0b1d0c2e-3f4a-5678-9abc-def012345678";
pub const FRIEND: &str = "210987654321";
pub const ORGANIZATION: &str = "arn:aws:organizations::123456789012:organization/o-abcdefghij";
pub const UNIT: &str = "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-abcd-12345678";
pub const REGIONS: [&str; 3] = ["eu-central-1", REGION, "us-east-1"];

/// All that `[publish]` has, but for everybody.
pub fn everything() -> String {
    format!(
        r#"{RECIPE}
[publish]
regions = ["us-east-1", "{REGION}"]
copy_within = "30m"
accounts = ["{FRIEND}"]
organizations = ["{ORGANIZATION}"]
organizational_units = ["{UNIT}"]
deprecate_after = "90d"
deregistration_protection = "with-cooldown"
parameters = ["/images/small/{{arch}}/latest"]
[[publish.copy]]
region = "eu-central-1"
kms_key = "{KEY}"
"#
    )
}

/// The requests since the last look that change something, in order.
pub fn modifying(standin: &Standin) -> Vec<Value> {
    let reads = ["Describe", "Get", "List", "IMDS"];
    let all = standin.requests();
    all.into_iter()
        .filter(|each| !reads.iter().any(|read| each["action"].as_str().unwrap().starts_with(read)))
        .collect()
}

pub fn tags(thing: &Value) -> BTreeMap<&str, &str> {
    let pairs = thing["Tags"].as_array().into_iter().flatten();
    pairs.map(|pair| (pair["Key"].as_str().unwrap(), pair["Value"].as_str().unwrap())).collect()
}

pub fn arch() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "x86_64" }
}

/// Asserts that an image is published as [`everything`] says, in one Region.
#[track_caller]
pub fn is_published(standin: &Standin, region: &str, image: &str) {
    let found = standin.find_in(region, "images", "ImageId", image).unwrap();
    assert_eq!(found["State"], "available", "{found:#}");
    assert_eq!(
        found["Permissions"],
        json!([{"UserId": FRIEND}, {"OrganizationArn": ORGANIZATION}, {"OrganizationalUnitArn": UNIT}]),
        "{found:#}"
    );
    assert_eq!(found["DeregistrationProtection"], "enabled-with-cooldown");
    assert!(found["DeprecationTime"].is_string(), "{found:#}");
    let snapshot = found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap();
    let snapshot = standin.find_in(region, "snapshots", "SnapshotId", snapshot).unwrap();
    assert_eq!(snapshot["Permissions"], json!([{"UserId": FRIEND}]), "{snapshot:#}");
    let name = format!("/images/small/{}/latest", arch());
    let state = standin.state_of(region);
    assert_eq!(state["parameters"][&name], image, "{region}");
    let about = &state["parameters_about"][&name];
    assert_eq!((&about["DataType"], &about["Type"]), (&json!("aws:ec2:image"), &json!("String")));
    assert_eq!(about["Tags"]["team"], "web", "{about:#}");
    assert_eq!(about["Tags"]["bakehouse:bake"], tags(&found)["bakehouse:bake"]);
}

#[test]
fn an_image_is_published_in_every_region_at_once_and_a_second_run_changes_nothing() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", everything());
    let plan = bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"]).good();
    for words in [
        "to us-east-1, within 30m",
        &format!("to eu-central-1, encrypted with {KEY}, within 30m"),
        &format!("images and snapshots with accounts {FRIEND}"),
        "EC2 shares no snapshot so",
        "90d after it was made",
        "/images/small/x86_64/latest in every Region",
    ] {
        assert!(plan.out.contains(&words.replace("x86_64", arch())), "{words}: {}", plan.told());
    }
    assert_eq!(modifying(standin), Vec::<Value>::new(), "a dry run");

    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--output", "json"]);
    let told = ran.told();
    let baked = ran.json();
    let published = &baked["published"];
    let regions: Vec<_> = published.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(regions, REGIONS, "{told}");
    for region in REGIONS {
        let there = &published[region];
        assert_eq!((&there["missing"], &there["failures"]), (&json!([]), &json!([])), "{told}");
        is_published(standin, region, there["image"].as_str().unwrap());
    }
    assert_eq!(published[REGION]["image"], baked["image"]);
    assert!(baked["seconds"]["publish"].is_number(), "{told}");
    let times: BTreeSet<String> = REGIONS
        .iter()
        .map(|region| {
            let image = published[region]["image"].as_str().unwrap();
            standin.find_in(region, "images", "ImageId", image).unwrap()["DeprecationTime"].to_string()
        })
        .collect();
    assert_eq!(times.len(), 1, "one time everywhere: {times:?}");

    // The copies: begun before either was waited for, each with its own key, and with the tags from the start.
    let requests = modifying(standin);
    let of =
        |action: &str| -> Vec<&Value> { requests.iter().filter(|each| each["action"] == action).collect() };
    let copies = of("CopyImage");
    assert_eq!(copies.len(), 2, "none to the image's own Region");
    let source = standin.find("images", "ImageId", baked["image"].as_str().unwrap()).unwrap();
    for copy in &copies {
        let (region, params) = (copy["region"].as_str().unwrap(), &copy["params"]);
        assert_eq!(params["SourceRegion"], REGION);
        assert_eq!(params["SourceImageId"], baked["image"]);
        assert_eq!(params["SnapshotCopyCompletionDurationMinutes"], "30");
        assert!(params["ClientToken"].as_str().unwrap().starts_with("ami-"));
        let key = (region == "eu-central-1").then_some(KEY);
        assert_eq!(params["KmsKeyId"].as_str(), key, "{params:#}");
        assert_eq!(params["Encrypted"].as_str(), key.map(|_| "true"), "{params:#}");
        let there = published[region]["image"].as_str().unwrap();
        let image = standin.find_in(region, "images", "ImageId", there).unwrap();
        assert_eq!((&image["Name"], &image["Description"]), (&source["Name"], &source["Description"]));
        let mut wanted = tags(&source);
        wanted.extend([
            ("bakehouse:source", baked["image"].as_str().unwrap()),
            ("bakehouse:source-region", REGION),
        ]);
        assert_eq!(tags(&image), wanted);
        let snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap();
        let snapshot = standin.find_in(region, "snapshots", "SnapshotId", snapshot).unwrap();
        assert_eq!(tags(&snapshot), wanted);
        assert_eq!(snapshot["KmsKeyId"].as_str(), key);
        let first =
            requests.iter().find(|each| each["region"] == region && each["action"] != "CopyImage").unwrap();
        assert!(
            copies.iter().all(|copy| copy["n"].as_u64() < first["n"].as_u64()),
            "all at once: {requests:#?}"
        );
    }
    for region in REGIONS {
        let last = requests.iter().rfind(|each| each["region"] == region).unwrap();
        assert_eq!(last["action"], "PutParameter", "last of all: {requests:#?}");
        assert_eq!(last["params"]["Overwrite"], false);
    }
    assert_eq!(builder.left(), (0, 1, 1), "{told}");
    bakery.assert_nothing_left();

    // Nothing is to be changed: nothing is, by `publish` or by a look at what it would do.
    standin.clear_requests();
    let image = baked["image"].as_str().unwrap();
    for more in [&[][..], &["--dry-run"], &["--output", "json"]] {
        let again = bakery.bakehouse(&[&["publish", image, "--recipe", "recipe.toml"], more].concat()).good();
        assert_eq!(modifying(standin), Vec::<Value>::new(), "{}", again.told());
        assert!(again.err.contains("nothing is to be changed"), "{}", again.told());
    }
    assert!(!standin.requests().is_empty());

    // The next image takes the parameters over.
    let next = bakery.bakehouse(&["bake", "recipe.toml", "--name", "small-next", "--output", "json"]).json();
    for region in REGIONS {
        is_published(standin, region, next["published"][region]["image"].as_str().unwrap());
    }
    let puts: Vec<_> =
        modifying(standin).into_iter().filter(|each| each["action"] == "PutParameter").collect();
    assert!(
        puts.iter().all(|put| put["params"]["Overwrite"] == true && put["params"]["Tags"].is_null()),
        "{puts:#?}"
    );
}

#[test]
fn a_recipe_that_shares_with_everybody_says_so_twice() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", format!("{RECIPE}\n[publish]\ngroups = [\"all\"]\n"));
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(3, &["everybody could launch", "public = true"]);
    bakery.put("recipe.toml", format!("{RECIPE}\n[publish]\ngroups = [\"all\"]\npublic = true\n"));
    let plan = bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"]).good();
    assert!(plan.out.contains("images and snapshots with EVERYBODY"), "{}", plan.told());
    let id = bakery.bakehouse(&["bake", "recipe.toml"]).id();
    assert_eq!(standin.find("images", "ImageId", &id).unwrap()["Public"], true);
    let shared =
        modifying(standin).into_iter().find(|each| each["action"] == "ModifySnapshotAttribute").unwrap();
    assert_eq!(shared["params"]["CreateVolumePermission.Add.1.Group"], "all", "{shared:#}");
    let begun = standin.counts();
    assert!(!begun.contains_key("DescribeRegions") && !begun.contains_key("CopyImage"), "{begun:?}");
}

#[test]
fn a_dry_run_of_publish_shows_what_would_be_changed() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", everything());
    let image = bakery.bakehouse(&["bake", "recipe.toml", "--no-publish"]).id();
    assert!(!standin.counts().contains_key("CopyImage"));
    standin.clear_requests();
    let would = bakery.bakehouse(&["publish", "small-*", "--recipe", "recipe.toml", "--dry-run"]);
    would.refused(2, &["small-*", "bakehouse images"]);
    let name = format!("small-{}", arch());
    let would = bakery.bakehouse(&["publish", &name, "--recipe", "recipe.toml", "--dry-run"]).good();
    for words in [
        &format!("eu-central-1  would copy it to eu-central-1, encrypted with {KEY}, within 30m"),
        &format!("us-east-1  would share its snapshots with {FRIEND}"),
        &format!("{REGION}  {image}"),
        &format!("{REGION}  would protect it from being deregistered, with a cool-down"),
        &format!("{REGION}  would write the parameter /images/small/{}/latest", arch()),
    ] {
        assert!(would.out.contains(words), "{words}: {}", would.told());
    }
    assert_eq!(modifying(standin), Vec::<Value>::new());
    bakery.bakehouse(&["publish", &name, "--recipe", "recipe.toml"]).good();
    is_published(standin, REGION, &image);
}

#[test]
fn a_parameters_name_may_hold_what_only_the_package_manager_knows() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("provisioners/own/provisioner.toml", OWN);
    let recipe = RECIPE.replace("use = \"script\"\nscript = \"setup.sh\"", "use = \"own\"");
    let recipe = format!("{recipe}\n[publish]\nparameters = [\"/web/{{version}}-{{release}}\"]\n");
    for (program, text) in [
        ("setup.sh", "#!/bin/sh\necho baked > /srv/mark\n"),
        ("query", "#!/bin/sh\nprintf 'web\\t2.0+dfsg~1\\t3\\n'\n"),
    ] {
        let path = bakery.put(&format!("provisioners/own/{program}"), text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    bakery.put("recipe.toml", recipe);
    let plan = bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"]).good();
    assert!(plan.out.contains("/web/{version}-{release} in every Region"), "{}", plan.told());
    let image = bakery.bakehouse(&["bake", "recipe.toml"]).id();
    let state = standin.state();
    assert_eq!(state["parameters"]["/web/2.0-dfsg-1-3"], image.as_str(), "{}", state["parameters"]);
    standin.clear_requests();
    bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
    assert_eq!(modifying(standin), Vec::<Value>::new());
}

const OWN: &str = r#"
summary = "a test's"
[run]
command = ["./setup.sh"]
[package]
query = ["./query"]
"#;
