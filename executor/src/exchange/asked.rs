//! The first message of an exchange, read: which edge of which generation a caller asks for.

use std::str::FromStr;

use arrow::datatypes::Schema;
use arrow_flight::FlightData;
use prost::Message;
use qanat_proto::ids::{Generation, JobId, OperatorId, StartId, Token};
use qanat_proto::ipc;
use qanat_proto::rpc::exchange::Open;

use crate::exchange::EdgeKey;

/// What a caller asks for.
#[derive(Debug, PartialEq)]
pub struct Asked {
    pub cluster: String,
    pub token: Token,
    pub key: EdgeKey,
    /// The caller.
    pub start: StartId,
}

impl Asked {
    /// # Errors
    /// What is wrong with it.
    pub fn of(first: &FlightData) -> Result<Self, String> {
        let command = first.flight_descriptor.as_ref().map(|descriptor| descriptor.cmd.clone());
        let command = command.ok_or("an exchange begins with its descriptor")?;
        let open = Open::decode(command).map_err(|e| e.to_string())?;
        Ok(Self {
            token: token(&open.token).ok_or_else(|| format!("`{}` is no token", open.token))?,
            key: EdgeKey {
                from: OperatorId::from_str(&open.from)?,
                to: OperatorId::from_str(&open.to)?,
                port: open.port as usize,
            },
            start: StartId::from_str(&open.start)?,
            cluster: open.cluster,
        })
    }

    /// The schema of the rows that the caller is going to send.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn schema(first: &FlightData) -> Result<Schema, String> {
        ipc::schema(&first.data_header).map_err(|e| format!("an exchange begins with its schema: {e}"))
    }
}

pub(super) fn token(text: &str) -> Option<Token> {
    let (job, generation) = text.split_once('.')?;
    Some(Token { job: JobId::from_str(job).ok()?, generation: Generation(generation.parse().ok()?) })
}
