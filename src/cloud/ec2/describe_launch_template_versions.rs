//! `DescribeLaunchTemplateVersions`: every version, for a group may be bound to any of them.

use aws_sdk_ec2::types::LaunchTemplateVersion;

use super::api::Api;
use super::explain::{Trouble, explain};

impl Api {
    /// All versions of a launch template, `resolve:ssm:` resolved. One that is gone by now has none.
    pub(super) async fn template_versions(
        &self,
        template: &str,
    ) -> Result<Vec<LaunchTemplateVersion>, Trouble> {
        match self.versions(template, None, true).await {
            // One version whose parameter is gone must not hide the others: each is asked for alone.
            Err(trouble) if trouble.is(&["InvalidParameterValue"]) => self.one_by_one(template).await,
            Err(trouble) if trouble.is(&["InvalidLaunchTemplateId.NotFound"]) => Ok(Vec::new()),
            other => other,
        }
    }

    /// What cannot be resolved stays as it is: no image's id.
    async fn one_by_one(&self, template: &str) -> Result<Vec<LaunchTemplateVersion>, Trouble> {
        let mut all = self.versions(template, None, false).await?;
        for version in &mut all {
            let image = version.launch_template_data().and_then(|data| data.image_id());
            let (Some(number), Some(_)) =
                (version.version_number(), image.filter(|image| image.starts_with("resolve:")))
            else {
                continue;
            };
            match self.versions(template, Some(number), true).await {
                Ok(found) => {
                    if let Some(found) = found.into_iter().next() {
                        *version = found;
                    }
                }
                Err(trouble) if trouble.is(&["InvalidParameterValue"]) => {}
                // It went meanwhile.
                Err(trouble) if trouble.is(&["InvalidLaunchTemplateId.VersionNotFound"]) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(all)
    }

    /// One version of a launch template, or all.
    async fn versions(
        &self,
        template: &str,
        number: Option<i64>,
        resolve: bool,
    ) -> Result<Vec<LaunchTemplateVersion>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_launch_template_versions()
                .launch_template_id(template)
                .set_versions(number.map(|number| vec![number.to_string()]))
                .resolve_alias(resolve)
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| explain("ec2:DescribeLaunchTemplateVersions", &self.region, error))?;
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            all.extend(page.launch_template_versions.unwrap_or_default());
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}
