//! A bake killed at each call of publishing: the image is good, and `publish` or `--resume` finishes.

use serde_json::Value;

use super::kill::with_sites;
use super::points::Point;
use super::site::{NEEDED, On, Site, Stands};
use super::table::Table;
use crate::support::host::has;
use crate::support::standin::REGION;
use nix::sys::signal::Signal;
use std::time::Duration;

const ELSEWHERE: &str = "us-east-1";
const FRIEND: &str = "210987654321";
const PARAMETER: &str = "/images/tiny/latest";

/// The calls of publishing in two Regions, and how many of each.
const CALLS: [(&str, usize); 9] = [
    ("CopyImage", 1),
    ("EnableImageDeprecation", 2),
    ("EnableImageDeregistrationProtection", 2),
    ("ModifyImageAttribute", 2),
    ("ModifySnapshotAttribute", 2),
    ("PutParameter", 2),
    ("DescribeImageAttribute", 1),
    ("DescribeSnapshotAttribute", 2),
    ("GetParameter", 3),
];

fn prepare(site: &Site) {
    site.write_recipe(super::site::GOOD_STEP);
    let path = site.path("recipe.toml");
    let recipe = std::fs::read_to_string(&path).unwrap();
    let publish = format!(
        "[publish]\nregions = [{ELSEWHERE:?}]\naccounts = [{FRIEND:?}]\ndeprecate_after = \"90d\"\n\
         deregistration_protection = \"with-cooldown\"\nparameters = [{PARAMETER:?}]\n"
    );
    std::fs::write(path, recipe + &publish).unwrap();
}

#[test]
fn killed_at_every_call_of_publishing_the_image_is_good_and_is_finished() {
    if !has(NEEDED) {
        return;
    }
    let points: Vec<Point> = CALLS
        .into_iter()
        .flat_map(|(action, count)| (1..=count).map(move |nth| (action, nth)))
        .flat_map(|(action, nth)| {
            ["before", "after"].map(|when| Point::Api { action: action.to_owned(), nth, when })
        })
        .collect();
    let table = Table::default();
    with_sites(&|| Site::new(On::Ec2), 3, points, |site, number, point| {
        let outcome = finished(site, point, &format!("published-{number}"), number % 2 == 0);
        let fine = outcome.is_ok();
        let group = if number % 2 == 0 { "then gc and publish" } else { "then bake --resume" };
        table.add(group, &point.to_string(), outcome.map(str::to_owned));
        fine
    });
    table.end("ec2, kill -9 while publishing");
}

fn finished(site: &Site, point: &Point, name: &str, by_publish: bool) -> Result<&'static str, String> {
    prepare(site);
    let standin = site.ec2();
    let Point::Api { action, nth, when } = point else { return Err("no call".to_owned()) };
    standin.fault(super::points::hold(action, *nth, when));
    let mut running = site.bake(&[], name);
    while standin.held(Duration::from_millis(100)).is_empty() {
        if running.is_over() {
            return Err(format!("not reached: {}", running.wait().told()));
        }
    }
    running.signal(Signal::SIGKILL);
    let killed = running.wait();
    standin.release(true);
    standin.clear_faults();
    site.settle()?;
    let image = image_of(site, REGION, name).ok_or_else(|| format!("no image: {}", killed.told()))?;
    let [journal] = site.journals().try_into().map_err(|all| format!("{all:?}"))?;
    let bake = journal.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let ended = if by_publish {
        let swept = site.start(&[], &["gc", "--yes"]).wait();
        let command = format!("bakehouse publish {image} --recipe recipe.toml");
        if !swept.status.success() || !swept.err.contains(&command) {
            return Err(format!("gc does not say {command:?}: {}", swept.told()));
        }
        site.start(&[], &["publish", &image, "--recipe", "recipe.toml"]).wait()
    } else {
        site.start(&[], &["bake", "--resume", &bake]).wait()
    };
    if !ended.status.success() {
        return Err(ended.told());
    }
    match site.stands(name) {
        Ok(Stands::Image) => {}
        other => return Err(format!("{other:?}: {}", ended.told())),
    }
    for region in [REGION, ELSEWHERE] {
        published(site, region, name).map_err(|why| format!("{region}: {why}: {}", ended.told()))?;
    }
    standin.clear_requests();
    let again = site.start(&[], &["publish", &image, "--recipe", "recipe.toml"]).wait();
    let changed: Vec<_> = standin
        .requests()
        .into_iter()
        .filter(|each| {
            let action = each["action"].as_str().unwrap_or_default();
            !["Describe", "Get", "List"].iter().any(|read| action.starts_with(read))
        })
        .collect();
    if !again.status.success() || !changed.is_empty() {
        return Err(format!("a second run changed {changed:?}: {}", again.told()));
    }
    Ok("published")
}

fn image_of(site: &Site, region: &str, name: &str) -> Option<String> {
    let state = site.ec2().state_of(region);
    let images = state["images"].as_array()?;
    let found: Vec<&Value> = images.iter().filter(|image| image["Name"] == name).collect();
    let [one] = found.as_slice() else { return None };
    Some(one["ImageId"].as_str()?.to_owned())
}

fn published(site: &Site, region: &str, name: &str) -> Result<(), String> {
    let id = image_of(site, region, name).ok_or("not one image")?;
    let image = site.ec2().find_in(region, "images", "ImageId", &id).ok_or("no image")?;
    let snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().ok_or("no snapshot")?;
    let snapshot = site.ec2().find_in(region, "snapshots", "SnapshotId", snapshot).ok_or("no snapshot")?;
    let shared = serde_json::json!([{"UserId": FRIEND}]);
    let good = image["State"] == "available"
        && image["Permissions"] == shared
        && snapshot["Permissions"] == shared
        && image["DeprecationTime"].is_string()
        && image["DeregistrationProtection"] == "enabled-with-cooldown"
        && site.ec2().state_of(region)["parameters"][PARAMETER] == id.as_str();
    if good { Ok(()) } else { Err(format!("{image:#} {snapshot:#}")) }
}
