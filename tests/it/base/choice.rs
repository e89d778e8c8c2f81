//! By name, owners and filters, newest first; deprecated ones on request; its age.

use super::*;

const OTHER: &str = "999999999999";
const DAY: f64 = 86_400.0;

/// The filters of a DescribeImages request: name to values.
fn filters(request: &Value) -> Vec<(String, Vec<String>)> {
    let text = |key: String| request[key.as_str()].as_str().map(str::to_owned);
    let numbered = |key: &dyn Fn(usize) -> String| (1..).map_while(|n| text(key(n))).collect::<Vec<_>>();
    let names = numbered(&|n| format!("Filter.{n}.Name"));
    let all = names.into_iter().enumerate();
    all.map(|(at, name)| (name, numbered(&|n| format!("Filter.{}.Value.{n}", at + 1)))).collect()
}

fn seed(builder: &Builder, name: &str, about: Value) -> String {
    let mut all = json!({"name": name});
    all.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
    builder.standin.seed(builder.disk.path(), all).0
}

#[test]
fn any_filter_and_several_owners_reach_ec2_and_the_newest_is_taken() {
    let Some(builder) = builder() else { return };
    let tagged = |team: &str, created: u64, owner: &str| json!({"tags": {"team": team}, "created": created, "owner": owner, "platform_details": "Linux/UNIX"});
    seed(&builder, "web-1", tagged("web", 1_600_000_000, "123456789012"));
    let newest = seed(&builder, "web-2", tagged("web", 1_700_000_000, OTHER));
    seed(&builder, "web-3", tagged("db", 1_750_000_000, OTHER));
    seed(&builder, "web-4", tagged("web", 1_750_000_000, "888888888888"));
    let base = format!(
        "name = \"web-*\"\nowners = [\"self\", \"{OTHER}\"]\narch = \"x86_64\"\n\
         filters = {{ \"tag:team\" = [\"web\", \"app\"], root-device-type = \"ebs\", is-public = true }}"
    );
    let plan = self::plan(&builder, &base, &[]);
    assert_eq!(plan["base"]["image"], newest, "{plan:#}");
    let request = last_of_base(&builder);
    assert_eq!((&request["Owner.1"], &request["Owner.2"]), (&json!("self"), &json!(OTHER)));
    assert!(request["IncludeDeprecated"].is_null(), "{request:#}");
    let wanted = [
        ("state", vec!["available"]),
        ("name", vec!["web-*"]),
        ("architecture", vec!["x86_64"]),
        ("is-public", vec!["true"]),
        ("root-device-type", vec!["ebs"]),
        ("tag:team", vec!["web", "app"]),
    ];
    let wanted = wanted
        .map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect::<Vec<_>>()));
    assert_eq!(filters(&request), wanted, "{request:#}");

    // The same by flags alone, over a recipe that says something else.
    let flags = ["--base", "web-*", "--owner", "self", "--owner", OTHER, "--arch", "x86_64"];
    let more = ["--filter", "tag:team=web", "--filter", "tag:team=app", "--filter", "root-device-type=ebs"];
    builder.standin.clear_requests();
    let plan =
        self::plan(&builder, "image = \"x\"", &[&flags[..], &more, &["--filter", "is-public=true"]].concat());
    assert_eq!(plan["base"]["image"], newest, "{plan:#}");
    assert_eq!(filters(&last_of_base(&builder)), wanted);

    // Filters alone are a base too; and what none passes is told with all that was asked for.
    let plan = self::plan(&builder, "filters = { \"tag:team\" = \"web\" }", &[]);
    assert_eq!(plan["base"]["name"], "web-1", "of this account alone: {plan:#}");
    let ran = builder.bakery.bake(&recipe("name = \"web-*\"\nfilters = { \"tag:team\" = \"none\" }"), &[]);
    ran.refused(5, &["no AMI of the owner self in eu-west-1 is named \"web-*\", has tag:team none"]);
    let strange = builder.bakery.bake(&recipe("filters = { colour = \"red\" }"), &[]);
    assert!(strange.err.contains("The filter 'colour' is invalid"), "EC2 judges it: {}", strange.told());
}

/// The request by which the base was looked for.
fn last_of_base(builder: &Builder) -> Value {
    let all = builder.standin.requests_of("DescribeImages", 1, std::time::Duration::ZERO);
    let of_base = all
        .iter()
        .map(|each| &each["params"])
        .find(|params| filters(params).iter().any(|(name, _)| name == "state"));
    of_base.unwrap_or_else(|| panic!("{all:#?}")).clone()
}

#[test]
fn deprecated_images_are_taken_on_request_and_disabled_ones_never() {
    let Some(builder) = builder() else { return };
    let past = json!({"owner": OTHER, "deprecated": 1_700_000_000});
    let old = seed(&builder, "old-1", past);
    let base = format!("name = \"old-*\"\nowner = \"{OTHER}\"");
    let ran = builder.bakery.bake(&recipe(&base), &["--dry-run"]);
    ran.refused(5, &["no AMI of the owner 999999999999", "deprecated = true (--deprecated)"]);
    builder.standin.clear_requests();
    for (base, more) in [(format!("{base}\ndeprecated = true"), vec![]), (base, vec!["--deprecated"])] {
        let plan = self::plan(&builder, &base, &more);
        assert_eq!((&plan["base"]["image"], &plan["warnings"]), (&json!(old), &json!([])), "{plan:#}");
        assert_eq!(last_of_base(&builder)["IncludeDeprecated"], "true");
    }
    // An own one is shown by EC2 in any case, and not taken.
    seed(&builder, "mine-1", json!({"deprecated": 1_700_000_000}));
    let ran = builder.bakery.bake(&recipe("name = \"mine-*\""), &["--dry-run"]);
    ran.refused(5, &["(mine-1, ", "is deprecated: deprecated = true"]);

    // By its id it is taken, with a warning.
    let ran = builder.bakery.bake(&recipe(&format!("ami = \"{old}\"")), &["--dry-run"]).good();
    let warning = format!("the base {old} is deprecated since 2023-11-14T22:13:20");
    assert!(ran.err.contains(&format!("warning: {warning}")), "{}", ran.told());
    assert!(ran.out.contains(&format!("warning      {warning}")), "{}", ran.told());

    let off = seed(&builder, "off-1", json!({"state": "disabled"}));
    let ran = builder.bakery.bake(&recipe(&format!("ami = \"{off}\"")), &[]);
    ran.refused(5, &["is disabled, not available", "enable-image"]);
    builder.bakery.bake(&recipe("name = \"off-*\""), &["--deprecated"]).refused(5, &["no AMI"]);
    assert_eq!(builder.standin.state()["volumes"], json!([]));
}

#[test]
fn its_id_name_and_age_are_told_and_an_old_one_is_warned_of() {
    let Some(mut builder) = builder() else { return };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let ami = seed(&builder, "debian-12-amd64-20261101", json!({"created": now - 22.5 * DAY}));
    let told = format!("debian-12-amd64-20261101 ({ami}), 22 days old");
    let base = "name = \"debian-*\"\nmax_age = \"30d\"";

    let ran = builder.bakery.bake(&recipe(base), &["--output", "json"]).good();
    let line = ran.err.lines().take(5).find(|line| line.contains(&told));
    assert!(line.is_some_and(|line| line.contains("base ")), "in the first lines: {}", ran.told());
    assert!(!ran.err.contains("days old, more than"), "{}", ran.told());
    let baked: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&baked["base"], &baked["base_age_days"]), (&json!(ami), &json!(22)), "{baked:#}");

    let dry = builder.bakery.bake(&recipe(base), &["--dry-run"]).good();
    assert!(dry.out.contains(&format!("base         {told}, 1GiB, ")), "{}", dry.told());
    let plan = self::plan(&builder, base, &[]);
    assert_eq!(plan["base_age"].as_u64().unwrap() / 86_400, 22, "{plan:#}");

    let warning = format!("the base {ami} is 22 days old, more than max_age, 20d");
    for (base, more) in
        [("name = \"debian-*\"\nmax_age = \"20d\"", &[][..]), (base, &["--base-max-age", "20d"])]
    {
        let ran = builder.bakery.bake(&recipe(base), &[&["--dry-run"], more].concat()).good();
        assert!(ran.err.contains(&format!("warning: {warning}")), "{}", ran.told());
        assert!(ran.out.contains(&format!("warning      {warning}")), "{}", ran.told());
    }
    builder.bakery.set("BAKEHOUSE_BASE_MAX_AGE", Some("20d"));
    let plan = self::plan(&builder, "name = \"debian-*\"", &[]);
    assert_eq!(plan["warnings"], json!([warning]));
    builder.bakery.set("BAKEHOUSE_BASE_MAX_AGE", Some("soon"));
    builder.bakery.bake(&recipe(base), &["--dry-run"]).refused(2, &["--base-max-age soon"]);
    builder.bakery.set("BAKEHOUSE_BASE_MAX_AGE", None);

    // The settings' file speaks where nothing else does.
    builder.bakery.put("config/bakehouse/config.toml", "base-max-age = \"20d\"\n");
    assert_eq!(self::plan(&builder, "name = \"debian-*\"", &[])["warnings"], json!([warning]));
    assert_eq!(self::plan(&builder, base, &[])["warnings"], json!([]), "the recipe is nearer");
}

#[test]
fn a_snapshot_is_told_with_what_is_assumed_of_it() {
    let Some(builder) = builder() else { return };
    let ran = builder.bakery.bakehouse(&["bake", "--base", &builder.snapshot, "--dry-run"]).good();
    assert!(ran.out.contains("a snapshot says nothing of itself, so this is assumed: the builder's architecture, the root device name /dev/xvda, hvm, ENA"), "{}", ran.told());
    let snapshot = builder.snapshot.as_str();
    let flags = [
        "bake",
        "--base",
        snapshot,
        "--arch",
        std::env::consts::ARCH,
        "--root-device",
        "/dev/sda1",
        "--name",
        "of-a-snapshot",
    ];
    let id = builder.bakery.bakehouse(&flags).id();
    let image = builder.standin.find("images", "ImageId", &id).unwrap();
    assert_eq!(
        (&image["RootDeviceName"], &image["EnaSupport"], &image["VirtualizationType"]),
        (&json!("/dev/sda1"), &json!(true), &json!("hvm"))
    );
    assert_eq!(last(&builder, "CreateVolume")["SnapshotId"], snapshot);
}

#[test]
fn one_recipe_serves_both_and_the_store_tells_what_it_passes_over() {
    let Some(builder) = builder() else { return };
    builder.bakery.base("base-local", builder.disk.path());
    let base =
        "name = \"base-*\"\nowner = \"self\"\nfilters = { root-device-type = \"ebs\", name = \"base-l*\" }";
    let base = base.replace(", name = \"base-l*\"", "");
    let ran = builder.bakery.bake(&recipe(&base), &["--dry-run", "--cloud", "local"]).good();
    for note in [
        "the local store has no owners: self is not asked for",
        "the local store does not filter by root-device-type",
    ] {
        assert!(ran.err.contains(note) && ran.out.contains(note), "{note}: {}", ran.told());
    }
    assert!(ran.out.contains("base-local (img-"), "{}", ran.told());
    let base = "name = \"base-*\"\nfilters = { \"tag:team\" = \"web\" }";
    builder
        .bakery
        .bake(&recipe(base), &["--cloud", "local"])
        .refused(5, &["a name like base-* and tag:team web"]);
}
