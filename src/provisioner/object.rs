//! Objects of S3 that a recipe names.

use std::fmt;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

/// An object of S3, perhaps pinned to what it was when the plan was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Object {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its version id, where the recipe says one or the bucket keeps versions.
    pub version: Option<String>,
    /// Its ETag, where it has no version.
    pub etag: Option<String>,
    /// The bucket's Region, once asked.
    pub region: Option<String>,
}

impl Object {
    /// What it is, in words that differ where its content may.
    pub fn identity(&self) -> String {
        let what = self.version.as_ref().map(|version| format!("version {version}"));
        let what = what.or_else(|| self.etag.as_ref().map(|etag| format!("ETag {etag}")));
        format!("s3://{}/{}\n{}", self.bucket, self.key, what.unwrap_or_default())
    }

    /// Where what is pinned is kept among the downloads, without a checksum to go by.
    pub fn place(&self) -> PathBuf {
        PathBuf::from("s3").join(format!("{:x}", Sha256::digest(self.identity())))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)?;
        match (&self.version, &self.etag) {
            (Some(version), _) => write!(f, " (version {version})"),
            (None, Some(etag)) => write!(f, " (ETag {})", etag.trim_matches('"')),
            (None, None) => Ok(()),
        }
    }
}
