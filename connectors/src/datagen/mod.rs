use qanat_proto::connector::{ConnectorDescriptor, Delivery, Role, TableDescriptor, TableTraits};
use qanat_proto::error::Result;

use crate::registry::Connector;

pub struct Datagen;

impl Connector for Datagen {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: "datagen",
            aliases: &[],
            doc: "",
            source: true,
            sink: false,
            lookup: false,
            formats: &[],
            options: &[],
        }
    }

    fn check(&self, _table: &TableDescriptor, _role: Role) -> Result<TableTraits> {
        Ok(TableTraits { bounded: false, replayable: true, delivery: Delivery::None })
    }
}
