//! What a file sink has: a folder, which cannot refuse anybody.

use std::collections::{BTreeMap, BTreeSet};

use qanat_proto::control::Withdrawal;
use qanat_proto::ids::{OperatorId, Token};
use qanat_proto::manifest::PreparedHandle;
use qanat_proto::names::Origin;

/// Rows by the names of files.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    pub(super) staged: BTreeMap<String, Vec<u64>>,
    pub(super) visible: BTreeMap<String, Vec<u64>>,
    /// Names that were taken back: written down before the files go, so that no late publisher brings them again.
    pub(super) tombstones: BTreeSet<String>,
}

impl Folder {
    /// Gives a file its final name. False if there is no such file and none was published under that name.
    pub(super) fn publish(&mut self, handle: &PreparedHandle) -> bool {
        if self.tombstones.contains(&handle.name) || self.visible.contains_key(&handle.name) {
            return true;
        }
        match self.staged.remove(&handle.name) {
            Some(rows) => {
                self.visible.insert(handle.name.clone(), rows);
                true
            }
            None => false,
        }
    }

    /// Removes what lower generations of the job staged, unless it is to be kept (P6).
    pub(super) fn abort_lower(&mut self, token: Token, keep: &[PreparedHandle]) {
        let keep: BTreeSet<&str> = keep.iter().map(|handle| handle.name.as_str()).collect();
        self.staged.retain(|name, _| {
            let is_lower = Origin::parse_object(name).is_some_and(|(origin, _)| origin.may_be_aborted_by(token));
            !is_lower || keep.contains(name.as_str())
        });
    }

    /// Takes back what a rollback names (P10).
    pub(super) fn withdraw(&mut self, withdrawal: &Withdrawal, operator: OperatorId) {
        for name in withdrawal.names(operator) {
            self.tombstones.insert(name.to_owned());
            self.staged.remove(name);
            self.visible.remove(name);
        }
    }
}
