//! Bakes of one line that end in another order than they began in: the parameter stays with the later one.

use serde_json::{Value, json};

use super::replaced::FAR;
use crate::bake_ec2::{Builder, RECIPE};
use crate::support::bakery::Ran;
use crate::support::standin::{Options, REGION};

const LATEST: &str = "/images/web/latest";

/// What the parameter says at home, and its tags.
fn latest(builder: &Builder) -> (Value, Value) {
    let state = builder.standin.state();
    (state["parameters"][LATEST].clone(), state["parameters_about"][LATEST]["Tags"].clone())
}

/// An image with these tags.
fn made(builder: &Builder, name: &str, tags: Value) -> String {
    builder.standin.seed(builder.disk.path(), json!({"name": name, "tags": tags})).0
}

fn start() -> Option<Builder> {
    let builder = Builder::start(&Options::default(), json!({}))?;
    let named = RECIPE.replace("small-{arch}", "web-{time}");
    let publish = format!("[publish]\nregions = [\"{FAR}\"]\nparameters = [\"{LATEST}\"]\n");
    builder.bakery.put("recipe.toml", format!("{named}\n{publish}"));
    Some(builder)
}

#[track_caller]
fn is_left(builder: &Builder, ran: &Ran, later: &str) {
    let image = ran.out.trim();
    assert_eq!(ran.status, Some(0), "{}", ran.told());
    let left = format!("{REGION}: the parameter {LATEST} says {later}, which a later bake made: it is left");
    assert!(ran.err.contains(&left), "{}", ran.told());
    let (says, tags) = latest(builder);
    assert_eq!(
        (says, tags["bakehouse:bake"].clone()),
        (json!(later), Value::Null),
        "{image}: {}",
        ran.told()
    );
}

#[test]
fn a_bake_leaves_a_parameter_to_one_that_began_later_and_ended_before_it() {
    let Some(builder) = start() else { return };
    let Builder { standin, bakery, .. } = &builder;
    let later = json!({"bakehouse:bake": "bake-1", "creation_time": "2999-01-01T00:00:00Z"});
    let later = made(&builder, "later", later);
    standin.parameter(LATEST, &later);
    let ran = bakery.bakehouse(&["bake", "recipe.toml"]);
    is_left(&builder, &ran, &later);
    let far = standin.state_of(FAR)["parameters"][LATEST].clone();
    assert!(far.is_string(), "where nobody has written it, it is written: {}", ran.told());
    // What is said by hand is done.
    let image = ran.id();
    bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
    assert_eq!(latest(&builder).0, json!(image));

    // It says so only after what there is was read.
    let read = json!({"action": "GetParameter", "when": "after", "region": REGION});
    let ran = builder.while_held(read, &["bake", "recipe.toml"], || standin.parameter(LATEST, &later));
    is_left(&builder, &ran, &later);
    bakery.assert_nothing_left();
}

#[test]
fn a_parameter_that_says_an_earlier_bakes_image_or_none_of_a_bake_is_overwritten() {
    let Some(builder) = start() else { return };
    let Builder { standin, bakery, .. } = &builder;
    for (name, tags) in [
        ("earlier", json!({"bakehouse:bake": "bake-1", "creation_time": "2001-01-01T00:00:00Z"})),
        ("of nobody's", json!({"creation_time": "2999-01-01T00:00:00Z"})),
        ("of no time", json!({"bakehouse:bake": "bake-1"})),
    ] {
        standin.parameter(LATEST, &made(&builder, name, tags));
        let image = bakery.bakehouse(&["bake", "recipe.toml"]).id();
        assert_eq!(latest(&builder).0, json!(image), "{name}");
    }
    bakery.assert_nothing_left();
}
