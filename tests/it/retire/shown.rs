//! `bakehouse images` and `images show` of EC2: what is there is what is told.

use super::*;
use crate::publish::{FRIEND, ORGANIZATION, UNIT};

/// A family of images: `web-2` is shared, protected and deprecated, has a copy elsewhere and one that was baked on it.
struct Family {
    shop: Shop,
    base: String,
    image: String,
    copy: String,
    child: String,
}

impl Family {
    fn new() -> Option<Self> {
        let shop = Shop::open()?;
        let (base, _) = shop.standin.seed(
            &shop.disk,
            json!({"name": "debian-12", "owner": "136693071363", "created": 1_700_000_000}),
        );
        let tags = json!({"bakehouse:base": base, "bakehouse:base-name": "debian-12", "team": "web"});
        let permissions = json!([
            {"UserId": FRIEND}, {"OrganizationArn": ORGANIZATION}, {"OrganizationalUnitArn": UNIT},
        ]);
        let about = json!({
            "tags": tags, "permissions": permissions, "protection": "enabled-with-cooldown",
            "deprecated": 1_700_000_000, "volume_size": 8,
        });
        let (image, _) = shop.image("web-2", 2, about);
        let about = json!({"tags": tags, "region": "us-east-1", "source": [image, "eu-west-1"]});
        let (copy, _) = shop.image("web-2", 1, about);
        let (child, _) = shop.image("app-1", 1, json!({"tags": {"bakehouse:base": image}}));
        shop.image("web-1", 30, json!({}));
        shop.standin.users(json!({
            "instances": [{"InstanceId": "i-0123456789abcdef0", "ImageId": image, "Tags": {"Name": "front"}}],
        }));
        shop.standin.parameter_of("/images/web", json!({"value": image, "data_type": "text"}));
        Some(Self { shop, base, image, copy, child })
    }

    fn bys(&self) -> Vec<String> {
        vec![
            "instance i-0123456789abcdef0 (\"front\", running)".to_owned(),
            "parameter /images/web".to_owned(),
            format!("image app-1 ({}) was baked on it", self.child),
        ]
    }
}

fn bys(uses: &Value) -> Vec<&str> {
    uses.as_array().unwrap().iter().map(|one| one["by"].as_str().unwrap()).collect()
}

#[test]
fn the_list_tells_age_cost_state_and_what_refers_to_each() {
    let Some(family) = Family::new() else { return };
    let (shop, image) = (&family.shop, family.image.as_str());
    let listed = shop.bakery.bakehouse(&["images", "--output", "json"]).json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["app-1", "web-2", "web-1"], "newest first, and none of another's");
    assert!(listed[1].get("uses").is_none(), "not asked: {listed:#}");
    assert_eq!((&listed[1]["id"], &listed[1]["family"]), (&json!(image), &json!("web")));
    assert_eq!((&listed[1]["cost_at_most"], &listed[1]["base"]), (&json!(0.4), &json!(family.base)));

    let used = shop.bakery.bakehouse(&["images", "--use", "--output", "json"]).json();
    assert_eq!(bys(&used[1]["uses"]), family.bys());
    assert_eq!(used[2]["uses"], json!([]), "{used:#}");
    let table = shop.bakery.bakehouse(&["images", "--use", "--name", "web-*"]).good();
    let lines: Vec<_> = table.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", table.told());
    assert!(lines[0].ends_with("BASE                   USE"), "{}", table.told());
    assert!(lines[1].starts_with("web-2 (deprecated)  "), "{}", table.told());
    assert!(lines[1].contains("  2 d  ") && lines[1].contains("  8 GiB  ≤ 0.40  "), "{}", table.told());
    assert!(lines[1].ends_with(&family.bys().join("; ")), "{}", table.told());
    assert!(lines[2].starts_with("web-1 ") && lines[2].ends_with("  nothing"), "{}", table.told());
    let tagged = shop.bakery.bakehouse(&["images", "--tag", "team=w*", "--output", "json"]).json();
    assert_eq!(tagged.as_array().unwrap().len(), 1, "{tagged:#}");
    family.shop.standin.stop();
}

#[test]
fn one_image_is_shown_with_all_that_is_known_of_it() {
    let Some(family) = Family::new() else { return };
    let Family { shop, base, image, copy, .. } = &family;
    let show = |what: &str, more: &[&str]| {
        let json = [&["images", "show", what, "--output", "json"], more].concat();
        let shown = shop.bakery.bakehouse(&json).json();
        let text = shop.bakery.bakehouse(&[&["images", "show", what], more].concat()).good();
        (shown, text)
    };
    let (shown, text) = show(image, &["--copies-in", "us-east-1"]);
    assert_eq!((&shown["name"], &shown["region"]), (&json!("web-2"), &json!("eu-west-1")));
    assert_eq!(shown["protection"], "enabled-with-cooldown");
    assert!(shown["deprecated"].as_str().unwrap().starts_with("2023-11-14T"), "{shown:#}");
    let path = |arn: &str| arn.split_once('/').unwrap().1.to_owned();
    let shares = [FRIEND.to_owned(), path(ORGANIZATION), path(UNIT)];
    assert_eq!(shown["shares"], json!(shares));
    assert_eq!(shown["copies"][0]["id"], copy.as_str(), "{shown:#}");
    assert_eq!(shown["copies"][0]["region"], "us-east-1");
    let copied = format!("image web-2 ({copy}) in us-east-1 was copied from it");
    let everyone: Vec<_> = family.bys().into_iter().chain([copied]).collect();
    assert_eq!(bys(&shown["uses"]), everyone);
    let provenance = shown["provenance"].as_array().unwrap();
    assert_eq!(provenance.len(), 1, "{shown:#}");
    assert_eq!((&provenance[0]["how"], &provenance[0]["id"]), (&json!("baked on"), &json!(base)));
    assert_eq!((&provenance[0]["name"], &provenance[0]["visible"]), (&json!("debian-12"), &json!(true)));
    let mut wanted = vec![
        "enabled-with-cooldown".to_owned(),
        "2023-11-14T".to_owned(),
        format!("debian-12 ({base}, "),
        format!("{copy} in us-east-1 (available)"),
        "team = web".to_owned(),
        "≤ 0.40 USD a month".to_owned(),
    ];
    wanted.extend(shares);
    wanted.extend(everyone);
    for words in wanted {
        assert!(text.out.contains(&words), "{words}: {}", text.told());
    }

    // A copy comes from its original, and through it from the base.
    let (far, text) = show(copy, &["--region", "us-east-1"]);
    let chain: Vec<_> = far["provenance"].as_array().unwrap().iter().collect();
    assert_eq!(chain.len(), 2, "{far:#}");
    assert_eq!(
        (&chain[0]["how"], &chain[0]["id"], &chain[0]["region"], &chain[0]["name"]),
        (&json!("copied from"), &json!(image), &json!("eu-west-1"), &json!("web-2"))
    );
    assert_eq!(
        (&chain[1]["how"], &chain[1]["id"], &chain[1]["region"]),
        (&json!("baked on"), &json!(base), &json!("eu-west-1"))
    );
    assert_eq!((&far["shares"], &far["protection"], &far["uses"]), (&json!([]), &json!(null), &json!([])));
    assert!(text.out.contains(&format!("web-2 ({image} in eu-west-1, ")), "{}", text.told());

    // Its original gone, it still tells the base by its own tags.
    shop.standin.forget_image(image);
    let (far, text) = show(copy, &["--region", "us-east-1"]);
    let chain: Vec<_> = far["provenance"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["visible"].as_bool().unwrap()))
        .collect();
    assert_eq!(chain[0], (image.as_str(), false), "{far:#}");
    assert_eq!(chain[1].0, base.as_str(), "{far:#}");
    assert!(text.out.contains("not to be seen from here"), "{}", text.told());
    shop.bakery.bakehouse(&["images", "show", image]).refused(5, &[image, "bakehouse images"]);
    family.shop.standin.stop();
}
