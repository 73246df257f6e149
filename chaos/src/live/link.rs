//! A link to a node: a proxy in front of the address that others know, where the system has no network for every node.
//!
//! It knows which node is at the other end of a connection, so what passes in one direction between two nodes can be
//! held up, slowed or broken off. While it is cut nothing passes and nothing is refused: connections stand and say
//! nothing, as behind a broken switch.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::weather::Weather;

/// Between two looks whether it is whole again.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const PIECE: usize = 64 << 10;

/// A proxy. Its threads end with the process.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    weather: Arc<Weather>,
    /// The node behind it.
    node: usize,
    /// Where connections lead now: the process behind it may start again elsewhere.
    target: Mutex<Option<SocketAddr>>,
}

impl Link {
    /// # Errors
    /// If no port is free.
    pub fn new(node: usize, weather: Arc<Weather>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen for a link")?;
        let address = listener.local_addr().context("a link's address")?;
        let shared = Arc::new(Shared { weather, node, target: Mutex::default() });
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
}

/// One direction of a connection.
struct Way {
    from: Option<usize>,
    to: Option<usize>,
    /// As of its beginning.
    resets: u64,
}

impl Way {
    fn new(weather: &Weather, from: Option<usize>, to: Option<usize>) -> Self {
        Self { from, to, resets: weather.resets([from, to]) }
    }

    fn wait_until_whole(&self, weather: &Weather) {
        while weather.is_cut(self.from, self.to) {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn serve(near: TcpStream, shared: &Arc<Shared>) {
    let peer = near.peer_addr().ok().and_then(|peer| shared.weather.node_of(peer));
    let there = Way::new(&shared.weather, peer, Some(shared.node));
    let back = Way::new(&shared.weather, Some(shared.node), peer);
    // A connection is made by packets of both.
    there.wait_until_whole(&shared.weather);
    back.wait_until_whole(&shared.weather);
    let target = *shared.target.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(far) = target.and_then(|target| TcpStream::connect(target).ok()) else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { return };
    let behind = shared.clone();
    std::thread::spawn(move || carry(far_again, near_again, &back, &behind.weather));
    carry(near, far, &there, &shared.weather);
}

fn carry(mut from: TcpStream, mut to: TcpStream, way: &Way, weather: &Weather) {
    let mut piece = vec![0; PIECE];
    loop {
        let length = match from.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        std::thread::sleep(weather.lateness(way.from, length));
        way.wait_until_whole(weather);
        let breaks = weather.resets([way.from, way.to]) != way.resets;
        // In the middle of whatever it is.
        let passes = if breaks { length / 2 } else { length };
        if to.write_all(&piece[..passes]).is_err() {
            break;
        }
        if breaks {
            weather.broke();
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::super::weather::Trouble;
    use super::*;

    /// One that answers every byte with the next one.
    fn answering() -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for mut near in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while near.read_exact(&mut byte).is_ok() && near.write_all(&[byte[0] + 1]).is_ok() {}
                });
            }
        });
        Ok(address)
    }

    /// A link to node 1 as node 0 sees it, which is this process.
    fn link() -> Result<(Link, Arc<Weather>, TcpStream)> {
        let weather = Arc::new(Weather::new(2));
        weather.is_process(0, i32::try_from(std::process::id())?);
        let link = Link::new(1, weather.clone())?;
        link.lead_to(answering()?);
        let stream = TcpStream::connect(link.address())?;
        Ok((link, weather, stream))
    }

    fn ask(stream: &mut TcpStream) -> Result<u8> {
        let mut byte = [0];
        stream.write_all(&[7])?;
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn either_direction_can_be_cut_and_comes_back() -> Result<()> {
        for (from, to) in [(0, 1), (1, 0)] {
            let (_link, weather, mut stream) = link()?;
            ensure!(ask(&mut stream)? == 8, "nothing is cut");
            weather.cut(from, to, true);
            stream.set_read_timeout(Some(Duration::from_millis(60)))?;
            ensure!(ask(&mut stream).is_err(), "{from} to {to} is cut");
            weather.cut(from, to, false);
            stream.set_read_timeout(None)?;
            let mut late = [0];
            stream.read_exact(&mut late)?;
            ensure!(late == [8], "what was held up comes");
        }
        Ok(())
    }

    #[test]
    fn what_passes_is_late_or_breaks_off() -> Result<()> {
        let (_link, weather, mut stream) = link()?;
        ensure!(ask(&mut stream)? == 8 && weather.take_met() == 0, "fine");
        weather.trouble(Trouble::Slow, 1, true);
        ensure!(ask(&mut stream)? == 8 && weather.take_met() == 1, "the answer alone is late");
        weather.trouble(Trouble::Slow, 1, false);
        weather.reset(0);
        ensure!(ask(&mut stream).is_err() && weather.take_met() == 1, "broken");
        Ok(())
    }
}
