//! An exchange with certificates: executors of the cluster come in, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor};
use prost::Message;
use qanat_proto::Code;
use qanat_proto::ids::StartId;
use qanat_proto::rpc::dial::{Dial, TlsDial};
use qanat_proto::rpc::exchange::Open;
use qanat_proto::rpc::status::error_of;
use qanat_proto::rpc::tls::Credentials;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tonic::Status;

use super::{Exchange, Runtimes, serve};

const CLUSTER: &str = "orchard";
/// Long for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a caller asks why its connection was closed.
const TRIES: usize = 100;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = parameters.self_signed(&key).expect("signed").pem().into_bytes();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    fn credentials(&self, identity: &str) -> Credentials {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names =
            vec![SanType::IpAddress([127, 0, 0, 1].into()), SanType::URI(identity.try_into().expect("plain text"))];
        let key = KeyPair::generate().expect("a key");
        let signed = parameters.signed_by(&key, &self.issuer).expect("signed");
        Credentials::new(self.pem.clone(), signed.pem().into_bytes(), key.serialize_pem().into_bytes())
            .expect("an identity")
    }
}

#[test]
fn rows_come_from_executors_of_the_cluster_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runs");
    let authority = Authority::new();
    let credentials = authority.credentials("qanat://orchard/executor/a");
    let exchange = Exchange {
        runtimes: Runtimes::new(vec![runtime.handle().clone()]),
        start: StartId(1),
        cluster: CLUSTER.into(),
        dial: Arc::new(TlsDial::of_node(&credentials)),
        incoming: Arc::default(),
    };
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    runtime.spawn(serve(exchange, listener, Some(credentials), None));
    let open = |dial: &dyn Dial| -> Status {
        let open = Open { token: format!("{:032x}.1", 1), cluster: CLUSTER.into(), ..Open::default() };
        let open =
            Open { start: format!("{:016x}", 2), from: format!("{:016x}", 3), to: format!("{:016x}", 4), ..open };
        let descriptor = FlightDescriptor::new_cmd(open.encode_to_vec());
        let first = FlightData { flight_descriptor: Some(descriptor), ..FlightData::default() };
        runtime.block_on(async {
            let mut client = FlightServiceClient::new(dial.dial(&address).expect("an address"));
            let call = client.do_exchange(futures::stream::iter([first]));
            tokio::time::timeout(LIMIT, call).await.expect("in time").expect_err("nothing runs here")
        })
    };
    let of = |authority: &Authority, identity: &str| TlsDial::of_node(&authority.credentials(identity));
    let admitted = open(&of(&authority, "qanat://orchard/executor/b"));
    assert_eq!(admitted.code(), tonic::Code::FailedPrecondition, "{admitted}");
    // With TLS 1.3 a certificate is refused when its owner's handshake is over already: the owner may find the
    // connection closed before it has read why, and asks again, as all callers do.
    let told = |dial: &dyn Dial| {
        let mut tries = std::iter::repeat_with(|| open(dial)).take(TRIES);
        tries.find(|status| error_of(status).code() != Code::NoQuorum).expect("it is told")
    };
    let refused = [
        told(&of(&authority, "qanat://orchard/coordinator/1")),
        told(&of(&authority, "qanat://vineyard/executor/b")),
        told(&TlsDial::of_client(&authority.pem)),
        told(&of(&Authority::new(), "qanat://orchard/executor/b")),
    ];
    for status in refused {
        assert_eq!(error_of(&status).code(), Code::CertificateRefused, "{status}");
    }
}
