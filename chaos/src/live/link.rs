//! A link that can be cut: a proxy in front of an executor's exchange.
//!
//! While it is cut nothing passes and nothing is refused: connections stand and say nothing, as behind a broken switch.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// Between two looks whether it is whole again.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const PIECE: usize = 64 << 10;

/// A proxy. Its threads end with the process.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_cut: AtomicBool,
    /// Where connections lead now: the process behind it may start again elsewhere.
    target: Mutex<Option<SocketAddr>>,
}

impl Link {
    /// # Errors
    /// If no port is free.
    pub fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen for a link")?;
        let address = listener.local_addr().context("a link's address")?;
        let shared = Arc::<Shared>::default();
        let behind = shared.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let shared = behind.clone();
                std::thread::spawn(move || serve(near, &shared));
            }
        });
        Ok(Self { address, shared })
    }

    /// What others are told.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }

    pub fn cut(&self, cut: bool) {
        self.shared.is_cut.store(cut, Ordering::Release);
    }
}

impl Shared {
    fn wait_until_whole(&self) {
        while self.is_cut.load(Ordering::Acquire) {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn serve(near: TcpStream, shared: &Arc<Shared>) {
    shared.wait_until_whole();
    let target = *shared.target.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(far) = target.and_then(|target| TcpStream::connect(target).ok()) else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { return };
    let behind = shared.clone();
    std::thread::spawn(move || carry(far_again, near_again, &behind));
    carry(near, far, shared);
}

fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut piece = vec![0; PIECE];
    loop {
        let length = match from.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        shared.wait_until_whole();
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}
