//! AddPermission and RemovePermission: kept in the queue's policy, enforced by nobody here.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Sqs;
use super::caller::Caller;
use super::errors::{Code, Fault};
use super::output::Nothing;
use crate::queue::Queues;
use crate::settings::Settings;

/// Statements in one policy.
const STATEMENTS_MAX: usize = 20;
/// What a permission may be for.
const ACTIONS: &[&str] = &[
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Permission {
    queue_url: Option<String>,
    label: Option<String>,
    #[serde(rename = "AWSAccountIds")]
    accounts: Vec<String>,
    actions: Vec<String>,
}

impl<Q: Queues + Clone> Sqs<Q> {
    pub(super) async fn add_permission(
        &self,
        caller: &Caller,
        input: Permission,
    ) -> Result<Nothing, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        let label = label(input.label)?;
        if input.accounts.is_empty() {
            return Err(Fault::missing("AWSAccountIds"));
        }
        if input.actions.is_empty() {
            return Err(Fault::missing("Actions"));
        }
        if let Some(account) = input.accounts.iter().find(|it| !is_account(it)) {
            return Err(Fault::invalid("AWSAccountIds", account, "Must be a 12-digit account id."));
        }
        if let Some(action) = input.actions.iter().find(|it| !ACTIONS.contains(&it.as_str())) {
            let reason = "Only the queue owner is allowed to invoke this action.";
            return Err(Fault::invalid("ActionName", action, reason));
        }
        let principals: Vec<_> =
            input.accounts.iter().map(|it| format!("arn:aws:iam::{it}:root")).collect();
        let statement = json!({
            "Sid": label, "Effect": "Allow", "Principal": { "AWS": principals },
            "Action": input.actions.iter().map(|it| format!("SQS:{it}")).collect::<Vec<_>>(),
            "Resource": caller.arn(&queue),
        });
        self.change(&queue, move |settings| {
            let mut statements = statements(settings);
            if statements.iter().any(|it| it["Sid"] == statement["Sid"]) {
                return Err(Fault::invalid("Label", label, "Already exists."));
            }
            if statements.len() >= STATEMENTS_MAX {
                let what = format!("A policy has at most {STATEMENTS_MAX} statements.");
                return Err(Fault::new(Code::OverLimit, what));
            }
            statements.push(statement);
            keep(settings, statements);
            Ok(())
        })
        .await
    }

    pub(super) async fn remove_permission(
        &self,
        caller: &Caller,
        input: Permission,
    ) -> Result<Nothing, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        let label = label(input.label)?;
        self.change(&queue, move |settings| {
            let mut statements = statements(settings);
            let before = statements.len();
            statements.retain(|it| it["Sid"] != label.as_str());
            if statements.len() == before {
                return Err(Fault::invalid("Label", label, "Can't find label."));
            }
            keep(settings, statements);
            Ok(())
        })
        .await
    }
}

fn label(label: Option<String>) -> Result<String, Fault> {
    let label = label.ok_or_else(|| Fault::missing("Label"))?;
    super::checks::queue_name(&label, false).map_err(|_| {
        let reason = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 \
                      in length.";
        Fault::invalid("Label", &label, reason)
    })?;
    Ok(label)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn statements(settings: &Settings) -> Vec<Value> {
    let policy = settings.kept.get("Policy").and_then(|text| serde_json::from_str(text).ok());
    let statements = policy.and_then(|policy: Value| policy["Statement"].as_array().cloned());
    statements.unwrap_or_default()
}

fn keep(settings: &mut Settings, statements: Vec<Value>) {
    if statements.is_empty() {
        settings.kept.remove("Policy");
        return;
    }
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    settings.kept.insert("Policy".to_owned(), policy.to_string());
}
