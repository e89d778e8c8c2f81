//! Variables and environments: from flags, files and the builder's environment into the image and its tags.

use std::fs;

use super::small::can_bake;
use crate::support::bakery::{Bakery, small_disk};

const RECIPE: &str = r#"
[vars]
stage = { values = ["dev", "prod"], default = "dev" }
owner = { required = true, doc = "Whose image it is" }
note = "{not a template} }}"
quiet = false
mark = "/srv/{var:stage}"

[image]
name = "vars-{var:stage}-{time}"
description = "{var:note}"
tags = { owner = "{var:owner}", stage = "{var:stage}" }

[base]
image = "{var:owner}-base"

[[step]]
use = "script"
script = "setup.sh"
args = ["{var:mark}", "{var:owner}", "{{var:owner}}"]
suppress_sync = "{var:quiet}"
env = { STAGE = "{var:stage}" }

[env.prod.vars]
stage = "prod"
quiet = true

[env.prod.image.tags]
backup = "yes"

[env.broken.disk]
siez = "8GiB"
"#;

#[test]
fn variables_reach_the_image_and_its_tags() {
    if !can_bake() {
        return;
    }
    let mut bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("web-base", disk.path());
    bakery.put("setup.sh", "#!/bin/sh\nset -e\necho \"$STAGE $2 $3\" > \"$1\"\n");
    bakery.put("team.toml", "owner = \"web\"\nnote = \"from {time} a file\"\n");
    bakery.set("BAKEHOUSE_VAR_owner", Some("ambient")).set("BAKEHOUSE_VAR_elsewhere", Some("x"));

    let image = bakery.bake(RECIPE, &["--env", "prod", "--var-file", "team.toml"]).id();
    let record = bakery.store().image(&image).unwrap();
    assert!(record.name.starts_with("vars-prod-2"), "{}", record.name);
    assert!(record.description.starts_with("from {time} a file (name="), "{}", record.description);
    for (key, value) in [("owner", "web"), ("stage", "prod"), ("backup", "yes")] {
        assert_eq!(record.tags[key], value);
    }
    bakery.look(&image, 1, "ext4", |root| {
        assert_eq!(fs::read_to_string(root.join("srv/prod")).unwrap(), "prod web {var:owner}\n");
    });

    // The nearest wins, and the plan says who gave what.
    bakery.set("BAKEHOUSE_ENV", Some("prod"));
    let flags = ["--var", "owner=web", "--var", "stage=dev", "--name", "named {var:stage}", "--dry-run"];
    let told = bakery.bake(RECIPE, &flags).good().told();
    for line in ["named dev", "environment  prod", "stage = dev (--var)", "quiet = true ([env.prod])"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    // Two sets of variables are two recipes.
    let digest = |more: &[&str]| {
        let flags = [&["--var", "owner=web", "--dry-run", "--output", "json"], more].concat();
        bakery.bake(RECIPE, &flags).json()["recipe_digest"].clone()
    };
    assert_eq!(digest(&[]), digest(&[]));
    assert_ne!(digest(&[]), digest(&["--var", "stage=dev"]));
    bakery.assert_nothing_left();
}

#[test]
fn wrong_variables_and_environments_are_refused_before_anything_is_asked() {
    let mut bakery = Bakery::new();
    bakery.put("setup.sh", "");
    bakery.put("wrong.toml", "ownre = \"x\"\nquiet = \"yes\"\n");
    bakery.put("recipe.toml", RECIPE.replace("siez", "size"));
    for verb in ["validate", "bake"] {
        let refused = |more: &[&str], status: i32, words: &[&str]| {
            bakery.bakehouse(&[&[verb, "recipe.toml"], more].concat()).refused(status, words);
        };
        refused(&["--env", "prod"], 3, &["`owner` has no value", "Whose image it is", "--var owner="]);
        refused(&["--var", "owner=x", "--var", "stag=dev"], 2, &["--var stag=dev", "did you mean `stage`"]);
        refused(&["--var", "owner=x", "--var", "stage=tset"], 2, &["can't be `tset`", "`dev` and `prod`"]);
        refused(&["--var", "owner=x", "--env", "pord"], 2, &["did you mean `prod`"]);
        refused(&["--var", "owner"], 2, &["--var NAME=VALUE"]);
        refused(&["--var-file", "none.toml"], 3, &["none.toml"]);
        refused(
            &["--var-file", "wrong.toml"],
            3,
            &["wrong.toml:1", "ownre", "`owner`", "quiet", "true or false"],
        );
    }
    // What no flag chose is checked all the same.
    bakery.put("recipe.toml", RECIPE);
    let told =
        bakery.bakehouse(&["validate", "recipe.toml", "--var", "owner=x"]).refused(3, &["siez", "size"]);
    assert!(told.err.contains("(in the environment `broken`)"), "{}", told.told());
    bakery.put("recipe.toml", RECIPE.replace("siez", "size"));
    bakery.bakehouse(&["validate", "recipe.toml", "--var", "owner=x"]).good();
    bakery.bakehouse(&["bake", "--base", "x", "nginx", "--var", "a=b"]).refused(2, &["[vars]"]);
    bakery.set("BAKEHOUSE_VAR_quiet", Some("yes"));
    bakery
        .bakehouse(&["validate", "recipe.toml", "--var", "owner=x"])
        .refused(2, &["BAKEHOUSE_VAR_quiet", "true or false"]);
}

const WHEN: &str = r#"
[vars]
stage = "dev"
[image]
name = "when-{time}"
[base]
image = "small"
[[step]]
use = "script"
name = "for its release"
script = "mark.sh"
args = ["release"]
when = { distribution = ["fedora", "debian"], release = ">=1.5, <13" }
[[step]]
use = "script"
name = "for another release"
script = "mark.sh"
args = ["other-release"]
when = { release = ["3.*", "1"] }
[[step]]
use = "script"
name = "for another distribution"
script = "mark.sh"
args = ["other-distribution"]
when = { distribution = "!debian" }
[[step]]
use = "script"
name = "for prod"
script = "mark.sh"
args = ["prod"]
when = { var = { stage = "prod" } }
[[step]]
use = "script"
name = "for another architecture"
script = "mark.sh"
args = ["arch"]
when = { arch = "!ARCH" }
[[check]]
name = "checks prod"
run = ["/no/such/program"]
when = { var = { stage = "prod" } }
"#;

/// What the plan knows is left out there, the rest by the image's own os-release; both are told.
#[test]
fn steps_are_done_where_they_are_for() {
    if !can_bake() {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery.put("mark.sh", "#!/bin/sh\nset -e\necho done > \"/srv/$1\"\n");
    let recipe = WHEN.replace("ARCH", std::env::consts::ARCH);
    let ran = bakery.bake(&recipe, &[]);
    for told in [
        "left out: the image's release is 12, and the step is for 3.* or 1",
        "left out: the image is debian, and the step is for !debian",
        "left out: stage is \"dev\", and the step is for prod",
    ] {
        assert!(ran.err.contains(told), "{told}: {}", ran.told());
    }
    bakery.look(&ran.id(), 1, "ext4", |root| {
        let mut marks: Vec<_> =
            fs::read_dir(root.join("srv")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        marks.sort();
        assert_eq!(marks, ["release"]);
    });
    let told = bakery.bake(&recipe, &["--dry-run"]).good().out;
    for line in [
        "when distribution fedora, debian and release >=1.5, <13",
        "when stage = prod; left out: stage is \"dev\", and the step is for prod",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let prod = bakery.bake(&recipe, &["--var", "stage=prod"]);
    prod.refused(10, &["checks prod"]);
    bakery.assert_nothing_left();
}
