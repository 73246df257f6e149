//! One call: to the leader, with a deadline, again where that is of use.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qanat_proto::access::AccessToken;
use qanat_proto::rpc::control::StatusRequest;
use qanat_proto::rpc::control::cluster_client::ClusterClient;
use qanat_proto::rpc::dial::Dial;
use qanat_proto::rpc::status::{CODE, error_of, leader_of, status_of};
use qanat_proto::{Code, Error, Place, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code as Grpc, Request, Status, Streaming};

/// Between two tries, growing.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// One try: a coordinator that is stuck does not take the whole deadline.
const TRY: Duration = Duration::from_secs(10);

/// One that says nothing for so long may be stopped, or cut off, while another one leads: it is looked for.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the question who leads may take.
const AT_ONCE: Duration = Duration::from_millis(500);

/// What a try says that took too long.
const NO_ANSWER: &str = "no answer in time";
/// What a try says while whose answer was waited for another one came to lead.
const ANOTHER_LEADS: &str = "another coordinator leads";

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// A try before the last one got no answer, and may have come about.
    pub(crate) may_be_done: bool,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, may_be_done: false }
    }
}

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
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let index = known.next % known.addresses.len();
        let address = known.addresses.get(index).cloned().unwrap_or_default();
        drop(known);
        self.channel_to(&address).map(|channel| (address, channel))
    }

    fn channel_to(&self, address: &str) -> Result<Channel> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = known.channels.get(address) {
            return Ok(channel.clone());
        }
        let dialled = self.dial.dial(address);
        let channel = dialled.map_err(|e| Error::new(Code::Usage, format!("`{address}` is no address: {e}")))?;
        known.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
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

    /// The address of another one that leads, once this one is silent to whatever it is asked and one of the others names
    /// it. One that only takes its time answers the question who leads.
    async fn another_leader(&self, than: &str) -> String {
        loop {
            tokio::time::sleep(SILENCE).await;
            if !self.who_leads(vec![than.to_owned()]).await.is_empty() {
                continue;
            }
            let others = self.known.lock().unwrap_or_else(PoisonError::into_inner).addresses.clone();
            let others = others.into_iter().filter(|address| address != than).collect();
            let mut said = self.who_leads(others).await;
            // What one says of itself goes before what one says of another, which may be old.
            said.sort_unstable();
            let another = |(_, leader): (bool, Option<String>)| leader.filter(|leader| leader != than);
            if let Some(leader) = said.into_iter().rev().find_map(another) {
                return leader;
            }
        }
    }

    /// What those say who leads that answer at once, asked together; true with one that says it of itself.
    async fn who_leads(&self, addresses: Vec<String>) -> Vec<(bool, Option<String>)> {
        let mut asked = JoinSet::new();
        for address in addresses {
            let Ok(channel) = self.channel_to(&address) else { continue };
            let request = self.request(StatusRequest {});
            asked.spawn(async move {
                match tokio::time::timeout(AT_ONCE, ClusterClient::new(channel).status(request)).await {
                    Ok(Ok(_)) => Some((true, Some(address))),
                    Ok(Err(status)) => Some((false, leader_of(&status))),
                    Err(_) => None,
                }
            });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    /// Calls until there is an answer that another try would not change.
    ///
    /// # Errors
    /// What the leader answers; E0602 at the deadline, and earlier if nobody was ever heard at any address.
    pub(crate) async fn call<T, F>(
        &self,
        deadline: Duration,
        call: impl Fn(Channel) -> F,
    ) -> std::result::Result<T, Failed>
    where
        F: Future<Output = std::result::Result<T, Status>>,
    {
        self.ask(deadline, call).await.map(|(_, answer)| answer)
    }

    /// As [`Coordinators::call`], for a stream.
    ///
    /// # Errors
    /// As [`Coordinators::call`].
    pub(crate) async fn follow<T, F>(
        self: &Arc<Self>,
        deadline: Duration,
        call: impl Fn(Channel) -> F,
    ) -> Result<Followed<T>>
    where
        F: Future<Output = std::result::Result<Streaming<T>, Status>>,
    {
        let (from, stream) = self.ask(deadline, call).await?;
        Ok(Followed { coordinators: self.clone(), from, stream })
    }

    /// The answer to a call, and whose it is.
    async fn ask<T, F>(
        &self,
        deadline: Duration,
        call: impl Fn(Channel) -> F,
    ) -> std::result::Result<(String, T), Failed>
    where
        F: Future<Output = std::result::Result<T, Status>>,
    {
        let started = Instant::now();
        let mut pause = PAUSE.0;
        let mut is_leaderless = false;
        let mut broken = None;
        let mut told = None;
        let mut may_be_done = false;
        let failed = |error, may_be_done| Err(Failed { error, may_be_done });
        loop {
            let (address, channel) = self.channel()?;
            let left = deadline.saturating_sub(started.elapsed());
            let answer = tokio::select! {
                biased;
                answer = tokio::time::timeout(left.min(TRY), call(channel)) => {
                    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(NO_ANSWER)))
                }
                leader = self.another_leader(&address) => Err(replaced_by(leader)),
            };
            let status = match answer {
                Ok(answer) => {
                    self.note(&address, None);
                    return Ok((address, answer));
                }
                Err(status) => status,
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
                Code::NotLeader if is_passing => {
                    is_leaderless = true;
                    if leader_of(&status).is_none() {
                        told = None;
                    }
                }
                // The leader says why it could not do what it was asked for.
                Code::NoQuorum if is_from_server(&status) => told = Some(error),
                // Another try would find the same certificate.
                Code::CertificateRefused => return failed(error, may_be_done),
                _ if is_passing => {}
                _ => return failed(error, may_be_done),
            }
            may_be_done |= !is_undone(&status);
            if let Some((timeout, error)) = unheard
                && started.elapsed() + pause > timeout.min(deadline)
            {
                return failed(error, may_be_done);
            }
            if started.elapsed() + pause > deadline {
                return failed(broken.or(told).unwrap_or_else(|| given_up(&status, is_leaderless)), may_be_done);
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

/// A stream of one coordinator.
pub(crate) struct Followed<T> {
    coordinators: Arc<Coordinators>,
    from: String,
    stream: Streaming<T>,
}

impl<T> Followed<T> {
    /// The next message; None at the end. Behind an error another coordinator is asked first.
    ///
    /// # Errors
    /// What broke it; E0601 if it is silent while another coordinator leads.
    pub(crate) async fn message(&mut self) -> std::result::Result<Option<T>, Status> {
        let message = tokio::select! {
            biased;
            message = self.stream.message() => message,
            leader = self.coordinators.another_leader(&self.from) => Err(replaced_by(leader)),
        };
        if let Err(status) = &message {
            self.coordinators.turn(&self.from, leader_of(status).filter(|leader| *leader != self.from));
        }
        message
    }
}

/// What is said in the place of one that is silent.
fn replaced_by(leader: String) -> Status {
    status_of(&Error::new(Code::NotLeader, ANOTHER_LEADS).at(Place::Named(leader)))
}

/// Whether a try that failed so changed nothing for certain: nobody was there, or one that says it does not lead.
fn is_undone(status: &Status) -> bool {
    if status.message() == ANOTHER_LEADS {
        return false;
    }
    error_of(status).code() == Code::NotLeader || is_refused(status)
}

/// Why the other end could not be reached, if that is what a status says: it was made at this end and has a cause.
fn unreached(status: &Status) -> Option<String> {
    let cause = std::error::Error::source(status).filter(|_| status.code() == Grpc::Unavailable)?;
    Some(deepest(cause).to_string())
}

/// Whether the other end gave this error itself.
fn is_from_server(status: &Status) -> bool {
    status.metadata().contains_key(CODE)
}

/// Nobody listens there.
fn is_refused(status: &Status) -> bool {
    let cause = std::error::Error::source(status).map(deepest);
    let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn deepest<'a>(mut cause: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
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
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use qanat_proto::rpc::cluster::nodes_client::NodesClient;
    use tonic::body::Body;
    use tonic::codegen::{Service, http, tokio_stream};
    use tonic::server::NamedService;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;

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
        (refused.error, begun.elapsed())
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

    /// A coordinator that gives one answer to the question who leads, or none.
    #[derive(Clone)]
    struct Says(Option<Status>);

    impl NamedService for Says {
        const NAME: &'static str = "qanat.control.v1.Cluster";
    }

    impl Service<http::Request<Body>> for Says {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            match self.0.clone() {
                Some(status) => Box::pin(async move { Ok(status.into_http()) }),
                None => Box::pin(std::future::pending()),
            }
        }
    }

    /// Its answer is what it is sent: nothing to a stream that says nothing.
    #[derive(Clone)]
    struct Echo;

    impl NamedService for Echo {
        const NAME: &'static str = "qanat.cluster.v1.Nodes";
    }

    impl Service<http::Request<Body>> for Echo {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<std::result::Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let mut response = http::Response::new(request.into_body());
            let grpc = http::HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
            std::future::ready(Ok(response))
        }
    }

    /// Its address.
    async fn serve(says: Option<Status>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let server = Server::builder().add_service(Says(says)).add_service(Echo);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        address
    }

    fn not_leader() -> Status {
        status_of(&Error::new(Code::NotLeader, "not here"))
    }

    #[tokio::test]
    async fn one_that_is_silent_is_left_for_the_one_that_leads() {
        let [leader, _] = free().try_into().expect("two");
        let (stopped, follower) = (serve(None).await, serve(Some(replaced_by(leader.clone()))).await);
        let dial = Arc::new(qanat_proto::rpc::dial::TcpDial);
        let coordinators = Coordinators::new(vec![stopped.clone(), follower], dial, None).expect("addresses");
        let asked = Mutex::new(Vec::new());
        let call = |_| {
            let at = coordinators.channel().expect("an address").0;
            asked.lock().expect("one thread").push(at.clone());
            let stopped = stopped.clone();
            async move { if at == stopped { std::future::pending().await } else { Ok(()) } }
        };
        let answer = tokio::time::timeout(TRY / 2, coordinators.call(TRY, call)).await;
        answer.expect("it does not wait for the silent one").expect("an answer");
        assert_eq!(asked.into_inner().expect("one thread"), [stopped, leader]);
    }

    #[tokio::test]
    async fn one_that_takes_its_time_is_waited_for() {
        let [other, _] = free().try_into().expect("two");
        // What the other one says may be old.
        let (slow, follower) = (serve(Some(not_leader())).await, serve(Some(replaced_by(other))).await);
        let dial = Arc::new(qanat_proto::rpc::dial::TcpDial);
        let coordinators = Coordinators::new(vec![slow, follower], dial, None).expect("addresses");
        let tries = Mutex::new(0);
        let call = |_| {
            *tries.lock().expect("one thread") += 1;
            async move {
                tokio::time::sleep(3 * SILENCE).await;
                Ok::<_, Status>(())
            }
        };
        coordinators.call(TRY, call).await.expect("an answer");
        assert_eq!(tries.into_inner().expect("one thread"), 1);
    }

    #[tokio::test]
    async fn a_stream_of_one_that_is_silent_ends_where_another_one_leads() {
        let [leader, _] = free().try_into().expect("two");
        let (stopped, follower) = (serve(None).await, serve(Some(replaced_by(leader.clone()))).await);
        let dial = Arc::new(qanat_proto::rpc::dial::TcpDial);
        let coordinators = Arc::new(Coordinators::new(vec![stopped, follower], dial, None).expect("addresses"));
        let call = |channel| async move {
            NodesClient::new(channel).attach(tokio_stream::pending()).await.map(tonic::Response::into_inner)
        };
        let mut stream = coordinators.follow(TRY, call).await.expect("a stream");
        let message = tokio::time::timeout(TRY / 2, stream.message()).await.expect("it does not wait for ever");
        assert_eq!(error_of(&message.expect_err("it is left")).code(), Code::NotLeader);
        assert_eq!(coordinators.channel().expect("an address").0, leader, "asked next");
    }

    #[tokio::test]
    async fn what_a_leader_said_is_told_at_the_deadline() {
        let told = || status_of(&Error::new(Code::NoQuorum, "coordinator 9 does not catch up"));
        let elsewhere = || replaced_by("leader:1".to_owned());
        for (answers, message) in [
            (vec![told(), elsewhere()], "coordinator 9 does not catch up"),
            (vec![told(), not_leader()], "no coordinator leads: no majority of them answers"),
        ] {
            let dial = Arc::new(qanat_proto::rpc::dial::TcpDial);
            let coordinators = Coordinators::new(free(), dial, None).expect("addresses");
            let answers = Mutex::new(answers.into_iter());
            let call = |_| {
                let next = answers.lock().expect("one thread").next();
                async move { next.map_or_else(|| Err(Status::unavailable("nobody")), Err::<(), _>) }
            };
            let failed = coordinators.call(Duration::from_millis(100), call).await.expect_err("nobody does it");
            assert_eq!((failed.error.code(), failed.error.message()), (Code::NoQuorum, message));
        }
    }

    #[tokio::test]
    async fn what_an_earlier_try_may_have_done_is_told_from_what_none_did() {
        let absent = || status_of(&Error::new(Code::NotRestorable, "no such savepoint"));
        let refused = || {
            let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            let mut status = Status::unavailable("nobody listens");
            status.set_source(Arc::new(cause));
            status
        };
        for (before, may_be_done) in [
            (None, false),
            (Some(not_leader()), false),
            (Some(refused()), false),
            (Some(status_of(&Error::new(Code::NoQuorum, "nobody answers"))), true),
            (Some(Status::unavailable("connection reset")), true),
            (Some(replaced_by("leader:1".to_owned())), true),
        ] {
            let dial = Arc::new(qanat_proto::rpc::dial::TcpDial);
            let coordinators = Coordinators::new(free(), dial, None).expect("addresses");
            let answers = Mutex::new(vec![absent()]);
            answers.lock().expect("one thread").extend(before.clone());
            let call = |_| std::future::ready(Err::<(), _>(answers.lock().expect("one thread").pop().expect("two")));
            let failed = coordinators.call(TRY, call).await.expect_err("absent");
            assert_eq!((failed.error.code(), failed.may_be_done), (Code::NotRestorable, may_be_done), "{before:?}");
        }
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
