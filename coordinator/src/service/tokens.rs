//! Access tokens and the audit log, as clients see them.

use qanat_coordinator_core::access::AccessTokenFacts;
use qanat_coordinator_core::state::State;
use qanat_coordinator_core::{Command, audit};
use qanat_proto::access::{Role, TokenDigest};
use qanat_proto::error::nearest;
use qanat_proto::ids::TokenId;
use qanat_proto::names::Name;
use qanat_proto::rpc::control::{AccessToken, AuditEntry, AuditLogResponse, CreateTokenRequest};
use qanat_proto::{Code, Error, Result};

use crate::service::guard::{FIRST_ADMIN, Guard, LOCAL, Security};

/// The files of a cluster that has tokens.
pub(super) fn secured(guard: &Guard) -> Result<&Security> {
    guard.security().ok_or_else(|| {
        Error::new(Code::Usage, "this cluster runs without certificates and tokens")
            .hint("`qanat cluster init` makes what `--security` takes")
    })
}

/// The command that makes a token.
pub(super) fn creation(request: CreateTokenRequest, security: &Security, now_ms: i64) -> Result<Command> {
    let CreateTokenRequest { id, digest, name, role, expires_ms } = request;
    let id: TokenId = id.parse().map_err(|e: String| Error::new(Code::Usage, format!("the token's id: {e}")))?;
    let name = Name::new(&name)?.to_string();
    let role: Role = role.parse()?;
    let digest = TokenDigest::from_bytes(&digest)?;
    if id == security.admin.0 || [FIRST_ADMIN, LOCAL].contains(&name.as_str()) {
        return Err(Error::new(Code::Usage, format!("a token cannot be called `{name}`")).hint("use another name"));
    }
    if expires_ms != 0 && expires_ms <= now_ms {
        return Err(Error::new(Code::Usage, "the token would be past its time at once").hint("use a later time"));
    }
    let expires_ms = (expires_ms != 0).then_some(expires_ms);
    Ok(Command::CreateToken { id, facts: AccessTokenFacts { name, role, digest, expires_ms } })
}

/// All tokens that are good or were, the administrator's first one first.
pub(super) fn all(state: &State, security: &Security) -> Vec<(TokenId, AccessTokenFacts)> {
    let (id, digest) = security.admin;
    let first = AccessTokenFacts { name: FIRST_ADMIN.to_owned(), role: Role::Admin, digest, expires_ms: None };
    let first = (!state.access.revoked.contains(&id)).then_some((id, first));
    first.into_iter().chain(state.access.tokens.iter().map(|(id, facts)| (*id, facts.clone()))).collect()
}

/// The token with this id or name, if it may go.
pub(super) fn to_revoke(
    state: &State,
    security: &Security,
    wanted: &str,
    now_ms: i64,
) -> Result<(TokenId, AccessTokenFacts)> {
    let tokens = all(state, security);
    let is_it = |(id, facts): &&(TokenId, AccessTokenFacts)| facts.name == wanted || id.to_string() == wanted;
    let Some(found) = tokens.iter().find(is_it) else {
        let error = Error::new(Code::Usage, format!("there is no token `{wanted}`"));
        return Err(match nearest(wanted, tokens.iter().map(|(_, facts)| facts.name.as_str())) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`qanat cluster token list` lists them"),
        });
    };
    let is_admin = |facts: &AccessTokenFacts| facts.role == Role::Admin && !facts.is_expired(now_ms);
    let others = tokens.iter().filter(|(id, facts)| *id != found.0 && is_admin(facts)).count();
    if others == 0 && is_admin(&found.1) {
        return Err(Error::new(Code::Usage, format!("`{wanted}` is the last administrator's token"))
            .hint("make another one first: nobody could make any more"));
    }
    Ok(found.clone())
}

pub(super) fn told(id: TokenId, facts: &AccessTokenFacts) -> AccessToken {
    AccessToken {
        id: id.to_string(),
        name: facts.name.clone(),
        role: facts.role.to_string(),
        expires_ms: facts.expires_ms.unwrap_or(0),
    }
}

/// The newest `last` entries; all for 0.
pub(super) fn audit_log(log: &audit::AuditLog, last: u32, guard: &Guard) -> AuditLogResponse {
    let skipped = if last == 0 { 0 } else { log.entries.len().saturating_sub(last as usize) };
    let entries = log.entries.iter().skip(skipped).map(|entry| AuditEntry {
        number: entry.number,
        at_ms: entry.at_ms,
        who: entry.caller.who.clone(),
        what: entry.caller.what.clone(),
        object: entry.object.clone(),
        from: entry.caller.from.clone(),
    });
    AuditLogResponse {
        entries: entries.collect(),
        dropped: log.dropped,
        refused: guard.refused().into_iter().map(|(code, count)| (code.to_owned(), count)).collect(),
    }
}
