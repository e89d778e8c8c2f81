//! A policy's statements, and the ARNs in them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::capture::BAKE_TAG;
use super::Builders;

/// One statement of a policy.
pub(super) struct Statement {
    sid: &'static str,
    actions: Vec<&'static str>,
    resources: Vec<String>,
    /// Operator, key, values.
    conditions: Vec<(&'static str, String, Vec<String>)>,
}

impl Statement {
    pub(super) fn new(sid: &'static str, actions: &[&'static str], resources: Vec<String>) -> Self {
        Self { sid, actions: actions.to_vec(), resources, conditions: Vec::new() }
    }

    pub(super) fn when(mut self, operator: &'static str, key: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.conditions.push((operator, key.to_owned(), values));
        self
    }

    /// On what a bake tagged.
    pub(super) fn ours(self) -> Self {
        self.when("StringLike", &format!("aws:ResourceTag/{BAKE_TAG}"), &["bake-*"])
    }

    /// Making what is tagged as a bake's from the start.
    pub(super) fn tagged(self) -> Self {
        self.when("StringLike", &format!("aws:RequestTag/{BAKE_TAG}"), &["bake-*"])
    }

    pub(super) fn document(&self) -> Value {
        let mut document = json!({
            "Sid": self.sid, "Effect": "Allow", "Action": self.actions, "Resource": self.resources,
        });
        let mut conditions: BTreeMap<&str, BTreeMap<&str, &Vec<String>>> = BTreeMap::new();
        for (operator, key, values) in &self.conditions {
            conditions.entry(operator).or_default().insert(key, values);
        }
        if let (Some(fields), false) = (document.as_object_mut(), conditions.is_empty()) {
            fields.insert("Condition".to_owned(), json!(conditions));
        }
        document
    }
}

/// ARNs.
pub(super) struct Names<'a> {
    pub(super) builders: &'a Builders,
}

impl Names<'_> {
    pub(super) fn home(&self) -> &str {
        self.builders.region.as_deref().unwrap_or("*")
    }

    pub(super) fn account(&self) -> &str {
        self.builders.account.as_deref().unwrap_or("*")
    }

    pub(super) fn arn(&self, service: &str, region: &str, account: &str, rest: &str) -> String {
        let partition = match region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            "*" => "*",
            _ => "aws",
        };
        format!("arn:{partition}:{service}:{region}:{account}:{rest}")
    }

    /// Images and snapshots are named without an account.
    pub(super) fn all(&self, regions: &[&str], kind: &str) -> Vec<String> {
        regions.iter().map(|region| self.arn("ec2", region, "", &format!("{kind}/*"))).collect()
    }

    pub(super) fn volumes(&self) -> Vec<String> {
        vec![self.arn("ec2", self.home(), self.account(), "volume/*")]
    }

    pub(super) fn instances(&self) -> Vec<String> {
        let named = self.builders.instances.iter().map(String::as_str);
        let ids: Vec<_> = if self.builders.instances.is_empty() { vec!["*"] } else { named.collect() };
        let arn = |id: &str| self.arn("ec2", self.home(), self.account(), &format!("instance/{id}"));
        ids.into_iter().map(arn).collect()
    }

    /// A parameter of the builder's Region by its name or its ARN, without the version or label behind it.
    pub(super) fn parameter(&self, name: &str) -> String {
        if name.starts_with("arn:") {
            return name.split(':').take(6).collect::<Vec<_>>().join(":");
        }
        let name = name.split(':').next().unwrap_or_default().to_owned();
        self.parameters(&[self.home()], &[name]).concat()
    }

    /// Parameters are named without the slash that their names begin with.
    pub(super) fn parameters(&self, regions: &[&str], names: &[String]) -> Vec<String> {
        let mut arns = Vec::new();
        for region in regions {
            for name in names {
                let account = if name.starts_with("/aws/") { "" } else { self.account() };
                let rest = format!("parameter/{}", name.trim_start_matches('/'));
                arns.push(self.arn("ssm", region, account, &rest));
            }
        }
        arns
    }
}
