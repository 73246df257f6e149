//! The campaigns against a cluster, at a size for every change.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use qanat_chaos::live::binary;
use qanat_chaos::live::cluster::{ClusterCampaign, Extent};
use qanat_chaos::live::fault::FaultKind;
use qanat_chaos::live::rolling::RollingRestart;

/// One campaign at a time: a fault waits for the job to go on, and on two cores two clusters of unoptimized processes
/// keep each other so long that a job has ended before all faults came.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_fault_of_every_kind_loses_and_doubles_nothing() -> Result<()> {
    let campaign = ClusterCampaign {
        records: 400_000,
        extent: Extent::Faults(FaultKind::ALL.len() as u64),
        rows_per_second: 12_000,
        seed: 1,
        parallelism: 6,
        interval_ms: 200,
        kinds: FaultKind::ALL.to_vec(),
        links: false,
        binary: binary::locate(None)?,
        name: "cluster-test".to_owned(),
        keep: false,
    };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let report = campaign.run()?;
    ensure!(report.passes() && report.answers > 20, "{}", report.to_json());
    Ok(())
}

/// How long the job pauses is printed; a bound for it is for a machine that does nothing else, and for
/// `cluster --rolling`.
#[test]
fn a_rolling_restart_of_every_process_loses_and_doubles_nothing() -> Result<()> {
    let restart = RollingRestart {
        records: 560_000,
        rows_per_second: 8_000,
        rounds: 1,
        parallelism: 6,
        interval_ms: 200,
        binary: binary::locate(None)?,
        name: "rolling-test".to_owned(),
        keep: false,
    };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let report = restart.run()?;
    write!(std::io::stderr(), "{report}")?;
    ensure!(report.is_exact(), "{}", report.to_json());
    Ok(())
}
