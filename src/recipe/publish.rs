//! `[publish]`: where an image goes once it is registered, who may use it there, and under which names it is found.

use serde::{Deserialize, Serialize};

use super::reader::{Complaints, Table, did_you_mean, listed, shown};
use super::sections::template;
use super::template::literals;
use super::{Collision, Complaint, RawValue, Spanned};

/// `[publish]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishSpec {
    /// What is to be true of the image in every Region.
    pub targets: Targets,
    /// Templates of the names of SSM parameters that say the image's id.
    pub parameters: Vec<Spanned<String>>,
}

/// What is to be true of a published image in every Region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// The copies in other Regions.
    pub copies: Vec<CopySpec>,
    /// Who may use the image.
    pub share: Share,
    /// Seconds from the image's making to its deprecation.
    pub deprecate_after: Option<u64>,
    /// Whether it is protected from being deregistered.
    pub protection: Option<Protection>,
    /// What becomes of an image that has the copy's name in its Region.
    #[serde(default)]
    pub collision: Collision,
}

/// A copy in another Region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySpec {
    /// The Region.
    pub region: String,
    /// The KMS key there: an id, an alias or an ARN.
    pub kms_key: Option<String>,
    /// Whether it is encrypted: with the key, or the Region's default one.
    pub encrypted: bool,
    /// The minutes within which EBS is to have copied it: a time-based copy, which costs extra.
    pub within: Option<u32>,
}

/// Who may use an image, besides the account that owns it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Account numbers.
    pub accounts: Vec<String>,
    /// ARNs of organizations.
    pub organizations: Vec<String>,
    /// ARNs of organizational units.
    pub organizational_units: Vec<String>,
    /// Everybody: the group `all`.
    pub everybody: bool,
    /// Whether the image's snapshots are shared along.
    pub snapshots: bool,
}

impl Share {
    /// Whether it names anybody.
    pub fn is_any(&self) -> bool {
        let Self { accounts, organizations, organizational_units, everybody, .. } = self;
        *everybody || [accounts, organizations, organizational_units].iter().any(|those| !those.is_empty())
    }
}

/// Protection from being deregistered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Until it is taken away.
    WithoutCooldown,
    /// Until 24 hours after it was taken away.
    WithCooldown,
}

const DAY: u64 = 86_400;

pub(super) fn publish(mut table: Table, complaints: &mut Complaints) -> PublishSpec {
    let default_within = within("copy_within", &mut table, complaints);
    let mut copies: Vec<Spanned<CopySpec>> = Vec::new();
    for region in table.strings("regions", complaints).unwrap_or_default() {
        check_region(&region, complaints);
        let spec = CopySpec { region: region.value, within: default_within, ..CopySpec::default() };
        copies.push(Spanned { value: spec, span: region.span });
    }
    if let Some((key, Spanned { value: RawValue::Table(_), .. })) = table.entry("copy") {
        complaints.push(
            Complaint::new("`copy` is one table; there may be several", key.span.clone())
                .help("write [[publish.copy]], with two brackets"),
        );
    } else {
        for mut each in table.tables("copy", complaints) {
            each.what = "[[publish.copy]]".to_owned();
            copies.extend(copy(each, default_within, complaints));
        }
    }
    for (number, one) in copies.iter().enumerate() {
        if copies.iter().take(number).any(|other| other.value.region == one.value.region) {
            let message = format!("{} is named twice", shown(&one.value.region));
            complaints.push(Complaint::new(message, one.span.clone()).help("one copy a Region"));
        }
    }
    let share = share(&mut table, &copies, complaints);
    let deprecate_after = deprecation(&mut table, share.everybody, complaints);
    let protection = protection(&mut table, complaints);
    let parameters = table.strings("parameters", complaints).unwrap_or_default();
    for (number, name) in parameters.iter().enumerate() {
        check_parameter(name, complaints);
        if parameters.iter().take(number).any(|other| other.value == name.value) {
            complaints.push(Complaint::new("the same parameter twice", name.span.clone()));
        }
    }
    table.finish(complaints);
    let copies = copies.into_iter().map(|copy| copy.value).collect();
    // Which `[image]` says.
    let collision = Collision::default();
    PublishSpec { targets: Targets { copies, share, deprecate_after, protection, collision }, parameters }
}

fn copy(
    mut table: Table,
    default_within: Option<u32>,
    complaints: &mut Complaints,
) -> Option<Spanned<CopySpec>> {
    let region = table.string("region", complaints);
    if table.get("region").is_none() {
        complaints.missing(
            Complaint::new("[[publish.copy]] has no `region`", table.span.clone())
                .help("say where to: region = \"eu-west-1\""),
        );
    }
    if let Some(region) = &region {
        check_region(region, complaints);
    }
    let kms_key = table.string("kms_key", complaints);
    let encrypted = table.bool("encrypted", complaints);
    let within = within("within", &mut table, complaints).or(default_within);
    if let Some(key) = &kms_key {
        check_key(key, region.as_ref(), complaints);
        if encrypted == Some(false) {
            let message = "a copy with a `kms_key` is encrypted";
            complaints
                .push(Complaint::new(message, key.span.clone()).help("leave out `encrypted`, or `kms_key`"));
        }
    }
    table.finish(complaints);
    let region = region?;
    let encrypted = encrypted.unwrap_or(kms_key.is_some());
    let kms_key = kms_key.map(|key| key.value);
    Some(Spanned { value: CopySpec { region: region.value, kms_key, encrypted, within }, span: region.span })
}

/// A time-based copy takes 15 minutes to 48 hours, in steps of 15 minutes (CopyImage's documentation); in minutes.
fn within(key: &str, table: &mut Table, complaints: &mut Complaints) -> Option<u32> {
    let given = table.duration(key, complaints)?;
    let minutes = given.value / 60;
    if !given.value.is_multiple_of(900) || !(15..=2880).contains(&minutes) {
        complaints.push(
            Complaint::new(format!("`{key}` is 15 minutes to 48 hours, in steps of 15 minutes"), given.span)
                .help("\"15m\", \"1h30m\", \"48h\"; without it the copy takes the time that it takes"),
        );
        return None;
    }
    u32::try_from(minutes).ok()
}

fn check_region(region: &Spanned<String>, complaints: &mut Complaints) {
    let name = region.value.as_str();
    if is_region(name) {
        return;
    }
    let complaint = Complaint::new(format!("`{}` is no Region", shown(name)), region.span.clone());
    let zone_of = name.strip_suffix(|c: char| c.is_ascii_lowercase()).filter(|rest| is_region(rest));
    complaints.push(match zone_of {
        Some(region) => complaint.help(format!("it is a zone; its Region is `{region}`")),
        None => complaint.help("as eu-west-1 or ap-southeast-2"),
    });
}

/// Whether a text has the form of a Region's name: `eu-west-1`, `us-gov-east-1`, `eusc-de-east-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    match parts.split_last() {
        Some((number, names)) => {
            names.len() >= 2
                && names.iter().all(letters)
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => false,
    }
}

/// A key is named by its id, an alias or an ARN of either; keys are a Region's own.
fn check_key(key: &Spanned<String>, region: Option<&Spanned<String>>, complaints: &mut Complaints) {
    let name = match key.value.strip_prefix("arn:") {
        None => key.value.as_str(),
        Some(rest) => {
            let parts: Vec<&str> = rest.splitn(5, ':').collect();
            let [partition, "kms", of, account, name] = parts.as_slice() else {
                return wrong_key(key, complaints);
            };
            if !partition.starts_with("aws") || !is_account(account) {
                return wrong_key(key, complaints);
            }
            if let Some(region) = region
                && *of != region.value
            {
                complaints.push(
                    Complaint::new(
                        format!("this key is of {}, the copy is in {}", shown(of), shown(&region.value)),
                        key.span.clone(),
                    )
                    .help("a copy is encrypted with a key of its own Region"),
                );
            }
            name.strip_prefix("key/").unwrap_or(name)
        }
    };
    let id = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let good = match (name.strip_prefix("alias/"), name.strip_prefix("mrk-")) {
        (Some(alias), _) => {
            !alias.is_empty() && alias.chars().all(|c| c.is_ascii_alphanumeric() || "/_-".contains(c))
        }
        (_, Some(multi)) => multi.len() == 32 && id(multi),
        _ => name.len() == 36 && id(name),
    };
    if !good {
        wrong_key(key, complaints);
    }
}

fn wrong_key(key: &Spanned<String>, complaints: &mut Complaints) {
    complaints.push(
        Complaint::new(format!("`{}` is no KMS key", shown(&key.value)), key.span.clone())
            .help("an alias (alias/images), a key's id, or the ARN of either"),
    );
}

fn share(table: &mut Table, copies: &[Spanned<CopySpec>], complaints: &mut Complaints) -> Share {
    let accounts = table.strings("accounts", complaints).unwrap_or_default();
    for account in &accounts {
        if !is_account(&account.value) {
            complaints.push(
                Complaint::new(format!("`{}` is no account", shown(&account.value)), account.span.clone())
                    .help("an account's 12 digits, in quotes"),
            );
        }
    }
    let organizations = table.strings("organizations", complaints).unwrap_or_default();
    let units = table.strings("organizational_units", complaints).unwrap_or_default();
    for (arns, kind, example) in [
        (&organizations, "organization/", "arn:aws:organizations::123456789012:organization/o-abcdefghij"),
        (&units, "ou/", "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-abcd-12345678"),
    ] {
        for arn in arns.iter().filter(|arn| !is_organizations_arn(&arn.value, kind)) {
            let what = if kind == "ou/" { "an organizational unit" } else { "an organization" };
            complaints.push(
                Complaint::new(format!("`{}` is no ARN of {what}", shown(&arn.value)), arn.span.clone())
                    .help(format!("as {example}")),
            );
        }
    }
    let everybody = everybody(table, copies, complaints);
    let snapshots = table.bool("snapshots", complaints).unwrap_or(true);
    let plain = |those: Vec<Spanned<String>>| those.into_iter().map(|one| one.value).collect();
    Share {
        accounts: plain(accounts),
        organizations: plain(organizations),
        organizational_units: plain(units),
        everybody,
        snapshots,
    }
}

/// Public takes two words: the group `all`, and `public = true`.
fn everybody(table: &mut Table, copies: &[Spanned<CopySpec>], complaints: &mut Complaints) -> bool {
    let groups = table.strings("groups", complaints).unwrap_or_default();
    for group in groups.iter().filter(|group| group.value != "all") {
        complaints.push(
            Complaint::new(format!("EC2 has no group `{}`", shown(&group.value)), group.span.clone())
                .help("the one group is `all`, everybody; organizations and accounts have keys of their own"),
        );
    }
    let all = groups.iter().find(|group| group.value == "all");
    let public = table.bool("public", complaints);
    let key = table.entry("public").map(|(key, _)| key.span.clone());
    match (all, public, key) {
        (Some(all), None | Some(false), _) => {
            complaints.push(
                Complaint::new("everybody could launch this image and read its disk", all.span.clone())
                    .label("all accounts of AWS")
                    .help("if that is meant, say `public = true` too"),
            );
        }
        (None, Some(true), Some(span)) => {
            complaints.push(
                Complaint::new("`public = true` alone shares nothing", span)
                    .help("if everybody is to have the image, say `groups = [\"all\"]` too"),
            );
        }
        _ => {}
    }
    let is_public = all.is_some() && public == Some(true);
    if is_public {
        for copy in copies.iter().filter(|copy| copy.value.encrypted) {
            complaints.push(
                Complaint::new("an encrypted copy can't be public", copy.span.clone())
                    .help("leave out its `kms_key` and `encrypted`, or share with accounts instead"),
            );
        }
    }
    is_public
}

pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_organizations_arn(text: &str, kind: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "organizations", "", account, resource] = parts.as_slice() else { return false };
    let fits = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let path: Vec<&str> = resource.strip_prefix(kind).unwrap_or_default().split('/').collect();
    let good = match (kind, path.as_slice()) {
        ("ou/", [root, unit]) => root.starts_with("o-") && unit.starts_with("ou-"),
        ("organization/", [root]) => root.starts_with("o-"),
        _ => false,
    };
    partition.starts_with("aws") && is_account(account) && good && path.iter().all(|part| fits(part))
}

/// EC2 takes ten years at most, and two of a public image (EnableImageDeprecation's documentation).
fn deprecation(table: &mut Table, public: bool, complaints: &mut Complaints) -> Option<u64> {
    let after = table.duration("deprecate_after", complaints)?;
    let (most, words) = if public { (730, "two years, of a public image") } else { (3650, "ten years") };
    if after.value < 60 || after.value > most * DAY {
        complaints.push(
            Complaint::new(format!("`deprecate_after` is a minute to {words}"), after.span.clone())
                .help(format!("\"90d\", at most \"{most}d\"")),
        );
    }
    Some(after.value)
}

fn protection(table: &mut Table, complaints: &mut Complaints) -> Option<Protection> {
    const KEY: &str = "deregistration_protection";
    const WORDS: [&str; 2] = ["with-cooldown", "without-cooldown"];
    if let Some(Spanned { value: RawValue::Boolean(on), .. }) = table.get(KEY) {
        return on.then_some(Protection::WithoutCooldown);
    }
    let word = table.string(KEY, complaints)?;
    match word.value.as_str() {
        "with-cooldown" => Some(Protection::WithCooldown),
        "without-cooldown" => Some(Protection::WithoutCooldown),
        other => {
            let complaint = Complaint::new(format!("unknown `{KEY}` `{}`", shown(other)), word.span.clone());
            complaints.push(match did_you_mean(other, &WORDS) {
                Some(near) => complaint.help(format!("did you mean `{near}`?")),
                None => complaint.help(format!("{}, true or false", listed(&WORDS))),
            });
            None
        }
    }
}

/// Whether a character may be in a parameter's name (PutParameter's documentation); `/` is between its parts.
pub(crate) fn allowed_in_parameter(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_.-/".contains(character)
}

fn check_parameter(name: &Spanned<String>, complaints: &mut Complaints) {
    template("the parameter's name", name, 1011, complaints);
    if let Some((place, character)) =
        literals(&name.value).find(|(_, character)| !allowed_in_parameter(*character))
    {
        let span = complaints.within(name, place..place + character.len_utf8());
        complaints.push(
            Complaint::new(format!("{character:?} can't be in a parameter's name"), span)
                .help("letters, digits and _ . - can, with / between its parts"),
        );
    } else if let Err(why) = judge_parameter(&name.value.replace(['{', '}', ':'], "")) {
        complaints.push(Complaint::new(why, name.span.clone()).help("as /images/web/{arch}/latest"));
    }
}

/// Judges a parameter's name, all filled in.
///
/// # Errors
/// What SSM would refuse it for.
pub fn judge_parameter(name: &str) -> Result<(), String> {
    let parts: Vec<&str> = name.trim_start_matches('/').split('/').collect();
    let first = parts.first().map(|part| part.to_ascii_lowercase()).unwrap_or_default();
    Err(if let Some(character) = name.chars().find(|character| !allowed_in_parameter(*character)) {
        format!("the parameter's name {name:?} holds {character:?}")
    } else if parts.len() > 1 && !name.starts_with('/') {
        "a parameter's name with parts begins with /".to_owned()
    } else if parts.iter().any(|part| part.is_empty()) || name.starts_with("//") {
        "a part of the parameter's name is empty".to_owned()
    } else if parts.len() > 15 {
        "a parameter's name has at most 15 parts".to_owned()
    } else if first.starts_with("aws") || first.starts_with("ssm") {
        "names of parameters that begin with aws or ssm are AWS's own".to_owned()
    } else if name.len() > 1011 {
        "a parameter's name has at most 1011 characters".to_owned()
    } else {
        return Ok(());
    })
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
