//! One call: to the leader, with a deadline, again where that is of use.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qanat_proto::access::AccessToken;
use qanat_proto::rpc::dial::Dial;
use qanat_proto::rpc::status::{error_of, leader_of};
use qanat_proto::{Code, Error, Result};
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code as Grpc, Request, Status};

/// Between two tries, growing.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// One try: a coordinator that is stuck does not take the whole deadline.
const TRY: Duration = Duration::from_secs(10);

/// The coordinators that are known, and who of them led last.
pub(crate) struct Coordinators {
    dial: Arc<dyn Dial>,
    known: Mutex<Known>,
    /// `Bearer qanat_...`, for every call.
    authorization: Option<AsciiMetadataValue>,
}

struct Known {
    addresses: Vec<String>,
    /// The one to ask next.
    next: usize,
    channels: HashMap<String, Channel>,
}

impl Coordinators {
    pub(crate) fn new(addresses: Vec<String>, dial: Arc<dyn Dial>, token: Option<&AccessToken>) -> Result<Self> {
        if addresses.is_empty() {
            return Err(Error::new(Code::Usage, "no coordinator is named").hint("give the address of at least one"));
        }
        let known = Known { addresses, next: 0, channels: HashMap::new() };
        let authorization = token.map(|token| {
            let mut value = AsciiMetadataValue::try_from(format!("Bearer {}", token.reveal()))
                .map_err(|e| Error::internal(format!("a token: {e}")))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        Ok(Self { dial, known: Mutex::new(known), authorization: authorization.transpose()? })
    }

    /// A message with what every call carries.
    pub(crate) fn request<R>(&self, message: R) -> Request<R> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    /// A channel to whom to ask now.
    fn channel(&self) -> Result<(String, Channel)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let index = known.next % known.addresses.len();
        let address = known.addresses.get(index).cloned().unwrap_or_default();
        if let Some(channel) = known.channels.get(&address) {
            return Ok((address, channel.clone()));
        }
        let dialled = self.dial.dial(&address);
        let channel = dialled.map_err(|e| Error::new(Code::Usage, format!("`{address}` is no address: {e}")))?;
        known.channels.insert(address.clone(), channel.clone());
        Ok((address, channel))
    }

    /// Asks somebody else next: the leader if one was named.
    fn turn(&self, from: &str, leader: Option<String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let current = known.addresses.get(known.next % known.addresses.len()).cloned();
        if current.as_deref() != Some(from) {
            // Another call has turned already.
            return;
        }
        match leader {
            Some(leader) => {
                let index = known.addresses.iter().position(|address| *address == leader);
                known.next = index.unwrap_or_else(|| {
                    known.addresses.push(leader);
                    known.addresses.len() - 1
                });
            }
            None => known.next += 1,
        }
    }

    /// Calls until there is an answer that another try would not change.
    ///
    /// # Errors
    /// What the leader answers; E0602 at the deadline.
    pub(crate) async fn call<T, F>(&self, deadline: Duration, call: impl Fn(Channel) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Status>>,
    {
        let started = Instant::now();
        let mut pause = PAUSE.0;
        let mut is_leaderless = false;
        loop {
            let (address, channel) = self.channel()?;
            let left = deadline.saturating_sub(started.elapsed());
            let status = match tokio::time::timeout(left.min(TRY), call(channel)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            let leader = leader_of(&status).filter(|leader| *leader != address);
            let is_worth_it = matches!(
                status.code(),
                Grpc::FailedPrecondition | Grpc::Unavailable | Grpc::DeadlineExceeded | Grpc::Cancelled | Grpc::Unknown
            );
            // Another try would find the same certificate.
            let code = error_of(&status).code();
            let is_refused = code == Code::CertificateRefused;
            // Of a group without a majority some answer and some do not; who is asked last is chance.
            is_leaderless |= code == Code::NotLeader;
            if !is_worth_it || is_refused {
                return Err(error_of(&status));
            }
            if started.elapsed() + pause > deadline {
                return Err(given_up(&status, is_leaderless));
            }
            let is_known = leader.is_some();
            self.turn(&address, leader);
            if !is_known {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// What it means that nobody gave a better answer than this until the deadline: a group in which nobody leads for so
/// long has no majority. `is_leaderless`: one that answered said so.
fn given_up(last: &Status, is_leaderless: bool) -> Error {
    let error = error_of(last);
    if error.code() != Code::NoQuorum && error.code() != Code::NotLeader {
        return error;
    }
    if !is_leaderless {
        let has_hint = error.hint_text().is_some();
        return if has_hint {
            error
        } else {
            error.hint("look whether coordinators run at the addresses of --cluster")
        };
    }
    Error::new(Code::NoQuorum, "no coordinator leads: no majority of them answers").hint(
        "start the missing coordinators with the folders that they had; what was asked may still come about, once",
    )
}

#[cfg(test)]
mod tests {
    use qanat_proto::rpc::status::status_of;

    use super::*;

    #[test]
    fn a_lost_majority_has_one_code() {
        let codes = [
            status_of(&Error::new(Code::NotLeader, "not here")),
            status_of(&Error::new(Code::NoQuorum, "nobody answers")),
            Status::unavailable("connection refused"),
            Status::deadline_exceeded("no answer in time"),
        ];
        for status in &codes {
            let error = given_up(status, true);
            assert!(error.code() == Code::NoQuorum && error.message().contains("no coordinator leads"), "{error}");
            assert!(error.hint_text().is_some(), "{error}");
        }
        // Nobody answered at all.
        let error = given_up(&codes[2], false);
        assert!(error.code() == Code::NoQuorum && error.message().contains("does not answer"), "{error}");
        assert!(error.hint_text().is_some(), "{error}");
        assert_eq!(given_up(&status_of(&Error::new(Code::Usage, "wrong")), true).code(), Code::Usage);
    }
}
