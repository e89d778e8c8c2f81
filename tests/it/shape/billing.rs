//! An image that would be billed otherwise than its base is none.

use serde_json::json;

use crate::bake_ec2::Builder;
use crate::support::standin::Options;

#[test]
fn an_image_billed_otherwise_than_its_base_is_undone_and_so_is_its_snapshot() {
    // The base says so; the snapshot, which a bill comes from, has lost it.
    let about = json!({
        "platform_details": "Red Hat Enterprise Linux", "usage_operation": "RunInstances:0010",
        "snapshot_platform": ["Linux/UNIX", "RunInstances"],
    });
    let Some(builder) = Builder::start(&Options::default(), about) else { return };
    let Builder { standin, bakery, snapshot, .. } = &builder;
    let dry = bakery.bakehouse(&["bake", "recipe.toml", "--dry-run"]).good();
    assert!(
        dry.out.contains(
            "billing      Red Hat Enterprise Linux (RunInstances:0010), compared once it is registered"
        ),
        "{}",
        dry.told()
    );
    let says = ["Linux/UNIX, not Red Hat Enterprise Linux", "deregistered", "aws ec2 create-image"];
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(11, &says);
    assert_eq!(builder.left(), (0, 0, 0), "image and snapshot are gone");
    assert_eq!((standin.counts()["DeregisterImage"], standin.counts()["DeleteSnapshot"]), (1, 1));

    // Nor is an image of its name touched that it was to replace.
    let (old, _) = standin.seed(builder.disk.path(), json!({"name": "taken"}));
    bakery.bakehouse(&["bake", "recipe.toml", "--name", "taken", "--force"]).refused(11, &says);
    assert!(standin.find("images", "ImageId", &old).is_some());

    // A bare snapshot says nothing that could be compared.
    bakery.bakehouse(&["bake", "--base", snapshot, "--name", "bare"]).good();
    bakery.assert_nothing_left();
}
