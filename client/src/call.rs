//! One call: to the leader, with a deadline, again where that is of use.

use std::collections::{BTreeMap, HashMap};
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

/// What a try says that took too long.
const NO_ANSWER: &str = "no answer in time";

/// The coordinators that are known, and who of them led last.
pub(crate) struct Coordinators {
    dial: Arc<dyn Dial>,
    known: Mutex<Known>,
    /// `Bearer qanat_...`, for every call.
    authorization: Option<AsciiMetadataValue>,
}

#[derive(Default)]
struct Known {
    addresses: Vec<String>,
    /// The one to ask next.
    next: usize,
    channels: HashMap<String, Channel>,
    /// Somebody has answered at one of them, whatever it was.
    is_heard: bool,
    /// How long a call goes on while nobody was ever heard; None: as any other.
    connect_timeout: Option<Duration>,
    /// Why no connection came about the last time, by address.
    unreached: BTreeMap<String, String>,
}

impl Coordinators {
    pub(crate) fn new(addresses: Vec<String>, dial: Arc<dyn Dial>, token: Option<&AccessToken>) -> Result<Self> {
        if addresses.is_empty() {
            return Err(Error::new(Code::Usage, "no coordinator is named").hint("give the address of at least one"));
        }
        let known = Known { addresses, next: 0, ..Known::default() };
        let authorization = token.map(|token| {
            let mut value = AsciiMetadataValue::try_from(format!("Bearer {}", token.reveal()))
                .map_err(|e| Error::internal(format!("a token: {e}")))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        Ok(Self { dial, known: Mutex::new(known), authorization: authorization.transpose()? })
    }

    pub(crate) fn set_connect_timeout(&self, timeout: Duration) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).connect_timeout = Some(timeout);
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

    /// Notes who answered and who could not be reached. If nobody was ever heard: when a call is given up for that, and
    /// what is wrong with all addresses.
    fn note(&self, address: &str, status: Option<&Status>) -> Option<(Duration, Error)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match status.map(unreached) {
            Some(Some(why)) => drop(known.unreached.insert(address.to_owned(), why)),
            // It was silent, which may be a network that swallows what is sent, or a process that is stuck.
            Some(None) if status.is_some_and(is_timeout) => {}
            Some(None) | None => known.is_heard = true,
        }
        let timeout = known.connect_timeout?;
        if known.is_heard || !known.addresses.iter().all(|address| known.unreached.contains_key(address)) {
            return None;
        }
        let each: Vec<String> = known.unreached.iter().map(|(address, why)| format!("{address} ({why})")).collect();
        let error = Error::new(Code::NoQuorum, format!("nobody answers at {}", each.join(", ")));
        let hint = "look whether coordinators run there: the addresses are those of --cluster, or QANAT_CLUSTER";
        Some((timeout, error.hint(hint)))
    }

    /// Calls until there is an answer that another try would not change.
    ///
    /// # Errors
    /// What the leader answers; E0602 at the deadline, and earlier if nobody was ever heard at any address.
    pub(crate) async fn call<T, F>(&self, deadline: Duration, call: impl Fn(Channel) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Status>>,
    {
        let started = Instant::now();
        let mut pause = PAUSE.0;
        let mut is_leaderless = false;
        let mut broken = None;
        loop {
            let (address, channel) = self.channel()?;
            let left = deadline.saturating_sub(started.elapsed());
            let status = match tokio::time::timeout(left.min(TRY), call(channel)).await {
                Ok(Ok(answer)) => {
                    self.note(&address, None);
                    return Ok(answer);
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(NO_ANSWER),
            };
            let unheard = self.note(&address, Some(&status));
            let leader = leader_of(&status).filter(|leader| *leader != address);
            let is_passing = matches!(
                status.code(),
                Grpc::FailedPrecondition | Grpc::Unavailable | Grpc::DeadlineExceeded | Grpc::Cancelled | Grpc::Unknown
            );
            let error = error_of(&status);
            match error.code() {
                // One whose disk failed ends; what it did not decide another one may.
                Code::FsyncFailed => broken = Some(error),
                // Of a group without a majority some answer and some do not; who is asked last is chance.
                Code::NotLeader if is_passing => is_leaderless = true,
                // Another try would find the same certificate.
                Code::CertificateRefused => return Err(error),
                _ if is_passing => {}
                _ => return Err(error),
            }
            if let Some((timeout, error)) = unheard
                && started.elapsed() + pause > timeout.min(deadline)
            {
                return Err(error);
            }
            if started.elapsed() + pause > deadline {
                return Err(broken.unwrap_or_else(|| given_up(&status, is_leaderless)));
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

/// Why the other end could not be reached, if that is what a status says: it was made at this end and has a cause.
fn unreached(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status).filter(|_| status.code() == Grpc::Unavailable)?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

/// Made by [`Coordinators::call`].
fn is_timeout(status: &Status) -> bool {
    status.code() == Grpc::DeadlineExceeded && status.message() == NO_ANSWER
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

    /// Ports of loopback at which nobody listens.
    fn free() -> Vec<String> {
        let bound: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("bound")).collect();
        bound.iter().map(|listener| listener.local_addr().expect("an address").to_string()).collect()
    }

    async fn ask(coordinators: &Coordinators, deadline: Duration) -> (Error, Duration) {
        let call = |channel: Channel| async move {
            let mut client = qanat_proto::rpc::control::cluster_client::ClusterClient::new(channel);
            client.status(qanat_proto::rpc::control::StatusRequest {}).await.map(tonic::Response::into_inner)
        };
        let begun = Instant::now();
        let refused = coordinators.call(deadline, call).await.expect_err("nobody is there");
        (refused, begun.elapsed())
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_told_soon() {
        let addresses = free();
        let dial = Arc::new(qanat_proto::rpc::dial::TcpDial);
        let coordinators = Coordinators::new(addresses.clone(), dial, None).expect("addresses");
        coordinators.set_connect_timeout(Duration::from_millis(200));
        let (error, took) = ask(&coordinators, Duration::from_secs(60)).await;
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_eq!(error.code(), Code::NoQuorum);
        assert!(addresses.iter().all(|address| error.message().contains(address.as_str())), "{error}");
        assert!(error.message().contains("refused") && error.hint_text().is_some(), "{error}");
        // What was a cluster once is waited for.
        coordinators.note(&addresses[0], None);
        let (error, took) = ask(&coordinators, Duration::from_secs(2)).await;
        assert!(took > Duration::from_secs(1) && error.code() == Code::NoQuorum, "{took:?}: {error}");
    }

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
