//! `GetParameters` of SSM.

use super::api::Api;
use super::explain::{Trouble, explain};

/// How many one call takes.
pub(super) const MOST: usize = 10;

impl Api {
    /// The values of at most [`MOST`] parameters, by name; those that are gone by now are left out.
    pub(super) async fn get_parameters(&self, names: &[String]) -> Result<Vec<(String, String)>, Trouble> {
        let answer = self
            .ssm
            .get_parameters()
            .set_names(Some(names.to_vec()))
            .send()
            .await
            .map_err(|error| explain("ssm:GetParameters", &self.region, error))?;
        let read = answer.parameters().iter();
        Ok(read.filter_map(|one| Some((one.name()?.to_owned(), one.value()?.to_owned()))).collect())
    }
}
