use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fill::{Piece, pieces};
use super::*;
use crate::recipe::complaint::render;
use crate::recipe::{BaseSelector, Look, Recipe, read};

const BASE: &str = "[base]\nimage = \"x\"\n";

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

/// The recipe, or all that is wrong.
fn with(text: &str, inputs: &Inputs) -> Result<Recipe, String> {
    let source = source("web.toml", text);
    let mut complaints = Complaints::new(&source);
    let (readable, outside) = read(&mut complaints, inputs);
    let mut wrong: String =
        outside.iter().map(|one| render(&one.complaints, &one.source, Look::plain())).collect();
    match complaints.finish(readable.recipe) {
        Ok(recipe) if wrong.is_empty() => Ok(recipe),
        Ok(_) => Err(wrong),
        Err(complaints) => {
            wrong.push_str(&render(&complaints, &source, Look::plain()));
            Err(wrong)
        }
    }
}

fn flags(pairs: &[(&str, &str)]) -> Inputs {
    let flags = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Inputs { flags: flags.collect(), ..Inputs::default() }
}

fn name_of(text: &str, inputs: &Inputs) -> String {
    with(text, inputs).unwrap().image.name.value
}

#[test]
fn the_nearest_value_wins() {
    let text = format!(
        "vars = {{ stage = 'own', other = 1 }}\n[image]\nname = 'web-{{var:stage}}-{{arch}}'\n{BASE}[env.prod]\nvars.stage = 'overlaid'\n"
    );
    let mut inputs = Inputs::default();
    assert_eq!(name_of(&text, &inputs), "web-own-{arch}");
    inputs.environment = Some("prod".to_owned());
    assert_eq!(name_of(&text, &inputs), "web-overlaid-{arch}");
    inputs.ambient = BTreeMap::from([("stage".into(), "ambient".into()), ("elsewhere".into(), "x".into())]);
    assert_eq!(name_of(&text, &inputs), "web-ambient-{arch}");
    inputs.files = vec![source("a", "stage = 'first'"), source("b", "stage = 'second'\nother = 2")];
    let recipe = with(&text, &inputs).unwrap();
    assert_eq!(recipe.image.name.value, "web-second-{arch}");
    assert_eq!(recipe.variables.get("other"), Some(&VarValue::Integer(2)));
    assert_eq!(recipe.variables.0["stage"].from, "b");
    assert_eq!(recipe.environment.as_deref(), Some("prod"));
    inputs.flags = vec![("stage".into(), "flag".into())];
    assert_eq!(name_of(&text, &inputs), "web-flag-{arch}");
}

#[test]
fn values_are_filled_in_everywhere_with_their_types() {
    let text = r#"
[vars]
stage = "prod"
iops = 4000
quiet = true
folder = "/srv/{var:stage}"
literal = "{{var:stage}} {"
[image]
name = "web"
description = "for {var:stage}, {{var:stage}}"
tags = { iops = "{var:iops}", quiet = "{var:quiet}" }
[base]
image = "{var:stage}-base"
[disk]
type = "gp3"
iops = "{var:iops}"
[[step]]
use = "script"
cwd = "{var:folder}"
suppress_sync = "{var:quiet}"
run = ["echo", "{var:iops}", "{{var:x}}", "{{ jinja }}", "${x}", "{var:stage}{var:iops}"]
env = { STAGE = "{var:literal}" }
"#;
    let recipe = with(text, &Inputs::default()).unwrap();
    assert_eq!(recipe.base.value, BaseSelector::Image("prod-base".into()));
    assert_eq!(recipe.image.description.unwrap().value, "for prod, {{var:stage}}");
    assert_eq!(recipe.image.tags["iops"].value, "4000");
    assert_eq!(recipe.image.tags["quiet"].value, "true");
    assert_eq!(recipe.disk.iops, Some(4000));
    let step = &recipe.steps[0];
    assert_eq!(step.cwd.as_deref(), Some(std::path::Path::new("/srv/prod")));
    assert_eq!((step.suppress_sync, step.env["STAGE"].as_str()), (Some(true), "{var:stage} {"));
    let RawValue::Array(run) = &step.params["run"].value else { panic!("{step:?}") };
    let run: Vec<_> = run.iter().map(|item| item.value.clone()).collect();
    let text = |text: &str| RawValue::String(text.to_owned());
    assert_eq!(
        run,
        [
            text("echo"),
            RawValue::Integer(4000),
            text("{var:x}"),
            text("{{ jinja }}"),
            text("${x}"),
            text("prod4000")
        ]
    );
}

#[test]
fn a_values_braces_are_no_placeholders() {
    let text =
        format!("vars.a = ''\n[image]\nname = 'web'\ndescription = 'x {{var:a}}{{{{{{var:a}}}}}}'\n{BASE}");
    let recipe = with(&text, &flags(&[("a", "{version} }{")])).unwrap();
    let description = recipe.image.description.unwrap().value;
    assert_eq!(description, "x {{version}} }}{{{{{{version}} }}{{}}");
    let filled = template::Template::parse(&description).unwrap().fill(&BTreeMap::new()).unwrap();
    assert_eq!(filled, "x {version} }{{{version} }{}");
}

/// Whoever adds a template to the recipe names it in `fill`.
#[test]
fn every_template_takes_a_value_with_braces() {
    let text = r#"
[vars]
a = "{x}"
[image]
name = "{var:a}"
description = "{var:a}"
snapshot_description = "{var:a}"
tags = { a = "{var:a}" }
[tags]
volume = { b = "{var:a}" }
snapshot = { b = "{var:a}" }
image = { b = "{var:a}" }
[base]
image = "x"
[publish]
parameters = ["/web/{var:a}"]
"#;
    let told = with(text, &Inputs::default()).unwrap_err();
    // Names of images and parameters can't hold a brace; that they were taken for placeholders is not told.
    assert!(!told.contains("unknown placeholder"), "{told}");
    assert_eq!(told.matches("can't be in").count(), 2, "{told}");
}

#[test]
fn what_is_wrong_is_underlined_where_it_stands() {
    let text = r#"
[vars]
stage = { values = ["dev", "prod"], doc = "Where it runs" }
count = 1
"bad-name" = "x"
loop_a = "{var:loop_b}"
loop_b = "{var:loop_a}"
list = ["x"]
both = { required = true, default = "x" }
odd = { type = "float", defalt = "x" }
[env.prod.vars]
stag = "prod"
count = "many"
[image]
name = "web-{var:staeg}"
tags = { a = "{var:stage}", b = "é {var:nothing_like_it}" }
[base]
image = "x"
[disk]
size = "{var:stage}"
iops = "{var:count}"
"#;
    let inputs = Inputs {
        environment: Some("prod".into()),
        files: vec![source("prod.toml", "count = 'x'\nnone = 1\nstage = \"tset\"")],
        ..flags(&[("stage", "tset"), ("cuont", "1"), ("count", "")])
    };
    insta::assert_snapshot!(with(text, &inputs).unwrap_err());
}

#[test]
fn a_variable_without_a_value_is_told_once_and_nothing_of_what_needs_it() {
    let text = format!(
        "[vars]\nsize = {{ required = true, doc = 'Of the disk' }}\n[image]\nname = 'w{{var:size}}'\n{BASE}[disk]\nsize = '{{var:size}}'\n"
    );
    insta::assert_snapshot!(with(&text, &Inputs::default()).unwrap_err());
    assert_eq!(with(&text, &flags(&[("size", "2GiB")])).unwrap().disk.size, Some(2 << 30));
    let lenient = Inputs { lenient: true, ..Inputs::default() };
    assert!(with(&text, &lenient).is_ok());
}

#[test]
fn an_environment_lies_over_every_section() {
    let text = r#"
[image]
name = "web"
tags = { team = "web", stage = "dev" }
[base]
name = "debian-12-*"
owner = "amazon"
[disk]
size = "8GiB"
[[step]]
use = "package"
install = ["nginx"]
[[step]]
use = "script"
run = ["true"]
[env.prod]
disk.type = "gp3"
[env.prod.image.tags]
stage = "prod"
[env.prod.base]
ami = "ami-0abc1234"
[[env.prod.step]]
use = "package"
install = ["apache2"]
[env.bare]
base.owner = "self"
"#;
    let recipe = |environment: &str| {
        with(text, &Inputs { environment: Some(environment.into()), ..Inputs::default() }).unwrap()
    };
    let prod = recipe("prod");
    assert_eq!(prod.base.value, BaseSelector::Ami("ami-0abc1234".into()));
    assert_eq!(
        (prod.image.tags["team"].value.as_str(), prod.image.tags["stage"].value.as_str()),
        ("web", "prod")
    );
    assert_eq!((prod.disk.size, prod.disk.volume_type.as_deref()), (Some(8 << 30), Some("gp3")));
    assert_eq!(prod.steps.len(), 1);
    let BaseSelector::Query(query) = recipe("bare").base.value else { panic!() };
    assert_eq!(query.owners, ["self"]);
    let plain = with(text, &Inputs::default()).unwrap();
    assert_eq!((plain.steps.len(), plain.environment), (2, None));
    assert_eq!(environments(&source("web.toml", text)), ["prod", "bare"]);
}

#[test]
fn an_unknown_environment_is_told_with_the_known_ones() {
    let text = format!("[image]\nname = 'web'\n{BASE}[env.prod]\n[env.stage]\n");
    let told = |name: &str| {
        with(&text, &Inputs { environment: Some(name.into()), ..Inputs::default() }).unwrap_err()
    };
    assert!(told("prdo").contains("did you mean `prod`?"), "{}", told("prdo"));
    assert!(told("x").contains("known are `prod` and `stage`"), "{}", told("x"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_without_variables_stays_as_it_is(text in "[a-z{}:é]{0,30}", in_template: bool) {
        prop_assume!(!text.contains("{var:"));
        let wanted = if text.is_empty() { vec![] } else { vec![Piece::Text(text.clone())] };
        prop_assert_eq!(pieces(&text, in_template), wanted);
    }

    #[test]
    fn any_value_comes_through_a_template(value in "\\PC{0,30}") {
        let known = Variable { value: VarValue::String(value.clone()), from: String::new() };
        let variables = Variables(BTreeMap::from([("x".to_owned(), known)]));
        let filled = variables.fill_template("a{{{var:x}}}").unwrap();
        let told = template::Template::parse(&filled).unwrap().fill(&BTreeMap::new()).unwrap();
        prop_assert_eq!(told, format!("a{{{value}}}"));
    }

    #[test]
    fn any_recipe_with_variables_is_read_or_complained_of(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("[vars]\n"), Just("[env.a]\n"), Just("[env.a.vars]\n"), Just("[image]\n"), Just("x"), Just("name"),
                Just(" = "), Just("\"{var:x}\"\n"), Just("'{var:'"), Just("{ default = 1 }"), Just("\n"), Just("1"),
                Just("\"{{var:x}}\""), Just("vars"), Just("env"), Just("."), Just("[base]\nimage = \"{var:x}\"\n"),
            ],
            0..30,
        )
    ) {
        let text = pieces.concat();
        let inputs = Inputs { environment: Some("a".into()), ..flags(&[("x", "1")]) };
        if let Err(told) = with(&text, &inputs) {
            prop_assert!(!told.is_empty());
        }
    }
}
