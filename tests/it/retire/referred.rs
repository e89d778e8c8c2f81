//! What refers to an image in ways that are easy to miss, and images that are not what they seem yet.

use std::time::Duration;

use super::*;

#[test]
fn a_parameter_of_any_type_that_can_be_read_keeps_the_image_that_its_value_names() {
    let Some(shop) = Shop::open() else { return };
    let ids: BTreeMap<_, _> = ["text", "json", "list", "far", "secret", "free"]
        .map(|name| (name, shop.image(&format!("{name}-1"), 20, json!({})).0))
        .into();
    let set = |name: &str, kind: &str, value: String| {
        let about = json!({"value": value, "type": kind, "data_type": "text"});
        shop.standin.parameter_of(&format!("/images/{name}"), about);
    };
    set("text", "String", format!(" {}\n", ids["text"]));
    set("json", "String", json!({"schema_version": 1, "image_id": ids["json"]}).to_string());
    set("list", "StringList", format!("ami-0123456789abcdef0,{}", ids["list"]));
    set("secret", "SecureString", ids["secret"].clone());
    // What only begins as an image's id is none.
    set("longer", "String", format!("{}0", ids["free"]));
    // More than one page of names and many calls for the values.
    for number in 0..70 {
        set(&format!("word/{number}"), "String", "a word".to_owned());
    }
    set("zz", "String", ids["far"].clone());
    shop.standin.fault(json!({"action": "GetParameters", "kind": "throttle", "on": 3, "times": 1}));

    let told = shop.prune(&["--name", "*-1", "--keep", "0", "--yes"]);
    for (name, parameter) in [("text", "text"), ("json", "json"), ("list", "list"), ("far", "zz")] {
        let by = format!("parameter /images/{parameter}");
        assert_eq!(told[&format!("{name}-1")], ("excluded".to_owned(), by), "{told:#?}");
    }
    assert_eq!(told["free-1"].0, "retired", "{told:#?}");
    assert_eq!(told["secret-1"].0, "retired", "nobody launches what a secret says: {told:#?}");
    assert_eq!(shop.images(), ["far-1", "json-1", "list-1", "text-1"]);
    // 75 in eight calls: the one that was throttled is made again, and none of the others.
    let calls = shop.standin.requests_of("GetParameters", 0, Duration::ZERO);
    assert_eq!(calls.len(), 9, "{calls:#?}");
    assert!(calls.iter().all(|call| call["params"]["WithDecryption"] != true), "{calls:#?}");
    shop.standin.stop();
}

#[test]
fn an_auto_scaling_groups_own_override_keeps_an_image() {
    let Some(shop) = Shop::open() else { return };
    let (named, _) = shop.image("named-1", 20, json!({}));
    let (template, _) = shop.image("template-1", 20, json!({}));
    let (other, _) = shop.image("other-1", 20, json!({}));
    shop.image("free-1", 20, json!({}));
    let lt = |number: u32| format!("lt-0123456789abcdef{number}");
    let specification =
        |number: u32, version: &str| json!({"LaunchTemplateId": lt(number), "Version": version});
    shop.standin.users(json!({
        "templates": [
            {"LaunchTemplateId": lt(0), "LaunchTemplateName": "web", "Versions": [template]},
            {"LaunchTemplateId": lt(1), "LaunchTemplateName": "arm", "Versions": [other]},
        ],
        "groups": [{"AutoScalingGroupName": "mixed", "MixedInstancesPolicy": {"LaunchTemplate": {
            "LaunchTemplateSpecification": specification(0, "1"),
            "Overrides": [
                {"InstanceType": "m7i.large"},
                {"InstanceType": "m7a.large", "ImageId": named},
                {"InstanceType": "m7g.large", "LaunchTemplateSpecification": specification(1, "1")},
            ],
        }}}],
    }));
    let told = shop.prune(&["--name", "*-1", "--keep", "0", "--yes"]);
    assert_eq!(told["named-1"], ("excluded".to_owned(), "Auto Scaling group mixed".to_owned()));
    let by = |name: &str, number: u32| {
        format!("launch template {name} ({}) version 1 of Auto Scaling group mixed", lt(number))
    };
    assert_eq!(told["template-1"].1, by("web", 0));
    assert_eq!(told["other-1"].1, by("arm", 1), "an override's own template");
    assert_eq!(told["free-1"].0, "retired", "{told:#?}");
    assert_eq!(shop.images(), ["named-1", "other-1", "template-1"]);
    shop.standin.stop();
}

#[test]
fn a_group_launches_the_version_that_latest_and_default_mean() {
    let Some(shop) = Shop::open() else { return };
    let (first, _) = shop.image("first-1", 20, json!({}));
    let (second, _) = shop.image("second-1", 20, json!({}));
    let (third, _) = shop.image("third-1", 20, json!({}));
    let lt = "lt-0123456789abcdef0";
    let group = |name: &str, version: Option<&str>| {
        let mut template = json!({"LaunchTemplateName": "web"});
        if let Some(version) = version {
            template["Version"] = json!(version);
        }
        json!({"AutoScalingGroupName": name, "LaunchTemplate": template})
    };
    shop.standin.users(json!({
        "templates": [
            {"LaunchTemplateId": lt, "LaunchTemplateName": "web", "Versions": [first, second, third]},
        ],
        "groups": [
            group("newest", Some("$Latest")),
            group("standing", Some("$Default")),
            group("silent", None),
        ],
    }));
    let told = shop.prune(&["--name", "*-1", "--keep", "0", "--yes"]);
    let why = |name: &str| told[name].1.clone();
    let version = |number: u32| format!("launch template web ({lt}) version {number}");
    assert_eq!(why("third-1"), format!("{} of Auto Scaling group newest", version(3)));
    assert_eq!(why("first-1"), format!("{} of Auto Scaling group silent, standing", version(1)));
    assert_eq!(why("second-1"), version(2), "a version that nobody launches now stays as well");
    assert_eq!(shop.images().len(), 3);
    shop.standin.stop();
}

#[test]
fn what_a_copy_of_no_bake_was_copied_from_stays() {
    let Some(shop) = Shop::open() else { return };
    let copy_of = |image: &str, name: &str, region: &str| {
        let about = json!({
            "name": name, "owner": ACCOUNT, "public": false, "region": region, "source": [image, "eu-west-1"],
        });
        shop.standin.seed(&shop.disk, about).0
    };
    let (near, _) = shop.image("near-1", 20, json!({}));
    let (far, _) = shop.image("far-1", 20, json!({}));
    shop.image("free-1", 20, json!({}));
    let by_hand = copy_of(&near, "by-hand", "eu-west-1");
    let elsewhere = copy_of(&far, "elsewhere", "us-east-1");
    let told = shop.prune(&["--name", "*-1", "--keep", "0", "--copies-in", "us-east-1", "--yes"]);
    let why = |name: &str| (told[name].0.as_str(), told[name].1.clone());
    assert_eq!(why("near-1"), ("excluded", format!("image by-hand ({by_hand}) was copied from it")));
    let there = format!("image elsewhere ({elsewhere}) in us-east-1 was copied from it");
    assert_eq!(why("far-1"), ("excluded", there));
    assert_eq!(why("free-1").0, "retired", "{told:#?}");
    assert_eq!(shop.images(), ["by-hand", "far-1", "near-1"]);
    shop.standin.stop();
}

#[test]
fn an_image_under_its_bakes_id_is_neither_the_newest_nor_taken() {
    let Some(shop) = Shop::open() else { return };
    let bake = "bake-20260101T000000Z-0123456789ab";
    shop.image(bake, 0, json!({"tags": {"bakehouse:bake": bake, "bakehouse:family": "web"}}));
    shop.image("web-2", 2, json!({}));
    shop.image("web-1", 3, json!({}));
    let told = shop.prune(&["--tag", "bakehouse:family=web", "--keep", "1", "--yes"]);
    assert_eq!(told["web-2"], ("keep".to_owned(), "the newest of web x86_64".to_owned()), "{told:#?}");
    assert_eq!(told["web-1"].0, "retired", "{told:#?}");
    let (verdict, why) = &told[bake];
    assert!(verdict == "excluded" && why.starts_with("its bake has not given it its name yet"), "{told:#?}");
    assert_eq!(shop.images(), [bake, "web-2"]);
    shop.standin.stop();
}
