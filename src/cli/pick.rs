//! Images picked by name and tags.

use crate::cloud::shelf::Stock;
use crate::recipe::matches_glob;

/// Flags that pick images. All that are given must fit.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Pick {
    /// The images of these names: * and ? are any characters and one
    #[arg(long, value_name = "GLOB")]
    pub name: Option<String>,
    /// The images with this tag, the value a glob; repeatable, all must fit
    #[arg(long = "tag", value_name = "KEY[=VALUE]")]
    pub tags: Vec<String>,
}

impl Pick {
    /// Whether no flag is given.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.tags.is_empty()
    }

    /// Whether an image fits.
    pub fn fits(&self, image: &Stock) -> bool {
        let tagged = |wanted: &String| match wanted.split_once('=') {
            Some((key, glob)) => image.image.tags.get(key).is_some_and(|value| matches_glob(glob, value)),
            None => image.image.tags.contains_key(wanted),
        };
        self.name.as_ref().is_none_or(|glob| matches_glob(glob, &image.image.name))
            && self.tags.iter().all(tagged)
    }
}
