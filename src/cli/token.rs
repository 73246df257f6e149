//! `qanat cluster token`: who may use the cluster, and as what.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use qanat_client::{AccessToken, Role, TokenFacts};
use qanat_proto::settings::parse_duration_ms;
use qanat_proto::{Code, Error, Place, Result};
use qanat_storage::crash_safe::{self, Draft};
use qanat_storage::env::Env;
use serde::Serialize;

use crate::cli::cluster::ClusterArguments;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make a token. Its secret is shown this once, and kept nowhere.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Who will use it: what the audit log calls its holder.
    name: String,
    /// viewer, submitter, operator or admin: each may do what those before it may.
    #[arg(long, value_parser = role)]
    role: Role,
    /// How long it is good: `12h`, `30d`. For ever if not given.
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    expires: Option<i64>,
    /// Write it into this new file (mode 0600) and do not print it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

fn role(text: &str) -> std::result::Result<Role, String> {
    text.parse().map_err(|_| "use viewer, submitter, operator or admin".to_owned())
}

/// `90s`, `15m`, `12h` or `30d` in milliseconds. A number alone would be milliseconds, which nobody means.
pub(super) fn duration_ms(text: &str) -> std::result::Result<i64, String> {
    let has_unit = !text.ends_with(|last: char| last.is_ascii_digit());
    let ms = parse_duration_ms(text).filter(|ms| has_unit && *ms > 0).and_then(|ms| i64::try_from(ms).ok());
    ms.ok_or_else(|| "write a number above 0 and a unit: `90s`, `15m`, `12h` or `30d`".to_owned())
}

/// List tokens, without their secrets.
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// End a token at once.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// Its name or its id.
    token: String,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Serialize)]
struct TokenReport {
    id: String,
    name: String,
    role: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl TokenReport {
    fn new(facts: TokenFacts) -> Self {
        let expires = (facts.expires_ms != 0).then(|| output::time(facts.expires_ms));
        Self { id: facts.id, name: facts.name, role: facts.role, expires, token: None }
    }
}

impl Token {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        match self {
            Self::Create(command) => command.execute(format),
            Self::List(command) => {
                let tokens = command.cluster.ask(|client| async move { client.list_tokens().await })?;
                let tokens: Vec<TokenReport> = tokens.into_iter().map(TokenReport::new).collect();
                output::print_object(&tokens, format, || {
                    let row = |t: &TokenReport| {
                        let expires = t.expires.clone().unwrap_or_else(|| "never".to_owned());
                        vec![t.name.clone(), t.role.clone(), t.id.clone(), expires]
                    };
                    output::table(&["token", "role", "id", "expires"], &tokens.iter().map(row).collect::<Vec<_>>())
                });
                Ok(())
            }
            Self::Revoke(command) => {
                let revoked = command.cluster.ask(|client| async move { client.revoke_token(&command.token).await })?;
                let report = TokenReport::new(revoked);
                output::print_object(&report, format, || format!("{} is revoked", report.name));
                Ok(())
            }
        }
    }
}

impl Create {
    fn execute(&self, format: Format) -> Result<()> {
        let env = Env::real();
        if let Some(out) = self.out.as_ref().filter(|out| env.disk.exists(out).unwrap_or(false)) {
            return Err(Error::new(Code::Usage, format!("`{}` exists, and is not overwritten", out.display())));
        }
        // Where it cannot be kept it is not made.
        let draft = |out: &PathBuf| Draft::private_for(&env, out).map_err(|error| not_kept(out, &error));
        let draft = self.out.as_ref().map(draft).transpose()?;
        let expires_ms = self.expires.map(|ms| env.clock.now_ms().saturating_add(ms));
        let token =
            self.cluster.ask(|client| async move { client.create_token(&self.name, self.role, expires_ms).await })?;
        let mut report = TokenReport {
            id: token.id().to_string(),
            name: self.name.clone(),
            role: self.role.to_string(),
            expires: expires_ms.map(output::time),
            token: None,
        };
        match (&self.out, draft) {
            (Some(out), Some(draft)) => self.keep(out, draft, &token)?,
            _ => report.token = Some(token.reveal().to_owned()),
        }
        output::print_object(&report, format, || match &self.out {
            Some(out) => format!("the token of {} is in {}", self.name, out.display()),
            None => token.reveal().to_owned(),
        });
        Ok(())
    }

    /// Writes the secret; one that is lost is good for nobody.
    fn keep(&self, out: &Path, mut draft: Draft, token: &AccessToken) -> Result<()> {
        let written = draft.write(format!("{}\n", token.reveal()).as_bytes()).and_then(|()| draft.publish_new(out));
        written.map_err(|error| {
            let id = token.id().to_string();
            let revoked = self.cluster.ask(|client| async move { client.revoke_token(&id).await });
            not_kept(out, &error).hint(match revoked {
                Ok(_) => "the token is revoked: make another one".to_owned(),
                Err(_) => format!("its secret is lost: `qanat cluster token revoke {}`", token.id()),
            })
        })
    }
}

fn not_kept(out: &Path, error: &crash_safe::Error) -> Error {
    Error::from(error).at(Place::Named(out.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration_ms("30d"), Ok(30 * 86_400_000));
        assert_eq!(duration_ms("90s"), Ok(90_000));
        for wrong in ["", "30", "d", "0d", "-1d", "1w", "1ü", "999999999999d"] {
            assert!(duration_ms(wrong).is_err(), "{wrong}");
        }
    }
}
