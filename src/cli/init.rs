//! `qanat cluster init` and `certify`: certificates for the processes of a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use qanat_proto::names::Name;
use qanat_proto::{Code, Error, Result};
use qanat_storage::env::Env;

use crate::cluster::{InitOptions, NewNode, certify, host_of, init};
use crate::output::{self, Format, counted};

/// How long certificates of processes are good.
const DAYS: u32 = 825;

/// Make a certificate authority, a folder with a certificate for each process, and the administrator's token.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// A new folder. Each process gets one of its folders, as `--security`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A coordinator, and where all others reach it. May be repeated: 1, 3 or 5.
    #[arg(long, value_name = "ID=HOST:PORT", value_parser = coordinator, required = true)]
    coordinator: Vec<(u64, String)>,
    /// An executor, and the names and IP addresses at which others reach it. May be repeated.
    #[arg(long, value_name = "NAME=HOST[,HOST]", value_parser = executor)]
    executor: Vec<(Name, Vec<String>)>,
    /// Days for which the certificates of processes are good.
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=7_000))]
    days: u32,
}

fn coordinator(text: &str) -> std::result::Result<(u64, String), String> {
    let (id, address) = text.split_once('=').ok_or("not ID=HOST:PORT")?;
    let id = id.trim().parse().map_err(|e| format!("`{id}` is no number: {e}"))?;
    host_of(address).map_err(|e| e.message().to_owned())?;
    Ok((id, address.to_owned()))
}

fn executor(text: &str) -> std::result::Result<(Name, Vec<String>), String> {
    let (name, hosts) = text.split_once('=').ok_or("not NAME=HOST")?;
    let name = Name::new(name).map_err(|e| e.message().to_owned())?;
    Ok((name, hosts.split(',').map(|host| host.trim().to_owned()).collect()))
}

fn once<K: Ord + std::fmt::Display, V>(given: Vec<(K, V)>, what: &str) -> Result<BTreeMap<K, V>> {
    let mut map = BTreeMap::new();
    for (key, value) in given {
        if map.contains_key(&key) {
            return Err(Error::new(Code::Usage, format!("{what} {key} is given twice")));
        }
        map.insert(key, value);
    }
    Ok(map)
}

impl Init {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let coordinators = once(self.coordinator.clone(), "coordinator")?;
        if !matches!(coordinators.len(), 1 | 3 | 5) {
            let message = format!(
                "a group of {} makes no sense",
                counted(coordinators.len() as u64, "coordinator", "coordinators")
            );
            return Err(Error::new(Code::Usage, message).hint("name 1, 3 or 5"));
        }
        let executors = once(self.executor.clone(), "executor")?;
        let options = InitOptions { out: self.out.clone(), coordinators, executors, days: self.days };
        let cluster = init(&Env::real(), &options)?;
        let out = self.out.display();
        let token = self.out.join("admin.token");
        let report = serde_json::json!({
            "cluster": cluster,
            "folder": self.out,
            "ca": self.out.join("ca.pem"),
            "admin_token": token,
        });
        output::print_object(&report, format, || {
            format!(
                "cluster {cluster}\n\
                 Each process gets its folder in {out} alone, as --security.\n\
                 Clients get {out}/ca.pem; the administrator's token is in {}.\n\
                 Keep {out}/ca-key.pem where no process of the cluster runs.",
                token.display()
            )
        });
        Ok(())
    }
}

/// Make the folder of one more process, or a new certificate for one there is.
#[derive(Args, Debug)]
pub(crate) struct Certify {
    /// The folder of `qanat cluster init`, with the authority's key.
    #[arg(long, value_name = "DIR")]
    authority: PathBuf,
    /// A new folder: what the process gets as `--security`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[arg(long, value_name = "ID=HOST:PORT", value_parser = coordinator, conflicts_with = "executor")]
    #[arg(required_unless_present = "executor")]
    coordinator: Option<(u64, String)>,
    #[arg(long, value_name = "NAME=HOST[,HOST]", value_parser = executor)]
    executor: Option<(Name, Vec<String>)>,
    /// Days for which the certificate is good.
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=7_000))]
    days: u32,
}

impl Certify {
    pub(crate) fn execute(&self, format: Format) -> Result<()> {
        let node = match (&self.coordinator, &self.executor) {
            (Some((id, address)), _) => NewNode::coordinator(*id, address)?,
            (None, Some((name, hosts))) => NewNode::executor(name, hosts)?,
            (None, None) => return Err(Error::new(Code::Usage, "name --coordinator or --executor")),
        };
        certify(&Env::real(), &self.authority, &self.out, &node, self.days)?;
        let report = serde_json::json!({ "node": node.folder(), "folder": self.out });
        output::print_object(&report, format, || format!("{} has its folder {}", node.folder(), self.out.display()));
        Ok(())
    }
}
