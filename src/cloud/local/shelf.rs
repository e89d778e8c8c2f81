//! The store's images as a [`Shelf`].

use anyhow::Result;
use async_trait::async_trait;

use super::Store;
use super::record::Record;
use crate::cloud::shelf::{Action, Held, Shelf, Stock, Use};

#[async_trait]
impl Shelf for Store {
    fn region(&self) -> &str {
        "local"
    }

    async fn stock(&self) -> Result<Vec<Stock>> {
        let records = self.clone().blocking(|store| store.records()).await?;
        Ok(records.iter().map(stocked).collect())
    }

    async fn image(&self, id: &str) -> Result<Option<Stock>> {
        let records = self.clone().blocking(|store| store.records()).await?;
        Ok(records.iter().find(|record| record.id == id).map(stocked))
    }

    async fn uses(&self, _images: &[String]) -> Result<Vec<Use>> {
        Ok(Vec::new())
    }

    async fn shares(&self, _image: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn can(&self, action: Action) -> bool {
        action == Action::Deregister
    }

    async fn retire(&self, image: &Stock, _action: Action) -> Result<()> {
        let id = image.image.id.clone();
        self.clone().blocking(move |store| store.remove_if_known(&id)).await
    }
}

fn stocked(record: &Record) -> Stock {
    Stock {
        image: record.summary(),
        region: "local".to_owned(),
        description: record.description.clone(),
        snapshots: vec![Held { id: record.snapshot.clone(), size: record.size, ours: true }],
        deprecated: None,
        protection: None,
        copy_of: None,
        public: false,
        last_launched: None,
    }
}
