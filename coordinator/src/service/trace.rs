//! What a request brings of its trace, and the span that its log lines stand in.

use qanat_coordinator_core::audit::Caller;
use qanat_proto::trace::TraceParent;
use tonic::codegen::http::HeaderMap;
use tracing::Span;
use tracing::field::Empty;

/// The trace that a client says its request belongs to.
pub(super) fn trace_of(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TraceParent::METADATA).and_then(|text| TraceParent::parse(text.to_str().ok()?))
}

/// The span of a call that changes something. Which job it is about is known when the call is read.
pub(super) fn span(caller: &Caller, trace: Option<&TraceParent>) -> Span {
    let (call, who) = (caller.what.as_str(), caller.who.as_str());
    tracing::info_span!("call", call, who, job = Empty, trace_id = trace.map(TraceParent::trace_id))
}

/// The present call is about this job.
pub(super) fn is_about(job: &str) {
    Span::current().record("job", job);
}
