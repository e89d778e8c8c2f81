//! The same on the local store.

use serde_json::Value;

use super::verdicts;
use crate::bake::small::{RECIPE, can_bake};
use crate::support::bakery::{Bakery, small_disk};

fn bake(bakery: &Bakery, name: &str, base: &str) -> Value {
    let recipe =
        RECIPE.replace("small-{time}", name).replace("image = \"small\"", &format!("image = \"{base}\""));
    bakery.bake(&recipe, &["--output", "json"]).json()
}

#[test]
fn images_of_the_store_go_but_for_those_that_others_were_baked_on() {
    if !can_bake() {
        return;
    }
    let bakery = Bakery::new();
    bakery.base("small", small_disk().path());
    bakery.put("setup.sh", "#!/bin/sh\necho baked > /srv/mark\n");
    let mid = bake(&bakery, "mid-1", "small");
    bake(&bakery, "mid-2", "small");
    let app = bake(&bakery, "app-1", "mid-1");
    let prune = |more: &[&str]| {
        let told = bakery.bakehouse(&[&["prune", "--keep", "0", "--output", "json"], more].concat()).json();
        verdicts(&told)
    };
    let told = prune(&["--name", "*"]);
    assert_eq!(told.len(), 3, "the base is no bake's: {told:?}");
    assert!(told.values().all(|(verdict, _)| verdict == "retire"), "children go first: {told:?}");
    let told = prune(&["--name", "mid-*", "--yes"]);
    let why = format!("image app-1 ({}) was baked on it", app["image"].as_str().unwrap());
    assert_eq!(told["mid-1"], ("excluded".to_owned(), why));
    assert_eq!(told["mid-2"].0, "retired");

    let shown = bakery.bakehouse(&["images", "show", "app-1", "--output", "json"]).json();
    let chain: Vec<_> =
        shown["provenance"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(chain, ["mid-1", "small"], "{shown:#}");
    assert_eq!(shown["manifest"]["bake"], app["bake"], "{shown:#}");
    let text = bakery.bakehouse(&["images", "show", mid["image"].as_str().unwrap()]).good();
    for words in ["mid-1", "family", "small", "image app-1"] {
        assert!(text.out.contains(words), "{words}: {}", text.told());
    }
    let note =
        bakery.bakehouse(&["prune", "--name", "mid-*", "--keep", "0", "--action", "disable", "--yes"]).good();
    assert!(note.err.contains("does not disable images"), "{}", note.told());

    let told = prune(&["--name", "*", "--yes"]);
    assert_eq!(told.keys().collect::<Vec<_>>(), ["app-1", "mid-1"]);
    assert!(told.values().all(|(verdict, _)| verdict == "retired"), "{told:?}");
    let names: Vec<_> = bakery.store().records().unwrap().into_iter().map(|record| record.name).collect();
    assert_eq!(names, ["small"]);
    bakery.assert_nothing_left();
}
