//! The document that says what an image holds and where it came from.

use super::{Difference, Inventory};

/// What is written beside an image, and what `--output json` is made from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    /// The document's version: 1. Fields are only ever added to a version.
    pub format: u32,
    /// The bake.
    pub bake: String,
    /// The version of Bakehouse.
    pub tool: String,
    /// The base's image id or name, else its snapshot.
    pub base: String,
    /// SHA-256 of the recipe and of every local file that it names, hexadecimal.
    pub recipe_digest: String,
    /// Every package of the image.
    pub packages: Inventory,
    /// What differs from the base.
    pub difference: Difference,
}

impl Manifest {
    /// The manifest of `plan`'s image, from the inventories of the base and of the provisioned root.
    pub fn new(plan: &crate::plan::Plan, before: &Inventory, after: Inventory) -> Self {
        Self {
            format: 1,
            bake: plan.bake.to_string(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            base: plan.base.id().to_owned(),
            recipe_digest: plan.recipe_digest.clone(),
            difference: Difference::between(before, &after),
            packages: after,
        }
    }
}
