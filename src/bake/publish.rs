//! After registration: the image is published. Whatever goes wrong here, the image is good.

use anyhow::Result;

use super::Kitchen;
use super::verbs::Registered;
use crate::cloud::publish::{How, InRegion, Published};
use crate::error::{Failure, Kind};
use crate::journal::Journal;
use crate::plan::{Late, MainPackage, NamePlan, Plan, PublishPlan, Publishing};
use crate::report::result::{Baked, seconds};

/// The journal's note that an image is to be published; it says with which words `publish` does so.
pub const PUBLISH: &str = "publish";

impl Kitchen<'_> {
    /// Fills in what was open, and looks whether a name that was open too is free wherever a copy goes.
    pub(super) async fn settle_publishing(
        &self,
        publish: &PublishPlan,
        main: Option<&MainPackage>,
        late: &Late,
        plan: &Plan,
    ) -> Result<Publishing> {
        let publishing = publish.settle(main)?;
        if matches!(plan.image.name, NamePlan::AfterInstall(_)) {
            self.cloud.check_publishing(&publishing.targets, Some(&late.name)).await?;
        }
        Ok(publishing)
    }

    /// Publishes an image; what it came to, and that something is missing.
    pub(super) async fn publish(
        &self,
        image: Registered,
        journal: &Journal,
    ) -> (Baked, Option<anyhow::Error>) {
        let Registered { mut baked, publishing } = image;
        let mut failure = None;
        if let Some(publishing) = publishing {
            baked.published = self.everywhere(&baked, &publishing, journal).await;
            failure = baked.published.as_ref().and_then(|published| {
                let id = &baked.image;
                incomplete(id, published, &format!("bakehouse publish {id} {}", publishing.again))
            });
        }
        baked.seconds = seconds(&self.reporter.phases(), self.reporter.elapsed());
        baked.api_calls = self.cloud.calls();
        (baked, failure)
    }

    async fn everywhere(
        &self,
        baked: &Baked,
        publishing: &Publishing,
        journal: &Journal,
    ) -> Option<Published> {
        match self.cloud.publishable(&baked.image).await {
            Ok(None) => None,
            Ok(Some(image)) => {
                self.reporter.phase("publish", &baked.image);
                let heard = |text: &str| self.reporter.note(text);
                let how = How { act: true, journal: Some(journal), stop: self.stop, heard: &heard };
                Some(self.cloud.publish(&image, publishing, &how).await)
            }
            Err(error) => {
                let there = InRegion {
                    image: Some(baked.image.clone()),
                    missing: vec!["all of [publish]".to_owned()],
                    failures: vec![format!("{error:#}")],
                    ..InRegion::default()
                };
                Some(Published { regions: [(baked.region.clone(), there)].into() })
            }
        }
    }
}

/// That publishing is not complete, where it is not: what is done, what is missing and why, and the command that
/// finishes it. Nothing does where another image has replaced this one ([`Kind::Name`]).
pub fn incomplete(image: &str, published: &Published, again: &str) -> Option<anyhow::Error> {
    if published.is_complete() {
        return None;
    }
    let is_superseded = published.is_superseded();
    let mut text = match is_superseded {
        true => format!("another image has replaced {image} while it was published"),
        false => format!("the image {image} is good, but publishing it is not complete"),
    };
    for (region, there) in &published.regions {
        let lists = [("done", &there.done), ("missing", &there.missing), ("because", &there.failures)];
        let mut lines = lists.into_iter().filter(|(_, list)| !list.is_empty()).peekable();
        if lines.peek().is_none() {
            text.push_str(&format!("\n{region}: complete"));
        }
        for (what, list) in lines {
            text.push_str(&format!("\n{region}: {what}: {}", list.join("; ")));
        }
    }
    let failure = match is_superseded {
        true => Failure::new(Kind::Name, text).hint("bake again where this one's content is wanted"),
        false => Failure::new(Kind::Publish, text)
            .hint(format!("once the causes are gone, finish it with `{again}`")),
    };
    Some(failure.into())
}
