//! Which call needs what: one row per call, and no call without a row.

use qanat_proto::access::Role;
use qanat_proto::rpc::identity::NodeRole;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: whether the process lives is no secret.
    Nothing,
    /// A certificate of the cluster, of a process of this kind.
    Node(NodeRole),
    /// An access token with at least this role.
    Look(Role),
    /// The same, for a call that changes something: it is audited, and counted when it is refused.
    Change(Role),
}

use Needs::{Change, Look, Node, Nothing};

/// The table. A service with one row `Service/*` has the same for all of its calls.
const TABLE: &[(&str, Needs)] = &[
    ("qanat.raft.v1.Raft/*", Node(NodeRole::Coordinator)),
    ("qanat.cluster.v1.Nodes/*", Node(NodeRole::Executor)),
    ("qanat.control.v1.Jobs/Submit", Change(Role::Submitter)),
    ("qanat.control.v1.Jobs/Validate", Look(Role::Submitter)),
    ("qanat.control.v1.Jobs/Explain", Look(Role::Submitter)),
    ("qanat.control.v1.Jobs/List", Look(Role::Viewer)),
    ("qanat.control.v1.Jobs/Describe", Look(Role::Viewer)),
    ("qanat.control.v1.Jobs/Watch", Look(Role::Viewer)),
    ("qanat.control.v1.Jobs/Stop", Change(Role::Operator)),
    ("qanat.control.v1.Jobs/Resume", Change(Role::Operator)),
    ("qanat.control.v1.Jobs/Rescale", Change(Role::Operator)),
    ("qanat.control.v1.Jobs/Savepoint", Change(Role::Operator)),
    ("qanat.control.v1.Jobs/Savepoints", Look(Role::Viewer)),
    ("qanat.control.v1.Jobs/DropSavepoint", Change(Role::Operator)),
    ("qanat.control.v1.Jobs/Rollback", Change(Role::Operator)),
    ("qanat.control.v1.Jobs/Drop", Change(Role::Operator)),
    ("qanat.control.v1.Cluster/Status", Look(Role::Viewer)),
    ("qanat.control.v1.Cluster/Drain", Change(Role::Operator)),
    ("qanat.control.v1.Cluster/Overview", Look(Role::Viewer)),
    ("qanat.control.v1.Cluster/AddCoordinator", Change(Role::Admin)),
    ("qanat.control.v1.Cluster/RemoveCoordinator", Change(Role::Admin)),
    ("qanat.control.v1.Cluster/CreateToken", Change(Role::Admin)),
    ("qanat.control.v1.Cluster/ListTokens", Look(Role::Admin)),
    ("qanat.control.v1.Cluster/RevokeToken", Change(Role::Admin)),
    ("qanat.control.v1.Cluster/AuditLog", Look(Role::Admin)),
    ("qanat.control.v1.Data/ListTopics", Look(Role::Viewer)),
    ("qanat.control.v1.Data/DescribeTopic", Look(Role::Viewer)),
    ("qanat.control.v1.Data/Tail", Look(Role::Viewer)),
    ("qanat.control.v1.Data/SideRows", Look(Role::Viewer)),
    ("qanat.control.v1.Data/Checkpoints", Look(Role::Viewer)),
    ("qanat.control.v1.Data/DescribeCheckpoint", Look(Role::Viewer)),
    ("qanat.control.v1.Data/Audit", Look(Role::Viewer)),
    ("qanat.control.v1.Data/CreateTopic", Change(Role::Operator)),
    ("qanat.control.v1.Data/DeleteTopic", Change(Role::Operator)),
    ("qanat.control.v1.Data/Readmit", Change(Role::Operator)),
    // Served by executors, for the coordinator that leads.
    ("qanat.exchange.v1.Taps/*", Node(NodeRole::Coordinator)),
    ("qanat.exchange.v1.LogOwner/*", Node(NodeRole::Coordinator)),
    ("grpc.health.v1.Health/*", Nothing),
    ("grpc.reflection.v1.ServerReflection/*", Look(Role::Viewer)),
    ("grpc.reflection.v1alpha.ServerReflection/*", Look(Role::Viewer)),
];

/// What the call with this HTTP path (`/package.Service/Method`) needs. None: there is no such call.
pub fn needs(path: &str) -> Option<Needs> {
    let call = path.strip_prefix('/')?;
    let (service, _) = call.split_once('/')?;
    let is_it = |row: &str| row == call || row.strip_suffix("/*") == Some(service);
    TABLE.iter().find(|(row, _)| is_it(row)).map(|(_, needs)| *needs)
}

impl Needs {
    /// Whether the call changes something.
    pub fn is_change(self) -> bool {
        matches!(self, Change(_))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;
    use qanat_proto::rpc::DESCRIPTORS;

    use super::*;

    /// All calls of our own protocols, as HTTP paths.
    pub(in crate::service) fn all_calls() -> Vec<String> {
        let files = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
        let mut calls = Vec::new();
        for file in &files.file {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                calls.extend(service.method.iter().map(|method| format!("/{service_name}/{}", method.name())));
            }
        }
        assert!(calls.len() >= 19, "{calls:?}");
        calls
    }

    /// Who may make which calls, as the guide writes them.
    #[test]
    fn the_guide_lists_every_call() {
        let page = include_str!("../../../docs/guide/security.md");
        let mut written: BTreeSet<(String, String)> = BTreeSet::new();
        for line in page.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [who, _, calls] = cells.as_slice() else { continue };
            let calls = calls.split(", ").filter_map(|call| call.strip_prefix('`')?.strip_suffix('`'));
            written.extend(calls.map(|call| (who.trim_matches('`').to_owned(), call.to_owned())));
        }
        let expected = TABLE.iter().map(|(row, needs)| {
            let who = match needs {
                Nothing => "anybody".to_owned(),
                Node(role) => format!("{role}s"),
                Look(role) | Change(role) => role.to_string(),
            };
            let call = row.rsplit('.').next().unwrap_or_default();
            (who, call.replace('/', "."))
        });
        assert_eq!(written, expected.collect());
    }

    #[test]
    fn every_call_has_a_row_and_every_row_a_call() {
        let calls = all_calls();
        for call in &calls {
            assert!(needs(call).is_some(), "{call} has no row in TABLE: say who may call it");
        }
        let services: BTreeSet<&str> =
            calls.iter().filter_map(|call| call.get(1..)?.split_once('/')).map(|p| p.0).collect();
        for (row, _) in TABLE.iter().filter(|(row, _)| row.starts_with("qanat.")) {
            let (service, method) = row.split_once('/').expect("a slash");
            let is_there = match method {
                "*" => services.contains(service),
                _ => calls.contains(&format!("/{row}")),
            };
            assert!(is_there, "{row} is no call");
        }
        let rows: BTreeSet<&str> = TABLE.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows.len(), TABLE.len(), "a row stands twice");
        for call in ["", "/", "/qanat.control.v1.Jobs", "/qanat.control.v1.Jobs/Erase", "/grpc.health.v1.Healthy/Check"]
        {
            assert_eq!(needs(call), None, "{call}");
        }
    }
}
