//! The access tokens that a cluster knows.

use std::collections::{BTreeMap, BTreeSet};

use qanat_proto::access::{Role, TokenDigest};
use qanat_proto::ids::TokenId;
use qanat_proto::limits::ACCESS_TOKENS_MAX;
use serde::{Deserialize, Serialize};

use crate::command::Refusal;

/// What is known of a token. Its secret is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenFacts {
    /// Who uses it.
    pub name: String,
    pub role: Role,
    pub digest: TokenDigest,
    /// Milliseconds since 1970 UTC; None: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

impl AccessTokenFacts {
    /// Time is told by whoever asks: the state has none.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }
}

/// All tokens but the administrator's first one, whose digest every coordinator has in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub tokens: BTreeMap<TokenId, AccessTokenFacts>,
    /// Tokens of files that are not good any more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<TokenId>,
}

impl Access {
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.revoked.is_empty()
    }

    /// # Errors
    /// If another token has the id or the name, or there are too many.
    pub(crate) fn create(&mut self, id: TokenId, facts: &AccessTokenFacts) -> Result<(), Refusal> {
        if self.tokens.get(&id) == Some(facts) {
            return Ok(());
        }
        let is_taken = |(known, other): (&TokenId, &AccessTokenFacts)| *known == id || other.name == facts.name;
        if self.tokens.iter().any(is_taken) || self.revoked.contains(&id) {
            return Err(Refusal::TokenTaken);
        }
        if self.tokens.len() >= ACCESS_TOKENS_MAX {
            return Err(Refusal::TooManyTokens);
        }
        self.tokens.insert(id, facts.clone());
        Ok(())
    }

    /// # Errors
    /// If it was revoked before.
    pub(crate) fn revoke(&mut self, id: TokenId) -> Result<(), Refusal> {
        if self.tokens.remove(&id).is_some() {
            return Ok(());
        }
        if self.revoked.len() >= ACCESS_TOKENS_MAX {
            return Err(Refusal::TooManyTokens);
        }
        if self.revoked.insert(id) { Ok(()) } else { Err(Refusal::UnknownToken) }
    }
}

#[cfg(test)]
mod tests {
    use qanat_proto::access::AccessToken;

    use super::*;

    fn facts(name: &str, secret: u8) -> AccessTokenFacts {
        let digest = AccessToken::new(1, [secret; 32]).digest();
        AccessTokenFacts { name: name.to_owned(), role: Role::Viewer, digest, expires_ms: Some(100) }
    }

    #[test]
    fn tokens_are_made_once_and_revoked_for_good() {
        let mut access = Access::default();
        let (a, b) = (TokenId(1), TokenId(2));
        access.create(a, &facts("ann", 1)).expect("new");
        access.create(a, &facts("ann", 1)).expect("the same again");
        assert_eq!(access.create(a, &facts("ann", 2)), Err(Refusal::TokenTaken), "another secret");
        assert_eq!(access.create(b, &facts("ann", 1)), Err(Refusal::TokenTaken), "another id");
        assert!(!facts("ann", 1).is_expired(99) && facts("ann", 1).is_expired(100));
        access.revoke(a).expect("known");
        assert!(access.is_empty());
        // One that only a file knows.
        access.revoke(b).expect("noted");
        assert_eq!(access.revoke(b), Err(Refusal::UnknownToken));
        assert_eq!(access.create(b, &facts("bob", 1)), Err(Refusal::TokenTaken));
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let mut access = Access::default();
        for id in 0..ACCESS_TOKENS_MAX as u64 {
            access.create(TokenId(id), &facts(&format!("user{id}"), 1)).expect("room");
        }
        assert_eq!(access.create(TokenId(u64::MAX), &facts("last", 1)), Err(Refusal::TooManyTokens));
    }
}
