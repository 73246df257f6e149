//! Errors on the wire: the gRPC status that their domain asks for, and the whole error for our own clients.

use tonic::metadata::{AsciiMetadataValue, BinaryMetadataValue};
use tonic::{Code as Grpc, Status};

use crate::error::{Code, Domain, Error, Place};

/// Metadata key of an error's code.
pub const CODE: &str = "qanat-code";
/// Metadata key of the leader's address.
pub const LEADER: &str = "qanat-leader";
/// Metadata key of the error itself, as JSON.
pub const ERROR: &str = "qanat-error-bin";

/// An error as a server answers it.
pub fn status_of(error: &Error) -> Status {
    let grpc = match error.code() {
        Code::UnknownJob | Code::UnknownTopic | Code::UnknownOperator => Grpc::NotFound,
        Code::NotLeader => Grpc::FailedPrecondition,
        Code::NoQuorum => Grpc::Unavailable,
        Code::ForeignState | Code::NodeNameTaken => Grpc::AlreadyExists,
        Code::NotAuthenticated | Code::TokenExpired => Grpc::Unauthenticated,
        Code::NotAllowed | Code::CertificateRefused | Code::MemberRemoved => Grpc::PermissionDenied,
        Code::TooManyRequests => Grpc::ResourceExhausted,
        code => match code.domain() {
            Domain::User => Grpc::InvalidArgument,
            Domain::External => Grpc::Aborted,
            Domain::Internal => Grpc::Internal,
        },
    };
    let mut status = Status::new(grpc, error.message());
    let metadata = status.metadata_mut();
    if let Ok(code) = AsciiMetadataValue::try_from(error.code().as_str()) {
        metadata.insert(CODE, code);
    }
    if let Ok(json) = serde_json::to_vec(error) {
        metadata.insert_bin(ERROR, BinaryMetadataValue::from_bytes(&json));
    }
    if let (Code::NotLeader, Some(Place::Named(leader))) = (error.code(), error.place())
        && let Ok(leader) = AsciiMetadataValue::try_from(leader)
    {
        metadata.insert(LEADER, leader);
    }
    status
}

/// The error that a server answered; what it did not make itself is E0608 if one end refused the other's certificate,
/// E0602 if the peer could not be reached in time, and E0503 otherwise.
pub fn error_of(status: &Status) -> Error {
    let sent = status.metadata().get_bin(ERROR).and_then(|bytes| bytes.to_bytes().ok());
    if let Some(error) = sent.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return error;
    }
    if let Some(refused) = super::tls::refusal_in(status) {
        return refused;
    }
    match status.code() {
        Grpc::Unavailable | Grpc::DeadlineExceeded | Grpc::Cancelled => {
            Error::new(Code::NoQuorum, format!("the cluster does not answer: {}", status.message()))
        }
        // Made at this end: an answer of a server has no cause.
        Grpc::Internal | Grpc::Unknown if std::error::Error::source(status).is_some() => {
            Error::new(Code::NoQuorum, format!("the other end does not speak as expected: {}", status.message()))
                .hint("a cluster with certificates is called with --ca, and one without, without")
        }
        Grpc::InvalidArgument | Grpc::ResourceExhausted | Grpc::OutOfRange => {
            Error::new(Code::Usage, status.message().to_owned())
        }
        _ => Error::internal(format!("{:?}: {}", status.code(), status.message())),
    }
}

/// The leader's address, if an answer names it.
pub fn leader_of(status: &Status) -> Option<String> {
    status.metadata().get(LEADER)?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_back_as_it_was() {
        let error = Error::new(Code::NotLeader, "not here").at(Place::Named("host:1".into())).hint("größer");
        let status = status_of(&error);
        assert_eq!((status.code(), leader_of(&status).as_deref()), (Grpc::FailedPrecondition, Some("host:1")));
        assert_eq!(error_of(&status), error);
        assert_eq!(error_of(&Status::unavailable("gone")).code(), Code::NoQuorum);
    }
}
