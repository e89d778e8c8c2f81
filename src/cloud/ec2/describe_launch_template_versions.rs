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
        match self.versions(template, true).await {
            // One version whose parameter is gone must not hide the others: its own name of an image is no id.
            Err(trouble) if trouble.is(&["InvalidParameterValue"]) => self.versions(template, false).await,
            Err(trouble) if trouble.is(&["InvalidLaunchTemplateId.NotFound"]) => Ok(Vec::new()),
            other => other,
        }
    }

    async fn versions(&self, template: &str, resolve: bool) -> Result<Vec<LaunchTemplateVersion>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .ec2
                .describe_launch_template_versions()
                .launch_template_id(template)
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
