//! Who calls, from where, and how addresses of queues look to them.

use std::sync::Arc;

use axum::http::{HeaderMap, Uri, header};

use super::errors::{Code, Fault};
use crate::message::QueueId;

/// The account of all queues, unless set.
pub const ACCOUNT_DEFAULT: &str = "000000000000";
/// The region of a request without a signature.
pub const REGION_DEFAULT: &str = "us-east-1";
/// Longest region that is believed; a longer one is no region.
const REGION_MAX: usize = 32;

/// What the head of a request says.
#[derive(Clone, Debug)]
pub struct Caller {
    /// From the signature's scope.
    pub region: Arc<str>,
    /// The access key, as the sender's id.
    pub sender: Arc<str>,
    /// `http://127.0.0.1:9324`, as this caller reached us: addresses we hand out begin with it.
    base: String,
    /// The queue in the path, if the request went to a queue's own address.
    path_queue: Option<String>,
    account: Arc<str>,
}

impl Caller {
    pub(super) fn of(headers: &HeaderMap, original: &Uri, uri: &Uri, account: &Arc<str>) -> Self {
        let text = |name: header::HeaderName| headers.get(name).and_then(|it| it.to_str().ok());
        let scope = text(header::AUTHORIZATION)
            .and_then(|it| it.split("Credential=").nth(1))
            .and_then(|it| it.split(',').next())
            .map(str::to_owned)
            .or_else(|| signed_in_query(uri));
        let mut parts = scope.as_deref().unwrap_or_default().split('/');
        let sender = parts.next().filter(|key| !key.is_empty()).unwrap_or("anonymous");
        let region = parts.nth(1).filter(|it| is_region(it)).unwrap_or(REGION_DEFAULT);
        let host = text(header::HOST).or(uri.host()).unwrap_or("localhost");
        let mounted_at = original.path().strip_suffix(uri.path()).unwrap_or_default();
        let path_queue = uri.path().trim_end_matches('/').rsplit_once('/').map(|(_, name)| name);
        Self {
            region: region.into(),
            sender: sender.into(),
            base: format!("http://{host}{mounted_at}"),
            path_queue: path_queue.filter(|name| !name.is_empty()).map(str::to_owned),
            account: Arc::clone(account),
        }
    }

    /// The queue a request is about: by its address in the request, else by the path. Of a foreign
    /// looking address only the name counts, so that a client that came through a tunnel or a
    /// container's port mapping finds its queue.
    pub(super) fn queue(&self, url: Option<&str>) -> Result<QueueId, Fault> {
        let name = match url.filter(|url| !url.is_empty()) {
            Some(url) => url.trim_end_matches('/').rsplit('/').next(),
            None => self.path_queue.as_deref(),
        };
        match name {
            Some("") => Err(Fault::new(Code::InvalidAddress, "The address names no queue.")),
            Some(name) => Ok(QueueId::new(&self.region, name)),
            None => Err(Fault::missing("QueueUrl")),
        }
    }

    pub(super) fn url(&self, queue: &QueueId) -> String {
        format!("{}/{}/{}", self.base, self.account, queue.name)
    }

    pub(super) fn arn(&self, queue: &QueueId) -> String {
        format!("arn:aws:sqs:{}:{}:{}", queue.region, self.account, queue.name)
    }

    /// The queue an ARN of this account names.
    pub(super) fn queue_of_arn(&self, arn: &str) -> Option<QueueId> {
        let [_, _, "sqs", region, account, name] = arn.split(':').collect::<Vec<_>>()[..] else {
            return None;
        };
        (*account == *self.account).then(|| QueueId::new(region, name))
    }
}

fn signed_in_query(uri: &Uri) -> Option<String> {
    let pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.filter(|(name, _)| name == "X-Amz-Credential").map(|(_, value)| value.into()).next()
}

fn is_region(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=REGION_MAX).contains(&text.len()) && text.bytes().all(legal)
}
