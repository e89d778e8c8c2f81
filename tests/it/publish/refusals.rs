//! What is refused before anything is made, and what the local store does with `[publish]`.

use serde_json::json;

use super::{everything, modifying};
use crate::bake_ec2::{Builder, RECIPE};
use crate::support::bakery::{Bakery, small_disk};
use crate::support::host::has;
use crate::support::standin::{Options, REGION};
use crate::support::{not_root, skipped};

#[test]
fn wrong_regions_and_taken_names_fail_before_any_volume_is_made() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    bakery.put("recipe.toml", format!("{RECIPE}\n[publish]\nregions = [\"mars-north-1\"]\n"));
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(3, &["mars-north-1", "us-east-1"]);
    bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"]).refused(3, &["mars-north-1"]);
    let name = format!("small-{}", super::arch());
    let (taken, _) = standin.seed(disk.path(), json!({"name": name, "region": "us-east-1"}));
    bakery.put("recipe.toml", everything());
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(12, &[&taken, "us-east-1"]);
    assert_eq!(modifying(standin).len(), 0);
    bakery.put("recipe.toml", RECIPE);
    bakery.bakehouse(&["publish", &taken, "--recipe", "recipe.toml"]).refused(3, &["has no [publish]"]);
    bakery.put("recipe.toml", everything());
    bakery.bakehouse(&["publish", &taken, "--recipe", "recipe.toml"]).refused(2, &[&taken, REGION]);
    bakery.assert_nothing_left();
}

#[test]
fn the_local_store_leaves_publish_out_and_says_so() {
    if skipped(not_root()) || !has(&["sfdisk", "mkfs.ext4", "ldd", "timeout"]) {
        return;
    }
    let bakery = Bakery::new();
    bakery.base("base-1", small_disk().path());
    bakery.put("setup.sh", "#!/bin/sh\necho baked > /srv/mark\n");
    bakery.put("recipe.toml", everything());
    let plan = bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"]).good();
    assert!(plan.out.contains("left out: the local store publishes nothing"), "{}", plan.told());
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--output", "json"]);
    let told = ran.told();
    assert!(ran.err.contains("[publish] is left out"), "{told}");
    let baked = ran.json();
    assert_eq!(baked["published"], json!(null), "{told}");
    let image = baked["image"].as_str().unwrap();
    let ran = bakery.bakehouse(&["publish", image, "--recipe", "recipe.toml"]).good();
    assert!(ran.err.contains("[publish] is left out"), "{}", ran.told());
    bakery.assert_nothing_left();
}

#[test]
fn what_ec2_will_not_share_is_told_before_anything_is_made() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    let plan = |disk: &str, publish: &str| {
        let recipe = RECIPE.replace("[disk]\n", &format!("[disk]\n{disk}\n"));
        bakery.put("recipe.toml", format!("{recipe}\n[publish]\n{publish}\n"));
        bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"])
    };
    let accounts = "accounts = [\"210987654321\"]\nregions = [\"us-east-1\"]";
    let warned = |ran: &crate::support::bakery::Ran| {
        ran.err
            .lines()
            .filter(|line| line.starts_with("warning: [publish]"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let ran = plan("encrypted = true", accounts).good();
    let warnings = warned(&ran);
    assert!(warnings.len() == 2 && warnings[0].contains("`kms_key` in [disk]"), "{}", ran.told());
    assert!(warnings[1].contains("us-east-1") && warnings[1].contains("[[publish.copy]]"), "{}", ran.told());
    assert!(ran.out.contains(warnings[0].trim_start_matches("warning: ")), "in the plan too: {}", ran.told());
    let key = "[[publish.copy]]\nregion = \"us-east-1\"\nkms_key = \"alias/images\"";
    let keyed = format!("accounts = [\"210987654321\"]\n{key}");
    assert_eq!(warned(&plan("kms_key = \"alias/images\"", &keyed).good()), Vec::<String>::new());
    assert_eq!(warned(&plan("", accounts).good()), Vec::<String>::new());
    assert_eq!(warned(&plan("encrypted = true", "deprecate_after = \"90d\"").good()), Vec::<String>::new());
    plan("kms_key = \"alias/images\"", "groups = [\"all\"]\npublic = true")
        .refused(3, &["encrypted", "everybody"]);
    assert_eq!(modifying(standin).len(), 0);
    bakery.assert_nothing_left();
}
