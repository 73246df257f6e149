//! Who may do what: roles, and the access tokens that clients show.
//!
//! A token is 256 random bits with a public id: `qanat_<16 hex digits>_<64 hex digits>`. A cluster keeps only its
//! SHA-256 digest; with so many random bits nothing slower is needed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::TokenId;
use crate::{Code, Error, Result};

/// What a principal may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at jobs, at what they read and wrote, and at the cluster.
    Viewer,
    /// Checks scripts and submits jobs.
    Submitter,
    /// Stops, resumes and rescales any job; drains executors.
    Operator,
    /// Makes and revokes tokens, reads the audit log.
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Submitter, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| {
            Error::new(Code::Usage, format!("`{text}` is no role")).hint("use viewer, submitter, operator or admin")
        })
    }
}

const PREFIX: &str = "qanat_";
const SECRET_DIGITS: usize = 64;

/// A token with its secret. It is never printed but on purpose: no `Debug`, no `Display`, no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    id: TokenId,
    text: String,
}

impl AccessToken {
    /// Of random bits.
    pub fn new(id: u64, secret: [u8; 32]) -> Self {
        let id = TokenId(id);
        Self { id, text: format!("{PREFIX}{id}_{}", hex(&secret)) }
    }

    /// # Errors
    /// E0605 for anything but a token. The text is not repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let parsed = parts.and_then(|(id, secret)| {
            let is_hex = secret.len() == SECRET_DIGITS && secret.bytes().all(|b| b.is_ascii_hexdigit());
            Some((id.parse().ok()?, is_hex.then_some(())?))
        });
        match parsed {
            Some((id, ())) => Ok(Self { id, text: text.to_owned() }),
            None => Err(Error::new(Code::NotAuthenticated, "this is no access token")
                .hint("a token looks like `qanat_<id>_<secret>`; `qanat cluster token create` makes one")),
        }
    }

    pub fn id(&self) -> TokenId {
        self.id
    }

    /// All of it, with the secret: to hand it to its user, or to send it over TLS.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.text.as_bytes()).into())
    }
}

/// SHA-256 of a token's text. Written as 64 hex digits.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// # Errors
    /// E0501 for anything but 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().map(Self);
        bytes.map_err(|_| Error::new(Code::Usage, "the digest of a token is the 32 bytes of SHA-256 of its text"))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Takes the same time wherever two digests differ.
impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

impl Serialize for TokenDigest {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        unhex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not 64 hex digits"))
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != SECRET_DIGITS || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_no_other_has_their_digest() {
        let token = AccessToken::new(7, [0xab; 32]);
        let parsed = AccessToken::parse(token.reveal()).expect("a token");
        assert!(parsed == token && parsed.id() == TokenId(7));
        assert_eq!(parsed.digest(), token.digest());
        let text = serde_json::to_string(&token.digest()).expect("encodes");
        assert_eq!(serde_json::from_str::<TokenDigest>(&text).expect("decodes"), token.digest());
        assert!(!text.contains("abab"), "the secret is not its digest");
        let mut secret = [0xab; 32];
        secret[31] ^= 1;
        assert_ne!(AccessToken::new(7, secret).digest(), token.digest());
        assert_ne!(AccessToken::new(8, [0xab; 32]).digest(), token.digest());
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        let token = AccessToken::new(7, [1; 32]);
        let text = token.reveal();
        let cut = text.get(..text.len() - 1).expect("longer");
        for wrong in ["", "qanat_", "qanat_7_1", "Bearer x", cut, &format!("{text}0"), &text.replace("01", "zz")] {
            let error = AccessToken::parse(wrong).err().expect("refused");
            assert_eq!(error.code(), Code::NotAuthenticated, "{wrong}");
            assert!(wrong.len() < 8 || !error.to_string().contains(wrong));
        }
    }

    #[test]
    fn roles_are_ordered_and_named() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>().expect("a role"), role);
        }
        assert_eq!("root".parse::<Role>().map_err(|e| e.code()), Err(Code::Usage));
    }
}
