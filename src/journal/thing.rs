//! What a bake may own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::BakeId;

/// A thing that a bake makes and that somebody would have to pay for, or clean up, if it were forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "thing", rename_all = "kebab-case")]
pub enum Thing {
    /// An EBS volume; its client token finds it.
    Volume {
        /// The Region.
        region: String,
        /// The client token of CreateVolume.
        token: String,
    },
    /// A volume's attachment to this instance.
    Attachment {
        /// The Region.
        region: String,
        /// `vol-…`.
        volume: String,
        /// `i-…`.
        instance: String,
        /// `/dev/sdf`.
        device: String,
    },
    /// A snapshot; its volume and bake find it.
    Snapshot {
        /// The Region.
        region: String,
        /// `vol-…`.
        volume: String,
        /// The bake, as the snapshot's tag `bakehouse:bake` has it.
        bake: BakeId,
    },
    /// An image; its name and bake find it.
    Image {
        /// The Region; `local` for the store.
        region: String,
        /// The name.
        name: String,
        /// The bake, as the image's tag `bakehouse:bake` has it: an image of that name which another bake
        /// registered meanwhile is not this one's to undo.
        bake: BakeId,
    },
    /// A copy of a finished image in another Region. No journal undoes it: `publish` finds it again by its name and
    /// finishes it. One that was made to take another image's place goes once an image of its snapshots has the name.
    Copy {
        /// The Region of the copy.
        region: String,
        /// Its name: the image's, or `copy-of-…` where it is to take the place of an image that has that.
        name: String,
        /// `ami-…`: what it is a copy of.
        source: String,
    },
    /// The image under the bake's id that a bake registers before it replaces another; its name and bake find it.
    Provisional {
        /// The Region.
        region: String,
        /// The bake.
        bake: BakeId,
    },
    /// An image of somebody else's that the bake's takes the place of. To be let go of, once the bake's own has
    /// its name; until then a journal that owns one is to be gone on with, not undone.
    Replaced {
        /// The Region; `local` for the store.
        region: String,
        /// The name.
        name: String,
        /// Its id.
        image: String,
        /// Its snapshots that are to be deleted.
        snapshots: Vec<String>,
    },
    /// A file or folder of the local store.
    StoreFile {
        /// Absolute.
        path: PathBuf,
    },
}

impl Thing {
    /// Whether it is the image that a bake is for: on the local store, the record of one.
    pub fn is_image(&self) -> bool {
        match self {
            Self::Image { .. } => true,
            Self::StoreFile { path } => {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("img-"))
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume { region, .. } => write!(f, "volume in {region}"),
            Self::Attachment { volume, device, .. } => write!(f, "attachment of {volume} as {device}"),
            Self::Snapshot { volume, .. } => write!(f, "snapshot of {volume}"),
            Self::Image { name, .. } => write!(f, "image {name}"),
            Self::Copy { region, source, .. } => write!(f, "copy of {source} in {region}"),
            Self::Provisional { bake, .. } => write!(f, "provisional image {bake}"),
            Self::Replaced { name, image, .. } => write!(f, "replaced image {name} ({image})"),
            Self::StoreFile { path } => write!(f, "{}", path.display()),
        }
    }
}
