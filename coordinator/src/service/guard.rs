//! What stands before every call: who makes it, whether that one may, and how often. Handlers see only what passed.
//!
//! ```text
//!  connection ── TLS ──> Guard ── roles.rs: what the call needs
//!                          │      token (state, or the administrator's file) / certificate (cluster, role)
//!                          │      rate of the principal
//!                          └────> handler, in the scope of its caller (`caller.rs`)
//! ```
//!
//! What must never happen: a call that has no row in the table, or fails any of these, reaches a handler.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use qanat_coordinator_core::audit::Caller;
use qanat_proto::access::{AccessToken, Role, TokenDigest};
use qanat_proto::ids::TokenId;
use qanat_proto::rpc::identity::NodeIdentity;
use qanat_proto::rpc::status::status_of;
use qanat_proto::rpc::tls::{admit, peer_address};
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Clock;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Extensions, HeaderMap, Request, Response};
use tower_layer::Layer;
use tracing::{Instrument, Span};

use crate::caller;
use crate::raft::{Leadership, Member, not_leader};
use crate::service::rate::Rates;
use crate::service::roles::{Needs, needs};
use crate::service::trace::{span, trace_of};

/// What the administrator's first token is called in lists and in the audit log.
pub(super) const FIRST_ADMIN: &str = "admin";
/// What callers of a cluster without tokens are called.
pub(super) const LOCAL: &str = "local";

/// What a cluster with certificates and tokens knows from its files.
#[derive(Clone, Debug)]
pub struct Security {
    pub cluster: String,
    /// The administrator's first token.
    pub admin: (TokenId, TokenDigest),
}

/// Stands before the services of one coordinator.
pub struct Guard {
    member: Arc<Member>,
    clock: Arc<dyn Clock>,
    /// None: everybody who reaches the port may do everything, and the port is on loopback.
    security: Option<Security>,
    rates: Rates,
    /// Refused calls of changes, by code.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// Whom a call is from.
enum Principal {
    Nobody,
    Node(NodeIdentity),
    Client(String),
}

impl Guard {
    pub fn new(member: Arc<Member>, clock: Arc<dyn Clock>, security: Option<Security>) -> Arc<Self> {
        let rates = Rates::new(clock.clone());
        Arc::new(Self { member, clock, security, rates, refused: Mutex::default() })
    }

    pub(super) fn security(&self) -> Option<&Security> {
        self.security.as_ref()
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Refused calls of changes since the start, by code.
    pub(super) fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, error: &Error) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(error.code().as_str()).or_default() += 1;
    }

    /// Who makes a call, if that one may.
    async fn admit(&self, needs: Needs, headers: &HeaderMap, extensions: &Extensions) -> Result<Principal> {
        let principal = match (&self.security, needs) {
            (_, Needs::Nothing) => return Ok(Principal::Nobody),
            (None, Needs::Node(_)) => return Ok(Principal::Nobody),
            (Some(security), Needs::Node(role)) => {
                return admit(extensions, &security.cluster, role).map(Principal::Node);
            }
            (None, Needs::Look(_) | Needs::Change(_)) => LOCAL.to_owned(),
            (Some(security), Needs::Look(least) | Needs::Change(least)) => {
                let (name, role) = self.holder(security, headers, extensions).await?;
                if role < least {
                    let message = format!("the role of `{name}` is {role}, and this call needs {least}");
                    return Err(Error::new(Code::NotAllowed, message)
                        .hint("an administrator makes tokens with `qanat cluster token create`"));
                }
                name
            }
        };
        self.rates.take(&principal)?;
        Ok(Principal::Client(principal))
    }

    /// Name and role of the token in the headers.
    async fn holder(
        &self,
        security: &Security,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<(String, Role)> {
        let missing = || {
            Error::new(Code::NotAuthenticated, "this cluster answers to access tokens only")
                .hint("name a file with one: --token-file, or QANAT_TOKEN_FILE")
        };
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let (Some(sent), None) = (sent.next(), sent.next()) else { return Err(missing()) };
        let sent = sent.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or_else(missing)?;
        let token = AccessToken::parse(sent)?;
        match self.find(security, &token) {
            Ok(holder) => Ok(holder),
            // Made a moment ago, perhaps: whoever leads knows. To find that out costs more than the call did.
            Err(error) if error.code() == Code::NotAuthenticated => {
                let from = peer_address(extensions).map(|address| address.ip().to_string());
                self.rates.take(&from.unwrap_or_default())?;
                match self.member.leadership().await {
                    Leadership::Leading { .. } => self.find(security, &token),
                    Leadership::Following { leader } => Err(not_leader(leader)),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn find(&self, security: &Security, token: &AccessToken) -> Result<(String, Role)> {
        let digest = token.digest();
        let (id, first) = (token.id(), &security.admin);
        let known = self.member.state(|state| state.access.tokens.get(&id).cloned());
        if let Some(facts) = known.filter(|facts| facts.digest == digest) {
            if facts.is_expired(self.clock.now_ms()) {
                let message = format!("the access token of `{}` is past its time", facts.name);
                return Err(Error::new(Code::TokenExpired, message).hint("ask an administrator for another one"));
            }
            return Ok((facts.name, facts.role));
        }
        let is_revoked = || self.member.state(|state| state.access.revoked.contains(&id));
        if first.0 == id && first.1 == digest && !is_revoked() {
            return Ok((FIRST_ADMIN.to_owned(), Role::Admin));
        }
        // Whether there was such a token is nobody's business.
        Err(Error::new(Code::NotAuthenticated, "the cluster does not know this access token")
            .hint("it was made for another cluster, or it was revoked"))
    }
}

/// Puts a [`Guard`] before the services of a server.
#[derive(Clone)]
pub struct GuardLayer(pub Arc<Guard>);

impl<S> Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.0.clone(), inner }
    }
}

/// Services behind a [`Guard`].
#[derive(Clone)]
pub struct Guarded<S> {
    guard: Arc<Guard>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, std::result::Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that was polled is the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let guard = self.guard.clone();
        Box::pin(async move {
            let Some(needs) = needs(request.uri().path()) else {
                return Ok(tonic::Status::unimplemented("there is no such call").into_http());
            };
            let (mut parts, body) = request.into_parts();
            let principal = match guard.admit(needs, &parts.headers, &parts.extensions).await {
                Ok(principal) => principal,
                Err(error) => {
                    if needs.is_change() && error.code() != Code::NotLeader {
                        guard.count(&error);
                    }
                    return Ok(status_of(&error).into_http());
                }
            };
            let who = match principal {
                Principal::Nobody => None,
                Principal::Node(identity) => {
                    parts.extensions.insert(identity);
                    None
                }
                Principal::Client(name) => Some(name),
            };
            let caller = who.map(|who| Caller {
                who,
                what: called(parts.uri.path()),
                from: peer_address(&parts.extensions).map(|address| address.to_string()).unwrap_or_default(),
            });
            let trace = trace_of(&parts.headers);
            let span = caller.as_ref().filter(|_| needs.is_change()).map(|caller| span(caller, trace.as_ref()));
            if let Some(span) = &span {
                span.in_scope(|| tracing::info!("asked for"));
            }
            if let Some(trace) = trace {
                parts.extensions.insert(trace);
            }
            let answer = inner.call(Request::from_parts(parts, body)).instrument(span.unwrap_or_else(Span::none));
            match caller {
                Some(caller) => caller::scope(caller, answer).await,
                None => answer.await,
            }
        })
    }
}

/// `Jobs.Submit` of `/qanat.control.v1.Jobs/Submit`.
fn called(path: &str) -> String {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    format!("{}.{method}", service.rsplit('.').next().unwrap_or_default())
}
