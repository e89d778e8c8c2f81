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

    /// As JSON; `number` tells statements of one name apart.
    fn document(&self, number: usize) -> Value {
        let sid = if number == 1 { self.sid.to_owned() } else { format!("{}{number}", self.sid) };
        let mut document = json!({
            "Sid": sid, "Effect": "Allow", "Action": self.actions, "Resource": self.resources,
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

    /// Whether one statement can say what the two of them say, and no more: one says all that the other says, or they
    /// differ in actions, in resources or in the values of one condition alone.
    fn joins(&self, other: &Self) -> bool {
        let keys = |one: &Self| -> Vec<_> {
            one.conditions.iter().map(|(operator, key, _)| (*operator, key.clone())).collect()
        };
        if self.sid != other.sid || keys(self) != keys(other) {
            return false;
        }
        let mut parts = vec![
            (holds(&self.actions, &other.actions), holds(&other.actions, &self.actions)),
            (holds(&self.resources, &other.resources), holds(&other.resources, &self.resources)),
        ];
        for ((_, _, mine), (_, _, theirs)) in self.conditions.iter().zip(&other.conditions) {
            parts.push((holds(mine, theirs), holds(theirs, mine)));
        }
        let differing = parts.iter().filter(|part| **part != (true, true)).count();
        differing <= 1 || parts.iter().all(|(all, _)| *all) || parts.iter().all(|(_, all)| *all)
    }

    /// All that two statements that join say.
    fn joined(mut self, other: Self) -> Self {
        add(&mut self.actions, other.actions);
        add(&mut self.resources, other.resources);
        for ((_, _, mine), (_, _, theirs)) in self.conditions.iter_mut().zip(other.conditions) {
            add(mine, theirs);
        }
        self
    }
}

fn holds<T: PartialEq>(all: &[T], some: &[T]) -> bool {
    some.iter().all(|one| all.contains(one))
}

fn add<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// A policy's statements: those of several recipes that one can say are one, and each has a name of its own.
pub(super) fn documents(statements: Vec<Statement>) -> Vec<Value> {
    let mut all: Vec<Statement> = Vec::new();
    for mut one in statements {
        let mut place = all.len();
        // What has grown may join another now.
        while let Some(at) = all.iter().position(|other| other.joins(&one)) {
            place = at;
            one = all.remove(at).joined(one);
        }
        all.insert(place, one);
    }
    let mut numbers = BTreeMap::new();
    let documents = all.iter().map(|one| {
        let number = numbers.entry(one.sid).or_insert(0);
        *number += 1;
        one.document(*number)
    });
    documents.collect()
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
