//! What a request brings of its trace.

use qanat_proto::trace::TraceParent;
use tonic::Request;
use tracing::Span;

/// The trace that a client says its request belongs to.
pub(super) fn trace_of<T>(request: &Request<T>) -> Option<TraceParent> {
    request.metadata().get(TraceParent::METADATA).and_then(|text| TraceParent::parse(text.to_str().ok()?))
}

/// The span of a call that is about a job.
pub(super) fn span(call: &'static str, trace: Option<&TraceParent>, job: &str) -> Span {
    tracing::info_span!("call", call, job, trace_id = trace.map(TraceParent::trace_id))
}

/// Logs that a call was made.
pub(super) fn note<T>(call: &'static str, request: &Request<T>, job: &str) {
    span(call, trace_of(request).as_ref(), job).in_scope(|| tracing::info!("asked for"));
}
