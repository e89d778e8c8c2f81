//! What refers to images in a Region: instances, launch templates, Auto Scaling, fleets and Spot requests, parameters.
//!
//! Not to be seen from here: other accounts' instances and templates (an image that is shared), older versions of a
//! parameter, and what a SecureString says: nobody launches what is a secret.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aws_sdk_autoscaling::types::{AutoScalingGroup, LaunchTemplateSpecification};
use aws_sdk_ec2::types::LaunchTemplateVersion;

use super::api::FILTER_VALUES;
use super::explain::Trouble;
use super::get_parameters::MOST;
use super::retry::insist;
use super::shelf::RegionShelf;
use crate::cloud::shelf::{Sort, Use};

pub(super) async fn all(shelf: &RegionShelf<'_>, images: &[String]) -> Result<Vec<Use>> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: BTreeSet<&str> = images.iter().map(String::as_str).collect();
    let (instances, (groups, mut scaling), fleets, parameters) = tokio::try_join!(
        instances(shelf, images),
        auto_scaling(shelf, &wanted),
        fleets(shelf, images, &wanted),
        parameters(shelf, &wanted)
    )
    .with_context(|| format!("asking what refers to images in {}", shelf.api.region))?;
    let mut uses = instances;
    uses.extend(templates(shelf, &wanted, &groups).await?);
    uses.append(&mut scaling);
    uses.extend(fleets);
    uses.extend(parameters);
    Ok(uses)
}

async fn instances(shelf: &RegionShelf<'_>, images: &[String]) -> Result<Vec<Use>> {
    let mut uses = Vec::new();
    for images in images.chunks(FILTER_VALUES) {
        let found =
            insist(shelf.effort, || shelf.api.instances_of(images)).await.map_err(Trouble::into_error)?;
        uses.extend(found.iter().filter_map(|instance| {
            let state = instance.state().and_then(|state| state.name()).map_or("?", |name| name.as_str());
            let name =
                instance.tags().iter().find(|tag| tag.key() == Some("Name")).and_then(|tag| tag.value());
            let name = name.map(|name| format!("{name:?}, ")).unwrap_or_default();
            Some(Use {
                image: instance.image_id()?.to_owned(),
                sort: Sort::Instance,
                by: format!("instance {} ({name}{state})", instance.instance_id()?),
            })
        }));
    }
    Ok(uses)
}

/// Fleets and Spot requests that name an image themselves: those by a launch template are seen by that.
async fn fleets(shelf: &RegionShelf<'_>, images: &[String], wanted: &BTreeSet<&str>) -> Result<Vec<Use>> {
    let fleets = insist(shelf.effort, || shelf.api.fleets()).await.map_err(Trouble::into_error)?;
    let spot = insist(shelf.effort, || shelf.api.spot_fleets()).await.map_err(Trouble::into_error)?;
    let kinds = [(Sort::Fleet, "EC2 Fleet", fleets), (Sort::SpotFleet, "Spot Fleet", spot)];
    let mut uses = Vec::new();
    for (sort, what, fleets) in kinds {
        for (id, named) in fleets {
            let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
            uses.extend(named.intersection(wanted).map(|image| Use {
                image: (*image).to_owned(),
                sort,
                by: format!("{what} {id}"),
            }));
        }
    }
    for images in images.chunks(FILTER_VALUES) {
        let found = insist(shelf.effort, || shelf.api.spot_requests_for(images))
            .await
            .map_err(Trouble::into_error)?;
        uses.extend(found.iter().filter_map(|request| {
            let kind = request.r#type().map_or("?", |kind| kind.as_str());
            let state = request.state().map_or("?", |state| state.as_str());
            Some(Use {
                image: request.launch_specification()?.image_id()?.to_owned(),
                sort: Sort::SpotRequest,
                by: format!("Spot request {} ({kind}, {state})", request.spot_instance_request_id()?),
            })
        }));
    }
    Ok(uses)
}

/// The groups of each launch template, and what launch configurations and the groups themselves refer to.
async fn auto_scaling(shelf: &RegionShelf<'_>, wanted: &BTreeSet<&str>) -> Result<(Vec<Bound>, Vec<Use>)> {
    let configurations =
        insist(shelf.effort, || shelf.api.launch_configurations()).await.map_err(Trouble::into_error)?;
    let groups =
        insist(shelf.effort, || shelf.api.auto_scaling_groups()).await.map_err(Trouble::into_error)?;
    let mut uses = Vec::new();
    for (configuration, image) in
        configurations.into_iter().filter(|(_, image)| wanted.contains(image.as_str()))
    {
        let of: Vec<_> = groups
            .iter()
            .filter(|group| group.launch_configuration_name() == Some(&configuration))
            .filter_map(|group| group.auto_scaling_group_name())
            .collect();
        let by = match of.is_empty() {
            true => format!("launch configuration {configuration}"),
            false => format!("launch configuration {configuration} of Auto Scaling group {}", of.join(", ")),
        };
        uses.push(Use { image, sort: Sort::LaunchConfiguration, by });
    }
    for group in &groups {
        let policy = group.mixed_instances_policy().and_then(|policy| policy.launch_template());
        let named = policy.map(|template| template.overrides()).unwrap_or_default();
        let images: BTreeSet<&str> = named.iter().filter_map(|one| one.image_id()).collect();
        uses.extend(images.intersection(wanted).map(|image| Use {
            image: (*image).to_owned(),
            sort: Sort::AutoScalingGroup,
            by: format!("Auto Scaling group {}", group.auto_scaling_group_name().unwrap_or_default()),
        }));
    }
    Ok((groups.iter().flat_map(bound).collect(), uses))
}

/// A group and the template version that it launches.
struct Bound {
    group: String,
    /// Id or name.
    template: String,
    /// A number, `$Latest` or `$Default`.
    version: String,
}

fn bound(group: &AutoScalingGroup) -> Vec<Bound> {
    let policy = group.mixed_instances_policy().and_then(|policy| policy.launch_template());
    let overrides = policy.map(|template| template.overrides()).unwrap_or_default();
    group
        .launch_template()
        .into_iter()
        .chain(policy.and_then(|template| template.launch_template_specification()))
        .chain(overrides.iter().filter_map(|one| one.launch_template_specification()))
        .filter_map(|one: &LaunchTemplateSpecification| {
            Some(Bound {
                group: group.auto_scaling_group_name()?.to_owned(),
                template: one.launch_template_id().or(one.launch_template_name())?.to_owned(),
                version: one.version().unwrap_or("$Default").to_owned(),
            })
        })
        .collect()
}

async fn templates(shelf: &RegionShelf<'_>, wanted: &BTreeSet<&str>, groups: &[Bound]) -> Result<Vec<Use>> {
    let asking = || format!("asking what launch templates refer to in {}", shelf.api.region);
    let ids = insist(shelf.effort, || shelf.api.launch_templates())
        .await
        .map_err(Trouble::into_error)
        .with_context(asking)?;
    let mut uses = Vec::new();
    for id in ids {
        let versions = insist(shelf.effort, || shelf.api.template_versions(&id))
            .await
            .map_err(Trouble::into_error)
            .with_context(asking)?;
        uses.extend(of_template(&versions, wanted, groups));
    }
    Ok(uses)
}

/// One use an image, with all the versions that refer to it.
fn of_template(versions: &[LaunchTemplateVersion], wanted: &BTreeSet<&str>, groups: &[Bound]) -> Vec<Use> {
    let mut by_image: BTreeMap<&str, Vec<&LaunchTemplateVersion>> = BTreeMap::new();
    let latest = versions.iter().filter_map(LaunchTemplateVersion::version_number).max();
    for version in versions {
        let image = version.launch_template_data().and_then(|data| data.image_id());
        if let Some(image) = image.filter(|image| wanted.contains(image)) {
            by_image.entry(image).or_default().push(version);
        }
    }
    let uses = by_image.into_iter().filter_map(|(image, versions)| {
        let first = versions.first()?;
        let (id, name) = (first.launch_template_id()?, first.launch_template_name().unwrap_or_default());
        let launched = |bound: &Bound| {
            (bound.template == id || bound.template == name)
                && versions.iter().any(|version| {
                    let number = version.version_number();
                    match bound.version.as_str() {
                        "$Latest" => number == latest,
                        "$Default" => version.default_version() == Some(true),
                        said => said.parse().ok() == number,
                    }
                })
        };
        let groups: BTreeSet<&str> =
            groups.iter().filter(|bound| launched(bound)).map(|bound| bound.group.as_str()).collect();
        let mut numbers: Vec<_> = versions.iter().filter_map(|version| version.version_number()).collect();
        numbers.sort_unstable();
        let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        let plural = if numbers.len() == 1 { "version" } else { "versions" };
        let mut by = format!("launch template {name} ({id}) {plural} {}", numbers.join(", "));
        if !groups.is_empty() {
            by.push_str(&format!(
                " of Auto Scaling group {}",
                groups.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        Some(Use { image: image.to_owned(), sort: Sort::LaunchTemplate, by })
    });
    uses.collect()
}

/// Each page and each ten values on their own: what is throttled is asked for again, and not all before it.
async fn parameters(shelf: &RegionShelf<'_>, wanted: &BTreeSet<&str>) -> Result<Vec<Use>> {
    let (mut names, mut from) = (Vec::new(), None);
    loop {
        let page = || shelf.api.plain_parameters(from.clone());
        let (found, next) = insist(shelf.effort, page).await.map_err(Trouble::into_error)?;
        names.extend(found);
        from = next;
        if from.is_none() {
            break;
        }
    }
    let mut uses = Vec::new();
    for names in names.chunks(MOST) {
        let values =
            insist(shelf.effort, || shelf.api.get_parameters(names)).await.map_err(Trouble::into_error)?;
        for (name, value) in values {
            let by = format!("parameter {name}");
            let named = ids(&value).filter(|id| wanted.contains(id)).collect::<BTreeSet<_>>();
            uses.extend(named.into_iter().map(|image| Use {
                image: image.to_owned(),
                sort: Sort::Parameter,
                by: by.clone(),
            }));
        }
    }
    Ok(uses)
}

/// The words of a parameter's value that ids may be: of one that is an id, of a list and of JSON of whatever form.
fn ids(value: &str) -> impl Iterator<Item = &str> {
    value.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
}
