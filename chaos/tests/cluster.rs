//! The cluster campaign at a size for every change.

use anyhow::{Result, ensure};
use qanat_chaos::live::binary;
use qanat_chaos::live::cluster::ClusterCampaign;
use qanat_chaos::live::fault::FaultKind;

#[test]
fn twenty_faults_over_two_million_records_lose_and_double_nothing() -> Result<()> {
    let campaign = ClusterCampaign {
        records: 2_000_000,
        faults: 20,
        rows_per_second: 12_000,
        seed: 1,
        parallelism: 6,
        interval_ms: 200,
        kinds: FaultKind::ALL.to_vec(),
        binary: binary::locate(None)?,
        name: "cluster-test".to_owned(),
        keep: false,
    };
    let report = campaign.run()?;
    ensure!(report.passes(), "{}", report.to_json());
    Ok(())
}
