//! What a command is about: a data folder or a cluster. What stands on the command line comes before the environment.

use std::path::PathBuf;

use clap::Args;
use qanat_proto::{Code, Error, Place, Result, address};
use qanat_storage::env::Env;

use crate::cli::cluster::ClusterArguments;
use crate::data_folder::DataView;

const CLUSTER: &str = "QANAT_CLUSTER";
const DATA: &str = "QANAT_DATA";

/// A variable of the environment; an empty one is not set.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Where jobs, topics and checkpoints are kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataArguments {
    /// Data folder: topics and jobs. QANAT_DATA, or else `./qanat-data`, if not given.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl DataArguments {
    pub(crate) fn folder(&self) -> PathBuf {
        let told = self.data.clone().or_else(|| variable(DATA).map(PathBuf::from));
        told.unwrap_or_else(|| PathBuf::from("./qanat-data"))
    }

    /// The option of the command line that names a folder, if one does.
    pub(crate) fn folder_option(&self) -> Option<&'static str> {
        self.data.as_ref().map(|_| "--data")
    }
}

/// Which run of a job, where its name alone does not say it.
#[derive(Args, Clone, Debug)]
pub(crate) struct JobArguments {
    /// One run alone: its id, or the first digits of it. Otherwise the newest, or all where entries are listed.
    #[arg(long, value_name = "JOBID")]
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) data: DataArguments,
    /// Folder of the job's own state, in place of `<data>/jobs/<name>`.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

impl JobArguments {
    pub(crate) fn view(&self) -> Result<DataView> {
        DataView::open(&Env::real(), &self.data.folder(), self.state.as_deref())
    }

    /// The option of the command line that names a folder, if one does.
    pub(crate) fn folder_option(&self) -> Option<&'static str> {
        self.data.folder_option().or_else(|| self.state.as_ref().map(|_| "--state"))
    }
}

impl ClusterArguments {
    /// Whether a command that can look into a folder asks a cluster. `folder`: the option that names one.
    ///
    /// # Errors
    /// E0501 if the command line names both.
    pub(crate) fn is_used(&self, folder: Option<&'static str>) -> Result<bool> {
        match (&self.cluster, folder) {
            (Some(_), Some(folder)) => {
                Err(Error::new(Code::Usage, format!("`--cluster` and `{folder}` are both given"))
                    .hint("a command looks into a folder or asks a cluster: leave one of them out"))
            }
            (Some(_), None) => Ok(true),
            (None, Some(_)) => Ok(false),
            (None, None) => Ok(variable(CLUSTER).is_some()),
        }
    }

    /// Addresses of coordinators, separated by commas.
    ///
    /// # Errors
    /// E0501 if no cluster is named, or an address is not HOST:PORT.
    pub(super) fn addresses(&self) -> Result<String> {
        let told = self.cluster.clone().or_else(|| variable(CLUSTER).map(|text| text.to_string_lossy().into_owned()));
        let none = || Error::new(Code::Usage, "no cluster is named");
        let told = told.ok_or_else(|| none().hint(format!("use --cluster HOST:PORT, or {CLUSTER}")))?;
        let from = if self.cluster.is_some() { "--cluster" } else { CLUSTER };
        let checked = told.split(',').try_for_each(|each| address::check(each.trim()));
        checked.map(|()| told).map_err(|error| error.at(Place::Named(from.to_owned())))
    }
}
