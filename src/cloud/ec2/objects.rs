//! Objects of S3: found, pinned to what they are now, and fetched with the builder's own credentials.

use std::path::Path;

use anyhow::{Context as _, Result};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use tokio::io::AsyncWriteExt as _;

use super::Ec2;
use super::api::Api;
use super::explain::Trouble;
use super::retry::insist;
use crate::error::{Failure, Kind};
use crate::folder::with_folder;
use crate::provisioner::Object;
use crate::stop::Stop;

/// An answer, or the Region that the bucket is in.
pub(super) enum Home<T> {
    Here(T),
    In(String),
}

/// The Region that a bucket is in, where an answer says another than the one that was asked.
pub(super) fn home_of<E>(error: &SdkError<E, HttpResponse>, asked: &str) -> Option<String> {
    let region = error.raw_response()?.headers().get("x-amz-bucket-region")?;
    (region != asked).then(|| region.to_owned())
}

impl Ec2 {
    /// The same object, with its version id, or its ETag where the bucket keeps no versions: what is fetched later is
    /// this, or nothing.
    ///
    /// # Errors
    /// [`Kind::Recipe`] where there is no such object; those of the call.
    pub async fn pin_object(&self, object: &Object) -> Result<Object> {
        let mut api = self.api.clone();
        let asked = loop {
            match insist(self.effort(None), || api.head_object(object)).await {
                Ok(Home::Here(found)) => break Ok(found),
                Ok(Home::In(region)) if region != api.region => api = self.regions.api(&region),
                Ok(Home::In(region)) => anyhow::bail!("{object}: {region} says that it is in {region}"),
                Err(trouble) => break Err(trouble),
            }
        };
        let (version, etag) = asked.map_err(|trouble| told(trouble, object))?;
        let mut pinned = Object { region: Some(api.region), ..object.clone() };
        match version.or_else(|| object.version.clone()) {
            Some(version) => pinned.version = Some(version),
            None => pinned.etag = etag,
        }
        Ok(pinned)
    }

    /// Writes an object's content to a file that is not there yet. It appears whole, or not at all.
    ///
    /// # Errors
    /// [`Kind::Recipe`] where there is no such object, or another than when it was pinned; that stopping was asked for.
    pub async fn fetch_object(&self, object: &Object, target: &Path, stop: &Stop) -> Result<()> {
        let folder = target.parent().context("a download needs a folder")?;
        let api = match &object.region {
            Some(region) => self.regions.api(region),
            None => self.api.clone(),
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let body = open(self, &api, object).await?;
            match stop.race(write(body, folder, target)).await {
                Err(error) if tries < self.settings.tries && broke_off(&error) => {
                    tracing::debug!("{object} broke off, fetching it again: {error:#}");
                }
                done => return done.with_context(|| format!("fetching {object}")),
            }
        }
    }
}

async fn open(ec2: &Ec2, api: &Api, object: &Object) -> Result<ByteStream> {
    match insist(ec2.effort(None), || api.get_object(object)).await {
        Ok(Home::Here(body)) => Ok(body),
        Ok(Home::In(region)) => {
            let message = format!("fetching {object}: its bucket has moved to {region}");
            Err(Failure::new(Kind::Cloud, message).hint("bake again").into())
        }
        Err(trouble) => Err(told(trouble, object)),
    }
}

/// The connection broke while the content came.
#[derive(Debug, thiserror::Error)]
#[error("the content broke off: {0}")]
struct BrokeOff(String);

fn broke_off(error: &anyhow::Error) -> bool {
    error.downcast_ref::<BrokeOff>().is_some()
}

async fn write(mut body: ByteStream, folder: &Path, target: &Path) -> Result<()> {
    let what = || format!("writing {}", target.display());
    let new = || tempfile::Builder::new().prefix(".download-").tempfile_in(folder);
    let file = with_folder(folder, new).with_context(what)?;
    let mut to = tokio::fs::File::from_std(file.reopen().with_context(what)?);
    loop {
        match body.try_next().await {
            Ok(Some(chunk)) => to.write_all(&chunk).await.with_context(what)?,
            Ok(None) => break,
            Err(error) => return Err(BrokeOff(super::explain::chain(&error)).into()),
        }
    }
    to.sync_all().await.with_context(what)?;
    file.persist(target).with_context(what)?;
    Ok(())
}

/// A refusal in words of the recipe's.
fn told(trouble: Trouble, object: &Object) -> anyhow::Error {
    let code = trouble.code.clone().unwrap_or_default();
    let (message, hint) = match code.as_str() {
        "NoSuchBucket" => (format!("there is no bucket {}", object.bucket), "see the bucket's name"),
        "NoSuchKey" | "NoSuchVersion" | "NotFound" => {
            (format!("there is no {object}"), "see its key and its version")
        }
        "PreconditionFailed" => (
            format!("{object} was replaced since the plan was made"),
            "bake again; with a version or a sha256 the recipe says which one it means",
        ),
        _ => {
            return trouble.into_error().context(format!(
                "asking for {object} (without s3:ListBucket, S3 refuses what is not there too)"
            ));
        }
    };
    Failure::new(Kind::Recipe, message).hint(hint).into()
}
