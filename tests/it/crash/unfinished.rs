//! A bake that dies before it knows its image to be good: a sweep compares and waits as the bake would have.

use std::fs;

use serde_json::json;

use super::kill::kill_at;
use super::site::{NEEDED, On, Site, Stands};
use crate::support::host::has;

#[test]
fn a_sweep_undoes_an_image_that_would_be_billed_otherwise_than_its_base() {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(On::Ec2);
    // The base says so; its snapshot, which a bill comes from, has lost it.
    let about = json!({
        "name": "billed", "platform_details": "Red Hat Enterprise Linux", "usage_operation": "RunInstances:0010",
        "snapshot_platform": ["Linux/UNIX", "RunInstances"],
    });
    let (base, _) = site.ec2().seed(&site.path("tiny.raw"), about);
    let recipe = fs::read_to_string(site.path("recipe.toml")).unwrap();
    let of_base = |line: &str| match line.starts_with("ami = ") {
        true => format!("ami = {base:?}\n"),
        false => format!("{line}\n"),
    };
    fs::write(site.path("recipe.toml"), recipe.lines().map(of_base).collect::<String>()).unwrap();
    kill_at(&site, "RegisterImage", "after", "billed-otherwise");
    let found = site.gc(&["--yes"]).unwrap();
    assert_eq!(site.stands("billed-otherwise"), Ok(Stands::Nothing), "{found:#?}");
    assert!(!found.iter().any(|one| one["verdict"] == "keep"), "{found:#?}");
}

#[test]
fn a_sweep_waits_for_an_image_and_undoes_one_that_fails() {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(On::Ec2);
    for (name, fails, stands) in [("fails", true, Stands::Nothing), ("goes-well", false, Stands::Image)] {
        // Long enough for it to be pending still when it is swept.
        site.ec2().latencies(json!({"image": 3.0}));
        if fails {
            site.ec2().fault(json!({"action": "RegisterImage", "kind": "error-state"}));
        }
        kill_at(&site, "RegisterImage", "after", name);
        let found = site.gc(&["--yes"]).unwrap();
        assert_eq!(site.stands(name), Ok(stands), "{found:#?}");
        let state = site.ec2().state();
        let images = state["images"].as_array().unwrap();
        assert!(images.iter().all(|image| image["State"] == "available"), "{name}: {images:#?}");
    }
}
