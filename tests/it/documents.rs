//! `--output json`: whatever happens, standard output is one JSON document, and a failure stands in it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::retire::Shop;
use crate::support::bakery::{Bakery, Ran};

/// What was printed, which is one document.
#[track_caller]
fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.told()))
}

#[test]
fn what_gc_and_prune_could_not_do_stands_in_their_one_document() {
    let Some(shop) = Shop::open() else { return };
    let (image, snapshot) = shop.image("web-1", 20, json!({}));
    shop.standin.forget_image(&image);
    let (stuck, _) = shop.image("web-2", 30, json!({}));
    shop.standin.fault(json!([
        {"action": "DeleteSnapshot", "kind": "denied", "times": 0},
        {"action": "DeregisterImage", "kind": "denied", "times": 0},
    ]));
    let more = ["--yes", "--output", "json", "--log-format", "json"];
    let last = |ran: &Ran| -> Value { serde_json::from_str(ran.err.lines().last().unwrap()).unwrap() };

    let ran = shop.bakery.bakehouse(&[&["gc", "--all"], &more[..]].concat());
    assert_eq!(ran.status, Some(14), "{}", ran.told());
    let told = document(&ran);
    let found = told.as_array().unwrap().iter().find(|one| one["id"] == snapshot.as_str()).unwrap();
    assert!(found["verdict"]["failed"].as_str().unwrap().contains("DeleteSnapshot"), "{told:#}");
    assert_eq!((&last(&ran)["kind"], &last(&ran)["error"]["status"]), (&json!("error"), &json!(14)));

    let ran = shop.bakery.bakehouse(&[&["prune", "--name", "web-*", "--keep", "0"], &more[..]].concat());
    assert_eq!(ran.status, Some(6), "{}", ran.told());
    let told = document(&ran);
    assert_eq!(told["images"][0]["id"], stuck.as_str(), "{told:#}");
    assert_eq!(told["error"]["status"], 6, "{told:#}");
    assert!(told["error"]["hint"].as_str().unwrap().contains("run it again"), "{told:#}");
    assert_eq!((&last(&ran)["kind"], &last(&ran)["error"]["status"]), (&json!("error"), &json!(6)));
    assert!(shop.standin.requests_of("DeregisterImage", 1, Duration::ZERO).len() == 1);
    shop.standin.stop();
}

#[test]
fn validate_says_in_its_document_where_a_recipe_is_wrong() {
    let bakery = Bakery::new();
    let good =
        "[image]\nname = \"web\"\n[base]\nimage = \"x\"\n[[step]]\nuse = \"script\"\nrun = [\"true\"]\n";
    bakery.put("recipe.toml", good);
    let validate = ["validate", "recipe.toml", "--output", "json"];
    assert_eq!(
        bakery.bakehouse(&validate).json(),
        json!({"recipe": "recipe.toml", "good": true, "steps": 1, "checks": 0})
    );
    bakery.put("recipe.toml", good.replace("name =", "nmae =").replace("\"true\"", "\"ü\", 3"));
    for verb in ["validate", "bake"] {
        let ran = bakery.bakehouse(&[&[verb], &validate[1..]].concat());
        assert_eq!(ran.status, Some(3), "{}", ran.told());
        let error = &document(&ran)["error"];
        assert_eq!(error["status"], 3, "{error:#}");
        let places: Vec<_> = error["complaints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["file"].clone(), one["line"].clone(), one["column"].clone()))
            .collect();
        let at = |line: u32, column: u32| (json!("recipe.toml"), json!(line), json!(column));
        assert!(places.contains(&at(2, 1)) && places.contains(&at(7, 13)), "{error:#}");
        let first = error["complaints"].as_array().unwrap().iter().find(|one| one["line"] == 2).unwrap();
        assert_eq!(first["message"], "unknown key `nmae` in [image]");
        assert!(first["help"].as_str().unwrap().contains("name"), "{first:#}");
    }
}

#[test]
fn publish_has_a_document_where_nothing_is_published_too() {
    let bakery = Bakery::new();
    bakery.put(
        "recipe.toml",
        "[image]\nname = \"web\"\n[base]\nimage = \"x\"\n[[step]]\nuse = \"script\"\nrun = [\"true\"]\n[publish]\naccounts = [\"210987654321\"]\n",
    );
    let told = bakery.bakehouse(&["publish", "web", "--recipe", "recipe.toml", "--output", "json"]).json();
    assert_eq!(told, json!({"image": "web", "published": null}));
}

#[test]
fn the_settings_file_says_how_progress_is_written() {
    let bakery = Bakery::new();
    bakery.put("config/bakehouse/config.toml", "log-format = \"json\"\n");
    let gc = |more: &[&str]| bakery.bakehouse(&[&["gc"], more].concat()).good();
    let first = |ran: &Ran| ran.err.lines().next().unwrap().to_owned();
    let ran = gc(&[]);
    let line: Value =
        serde_json::from_str(&first(&ran)).unwrap_or_else(|error| panic!("{error}: {}", ran.told()));
    assert_eq!((&line["kind"], &line["phase"]), (&json!("phase"), &json!("cloud")));
    assert!(first(&gc(&["--log-format", "text"])).contains(" s  cloud"), "a flag is nearer");
    let failed = bakery.bakehouse(&["enter", "gone"]);
    let line: Value = serde_json::from_str(failed.err.lines().last().unwrap()).unwrap();
    assert_eq!(line["kind"], "error", "{}", failed.told());
    bakery.put("config/bakehouse/config.toml", "log-format = \"xml\"\n");
    bakery.bakehouse(&["gc"]).refused(3, &["log-format", "xml"]);
}
