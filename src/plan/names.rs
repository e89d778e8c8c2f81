//! Images' names: whether one will do, and what another is called where it is taken.

use super::{NamePlan, Plan};
use crate::error::{Failure, Kind};
use crate::recipe::template::{LONGEST_NAME, check_image_name};

/// Judges an image's name, all filled in.
pub fn judge_name(name: &str) -> Result<(), Failure> {
    check_image_name(name).map_err(|why| {
        Failure::new(Kind::Name, why).hint("mend [image] name, or what the words in braces stand for")
    })
}

/// That a name is taken already.
pub fn name_taken(name: &str, by: &str) -> Failure {
    Failure::new(Kind::Name, format!("the image name {name} is taken by {by}")).hint(
        "give another name, put {time} in it, or say what becomes of the old image: --replace, or --suffix for a number behind the name",
    )
}

/// That an image cannot be replaced, in another Region where one is named: it is protected from being deregistered,
/// `how` in EC2's words.
pub fn protected(name: &str, image: &str, region: Option<&str>, how: &str) -> Failure {
    let there = region.map(|region| format!(" in {region}")).unwrap_or_default();
    let message = format!(
        "the image name {name} is taken by {image}{there}, which cannot be replaced: it is protected from being deregistered ({how})"
    );
    Failure::new(Kind::Name, message).hint(format!("{}, or give another name", end_protection(image, region)))
}

/// How the protection of an image from being deregistered is ended, in another Region where one is named.
pub fn end_protection(image: &str, region: Option<&str>) -> String {
    let region = region.map(|region| format!(" --region {region}")).unwrap_or_default();
    format!(
        "end the protection (aws ec2 disable-image-deregistration-protection --image-id {image}{region}; one with a cool-down holds for a day more)"
    )
}

/// The name with a number behind it, from 2.
///
/// # Errors
/// [`Kind::Name`] where it is then too long.
pub fn suffixed(name: &str, number: u32) -> Result<String, Failure> {
    let numbered = format!("{name}-{number}");
    if numbered.chars().count() <= LONGEST_NAME {
        return Ok(numbered);
    }
    let message = format!("the image name {name} is taken, and leaves no room for a number");
    Err(Failure::new(Kind::Name, message).hint("shorten [image] name"))
}

/// A description of an image that gets another name: where it says the name, it says the new one.
pub fn renamed(description: &str, old: &str, new: &str) -> String {
    super::make::cut(&in_place(description, old, new), super::make::DESCRIPTION_MOST)
}

fn in_place(description: &str, old: &str, new: &str) -> String {
    let named = |name: &str| format!("name={name}, arch=");
    description.replacen(&named(old), &named(new), 1)
}

impl Plan {
    /// Gives the image another name than the one that was settled.
    pub fn rename(&mut self, old: &str, new: String) {
        for (text, open) in [
            (&mut self.image.description, self.image.open_description),
            (&mut self.snapshot.description, self.snapshot.open_description),
        ] {
            // In a template a name stands as it is, for none holds a brace; it is cut when it is filled in.
            let named = in_place(text, old, &new);
            *text = if open { named } else { super::make::cut(&named, super::make::DESCRIPTION_MOST) };
        }
        self.image.unnumbered = Some(old.to_owned());
        self.image.name = NamePlan::Settled(new);
    }
}
