//! The least IAM policy for recipes: the actions of the calls that their bakes make and no others, on what carries
//! Bakehouse's tags and on this instance, as far as EC2 knows such conditions. Asks nothing of AWS.
//!
//! Which resources and condition keys an action has is from the Service Authorization Reference,
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html>.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::recipe::template::{Part, Template};
use crate::recipe::{BaseSelector, Collision, RawValue, Recipe, SecretSource, Spanned};

mod statement;

use statement::{Names, Statement, documents};

/// Where the bakes are to run; what is not said is any.
#[derive(Debug, Clone, Default)]
pub struct Builders {
    /// The Region.
    pub region: Option<String>,
    /// The account's number.
    pub account: Option<String>,
    /// The builders, `i-…`.
    pub instances: Vec<String>,
    /// Whether they prune too.
    pub prune: bool,
    /// Whether the calls are made with other credentials than the instance's own, as in a role that the builder or a
    /// CI job takes on: then EC2 does not know which instance calls.
    pub takes_role: bool,
}

/// The policy of a builder that bakes and publishes these recipes, undoes what fails, runs `gc`, and prunes where wanted.
pub fn policy(recipes: &[Recipe], builders: &Builders) -> Value {
    let names = Names { builders };
    let mut statements = Vec::new();
    for recipe in recipes {
        statements.extend(bake(recipe, &names));
        statements.extend(publish(recipe, &names));
        statements.extend(keys(recipe, &names));
        statements.extend(secrets(recipe, &names));
        statements.extend(sources(recipe, &names));
        if builders.prune {
            statements.extend(prune(recipe, &names));
        }
    }
    json!({"Version": "2012-10-17", "Statement": documents(statements)})
}

/// The Regions of copies, the builder's own aside.
fn elsewhere<'a>(recipe: &'a Recipe, names: &Names<'_>) -> Vec<&'a str> {
    let copies = recipe.publish.iter().flat_map(|publish| &publish.targets.copies);
    copies.map(|copy| copy.region.as_str()).filter(|region| *region != names.home()).collect()
}

fn bake(recipe: &Recipe, names: &Names<'_>) -> Vec<Statement> {
    let home = names.home();
    let far = elsewhere(recipe, names);
    let everywhere: Vec<&str> = std::iter::once(home).chain(far.iter().copied()).collect();
    let base = &recipe.base.value;
    let mut looks = vec!["ec2:DescribeImages", "ec2:DescribeSnapshots", "ec2:DescribeVolumes"];
    if matches!(base, BaseSelector::Ami(_) | BaseSelector::Query(_) | BaseSelector::Parameter(_)) {
        looks.push("ec2:DescribeImageAttribute");
    }
    let share = recipe.publish.as_ref().map(|publish| &publish.targets.share);
    if share.is_some_and(|share| share.is_any()) {
        looks.push("ec2:DescribeImageAttribute");
        if share.is_some_and(|share| share.snapshots && (share.everybody || !share.accounts.is_empty())) {
            looks.push("ec2:DescribeSnapshotAttribute");
        }
    }
    if !far.is_empty() {
        looks.push("ec2:DescribeRegions");
        if matches!(recipe.image.collision(), Collision::Replace { .. }) {
            // The UEFI variables of a copy that is registered again under the name.
            looks.push("ec2:DescribeImageAttribute");
        }
    }
    looks.sort_unstable();
    looks.dedup();
    let mut look = Statement::new("Look", &looks, vec!["*".to_owned()]);
    if home != "*" {
        look = look.when("StringEquals", "aws:RequestedRegion", &everywhere);
    }

    let snapshots = || names.all(&[home], "snapshot");
    let images = || names.all(&[home], "image");
    let attach = ["ec2:AttachVolume", "ec2:DetachVolume"];
    let mut here = Statement::new("AttachToTheBuilder", &attach, names.instances());
    if !names.builders.takes_role {
        // Known only of calls with an instance's own credentials.
        let instances = names.instances();
        let instances: Vec<&str> = instances.iter().map(String::as_str).collect();
        here = here.when("ArnLike", "ec2:SourceInstanceARN", &instances);
    }
    let given = matches!(base, BaseSelector::Volume { .. } | BaseSelector::Device { .. });
    let mut makers = vec!["CreateSnapshot", "RegisterImage"];
    if !given {
        makers.push("CreateVolume");
    }
    if !far.is_empty() {
        makers.push("CopyImage");
    }
    let mut taggable = names.volumes();
    taggable.extend(names.all(&everywhere, "snapshot"));
    taggable.extend(names.all(&everywhere, "image"));
    let mut statements = vec![
        look,
        Statement::new("TagAtCreation", &["ec2:CreateTags"], taggable).when(
            "StringEquals",
            "ec2:CreateAction",
            &makers,
        ),
        Statement::new("MakeSnapshot", &["ec2:CreateSnapshot"], snapshots()).tagged(),
        Statement::new("MakeImage", &["ec2:RegisterImage"], images()).tagged(),
        Statement::new("UndoSnapshot", &["ec2:DeleteSnapshot"], names.all(&everywhere, "snapshot")).ours(),
        Statement::new("UndoImage", &["ec2:DeregisterImage"], names.all(&everywhere, "image")).ours(),
    ];
    if let Collision::Replace { delete_snapshots } = recipe.image.collision() {
        // Whoever made the image that has the name, and whatever tags it has; in other Regions too.
        let (images, snapshots) = (names.all(&everywhere, "image"), names.all(&everywhere, "snapshot"));
        statements.push(Statement::new("ReplaceImage", &["ec2:DeregisterImage"], images));
        if delete_snapshots {
            statements.push(Statement::new("ReplaceSnapshots", &["ec2:DeleteSnapshot"], snapshots));
        }
        if !far.is_empty() {
            let register = ["ec2:RegisterImage"];
            statements.push(Statement::new("MakeCopies", &register, names.all(&far, "image")).tagged());
            statements.push(Statement::new("FromCopies", &register, names.all(&far, "snapshot")));
        }
    }
    match base {
        // A volume of the user's, which has no tag of ours and is never deleted.
        BaseSelector::Volume { id, .. } => {
            let volume = names.arn("ec2", home, names.account(), &format!("volume/{id}"));
            let actions = ["ec2:AttachVolume", "ec2:CreateSnapshot", "ec2:DetachVolume"];
            statements.extend([here, Statement::new("GivenVolume", &actions, vec![volume])]);
        }
        // It is attached already; which volume it is, the device tells.
        BaseSelector::Device { .. } => {
            statements.push(Statement::new("GivenVolume", &["ec2:CreateSnapshot"], names.volumes()));
        }
        _ => {
            let actions = ["ec2:AttachVolume", "ec2:CreateSnapshot", "ec2:DeleteVolume", "ec2:DetachVolume"];
            statements.extend([
                Statement::new("MakeVolume", &["ec2:CreateVolume"], names.volumes()).tagged(),
                here,
                Statement::new("OwnVolumes", &actions, names.volumes()).ours(),
            ]);
        }
    }
    // Of the base, which is anybody's, and of the base's further volumes.
    let mut from = vec!["ec2:RegisterImage"];
    if !given && !matches!(base, BaseSelector::Scratch(_)) {
        from.push("ec2:CreateVolume");
    }
    from.sort_unstable();
    statements.push(Statement::new("FromSnapshots", &from, snapshots()));
    if let BaseSelector::Parameter(name) = base {
        statements.push(Statement::new(
            "BaseByParameter",
            &["ssm:GetParameter"],
            vec![names.parameter(name)],
        ));
    }
    statements
}

/// The parameters that steps have secrets from. One that a key of the user's own encrypts needs `kms:Decrypt` on that
/// key besides: which key it is, the recipe does not say.
fn secrets(recipe: &Recipe, names: &Names<'_>) -> Option<Statement> {
    let steps = recipe.steps.iter().chain(&recipe.checks);
    let sources = steps.flat_map(|step| step.secrets.values());
    let parameters: BTreeSet<_> = sources
        .filter_map(|source| match &source.value {
            SecretSource::Parameter(name) => Some(names.parameter(name)),
            SecretSource::Env(_) | SecretSource::File(_) => None,
        })
        .collect();
    let parameters: Vec<_> = parameters.into_iter().collect();
    (!parameters.is_empty()).then(|| Statement::new("Secrets", &["ssm:GetParameter"], parameters))
}

fn publish(recipe: &Recipe, names: &Names<'_>) -> Vec<Statement> {
    let Some(publish) = &recipe.publish else { return Vec::new() };
    let home = names.home();
    let far = elsewhere(recipe, names);
    let everywhere: Vec<&str> = std::iter::once(home).chain(far.iter().copied()).collect();
    let mut statements = Vec::new();
    if !far.is_empty() {
        statements.push(Statement::new("Copy", &["ec2:CopyImage"], names.all(&far, "image")).tagged());
        statements.push(Statement::new("CopySnapshots", &["ec2:CopyImage"], names.all(&far, "snapshot")));
        statements.push(Statement::new("CopyFrom", &["ec2:CopyImage"], names.all(&[home], "image")).ours());
    }
    let targets = &publish.targets;
    let mut images = Vec::new();
    if targets.deprecate_after.is_some() {
        images.push("ec2:EnableImageDeprecation");
    }
    if targets.protection.is_some() {
        images.push("ec2:EnableImageDeregistrationProtection");
    }
    if targets.share.is_any() {
        images.push("ec2:ModifyImageAttribute");
    }
    if !images.is_empty() {
        statements.push(Statement::new("PublishImages", &images, names.all(&everywhere, "image")).ours());
    }
    let share = &targets.share;
    if share.snapshots && (share.everybody || !share.accounts.is_empty()) {
        let snapshots = names.all(&everywhere, "snapshot");
        statements.push(Statement::new("ShareSnapshots", &["ec2:ModifySnapshotAttribute"], snapshots).ours());
    }
    if !publish.parameters.is_empty() {
        let parameters: Vec<String> = publish.parameters.iter().map(|name| any_word(&name.value)).collect();
        statements.push(Statement::new(
            "Parameters",
            &["ssm:AddTagsToResource", "ssm:GetParameter", "ssm:ListTagsForResource", "ssm:PutParameter"],
            names.parameters(&everywhere, &parameters),
        ));
    }
    statements
}

/// What `prune` asks and does besides; deregistering and deleting snapshots are allowed for undoing.
fn prune(recipe: &Recipe, names: &Names<'_>) -> Vec<Statement> {
    let home = names.home();
    let far = elsewhere(recipe, names);
    let everywhere: Vec<&str> = std::iter::once(home).chain(far.iter().copied()).collect();
    let looks = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeLaunchConfigurations",
        "ec2:DescribeFleets",
        "ec2:DescribeInstances",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeLaunchTemplates",
        "ec2:DescribeSpotFleetRequests",
        "ec2:DescribeSpotInstanceRequests",
        "ssm:DescribeParameters",
        // Of whatever parameter: which of them holds an image is to be found out, and templates name some.
        "ssm:GetParameters",
    ];
    let mut look = Statement::new("LookForUses", &looks, vec!["*".to_owned()]);
    if home != "*" {
        look = look.when("StringEquals", "aws:RequestedRegion", &everywhere);
    }
    let actions = ["ec2:DisableImage", "ec2:EnableImageDeprecation"];
    vec![look, Statement::new("Prune", &actions, names.all(&everywhere, "image")).ours()]
}

/// EBS uses the keys of the disk and of copies in the builder's name (the EBS encryption guide's list of permissions);
/// no call of KMS is made by Bakehouse itself. A policy names keys by their ids alone; an alias is a condition.
fn keys(recipe: &Recipe, names: &Names<'_>) -> Vec<Statement> {
    let copies = recipe.publish.iter().flat_map(|publish| &publish.targets.copies);
    let copies = copies.filter_map(|copy| Some((copy.region.as_str(), copy.kms_key.as_deref()?)));
    let disk = recipe.disk.kms_key.as_deref().map(|key| (names.home(), key));
    let mut by_id = (BTreeSet::new(), BTreeSet::new());
    let mut by_alias = (BTreeSet::new(), BTreeSet::new());
    let mut aliases = BTreeSet::new();
    for (region, key) in disk.into_iter().chain(copies) {
        let service = format!("ec2.{region}.amazonaws.com");
        let name = key.rsplit_once(':').map_or(key, |(_, name)| name);
        let (those, id) = match name.starts_with("alias/") {
            true => {
                aliases.insert(name);
                (&mut by_alias, "*")
            }
            false => (&mut by_id, name.strip_prefix("key/").unwrap_or(name)),
        };
        those.0.insert(names.arn("kms", region, names.account(), &format!("key/{id}")));
        those.1.insert(service);
    }
    let actions = [
        "kms:CreateGrant",
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
    ];
    let allow = |sid, (arns, services): (BTreeSet<String>, BTreeSet<String>)| {
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        let operator =
            if services.iter().any(|one| one.contains('*')) { "StringLike" } else { "StringEquals" };
        (!arns.is_empty()).then(|| {
            Statement::new(sid, &actions, arns.into_iter().collect()).when(
                operator,
                "kms:ViaService",
                &services,
            )
        })
    };
    let aliases: Vec<&str> = aliases.into_iter().collect();
    let named =
        |statement: Statement| statement.when("ForAnyValue:StringEquals", "kms:ResourceAliases", &aliases);
    allow("Keys", by_id).into_iter().chain(allow("KeysByAlias", by_alias).map(named)).collect()
}

/// What steps fetch from S3 with the builder's credentials.
fn sources(recipe: &Recipe, names: &Names<'_>) -> Option<Statement> {
    let mut found = BTreeSet::new();
    for value in recipe.steps.iter().chain(&recipe.checks).flat_map(|step| step.params.values()) {
        addresses(value, &mut found);
    }
    if found.is_empty() {
        return None;
    }
    let partition = names.arn("s3", names.home(), "", "").split(':').nth(1).unwrap_or("aws").to_owned();
    let arns: BTreeSet<_> = found
        .iter()
        .map(|address| {
            let end = address.find(['#', '?']).unwrap_or(address.len());
            format!("arn:{partition}:s3:::{}", address.get(..end).unwrap_or(address))
        })
        .collect();
    // What the recipe says no version of is asked for by its name, and fetched by the version that the plan pins it to,
    // where its bucket keeps any.
    Some(Statement::new("Sources", &["s3:GetObject", "s3:GetObjectVersion"], arns.into_iter().collect()))
}

fn addresses(value: &Spanned<RawValue>, found: &mut BTreeSet<String>) {
    match &value.value {
        RawValue::String(text) => {
            found.extend(text.strip_prefix("s3://").map(str::to_owned));
        }
        RawValue::Array(items) => items.iter().for_each(|item| addresses(item, found)),
        RawValue::Table(entries) => entries.iter().for_each(|(_, item)| addresses(item, found)),
        _ => {}
    }
}

/// A template with each of its words as `*`.
fn any_word(template: &str) -> String {
    let parts = Template::parse(template).map(|template| template.parts).unwrap_or_default();
    let texts = parts.into_iter().map(|part| match part {
        Part::Literal(text) => text,
        Part::Placeholder(_) => "*".to_owned(),
    });
    texts.collect()
}

/// The actions that a policy allows.
pub fn actions(policy: &Value) -> BTreeSet<String> {
    let statements = policy.get("Statement").and_then(Value::as_array).into_iter().flatten();
    let actions = statements.filter_map(|statement| statement.get("Action")?.as_array()).flatten();
    actions.filter_map(|action| action.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
#[path = "iam_tests.rs"]
mod tests;
