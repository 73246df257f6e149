use ahash::AHashMap as Map;

use super::events::Batch;
use super::{Loop, Out, Place};

struct Last {
    time: i64,
    place: Place,
    mark: u32,
}

/// q18: the last bid of each bidder on each auction.
pub(super) struct LastBid<'a> {
    batches: &'a [Batch<'a>],
    last: Map<(i64, i64), Last>,
    changed: Vec<(i64, i64)>,
}

impl<'a> LastBid<'a> {
    pub(super) fn new(batches: &'a [Batch<'a>]) -> Self {
        Self { batches, last: Map::default(), changed: Vec::new() }
    }
}

impl<'a> Loop<'a> for LastBid<'a> {
    fn batch(&mut self, at: u32, batch: &Batch<'a>, out: &mut Out) {
        let bid = &batch.bid;
        for row in 0..bid.time.len() {
            let (key, time) = ((bid.bidder[row], bid.auction[row]), bid.time[row]);
            let none = Last { time: i64::MIN, place: Place::default(), mark: 0 };
            let last = self.last.entry(key).or_insert(none);
            if time > last.time {
                (last.time, last.place) = (time, Place { batch: at, row: row as u32 });
                if last.mark != at + 1 {
                    last.mark = at + 1;
                    self.changed.push(key);
                }
            }
        }
        for key in self.changed.drain(..) {
            let place = self.last[&key].place;
            out.bid(&self.batches[place.batch as usize].bid, place.row as usize);
            out.row();
        }
    }

    fn rows(&self) -> Option<u64> {
        Some(self.last.len() as u64)
    }
}

#[derive(Default)]
struct Top {
    /// The highest first.
    bids: Vec<(i64, Place)>,
    mark: u32,
}

/// q19: the ten highest bids of each auction.
pub(super) struct TopBids<'a> {
    batches: &'a [Batch<'a>],
    top: Map<i64, Top>,
    changed: Vec<i64>,
}

impl<'a> TopBids<'a> {
    pub(super) fn new(batches: &'a [Batch<'a>]) -> Self {
        Self { batches, top: Map::default(), changed: Vec::new() }
    }
}

impl<'a> Loop<'a> for TopBids<'a> {
    fn batch(&mut self, at: u32, batch: &Batch<'a>, out: &mut Out) {
        let bid = &batch.bid;
        for row in 0..bid.time.len() {
            let (auction, price) = (bid.auction[row], bid.price[row]);
            let top = self.top.entry(auction).or_default();
            if top.bids.len() == 10 && top.bids[9].0 >= price {
                continue;
            }
            let place = top.bids.partition_point(|(known, _)| *known >= price);
            top.bids.insert(place, (price, Place { batch: at, row: row as u32 }));
            top.bids.truncate(10);
            if top.mark != at + 1 {
                top.mark = at + 1;
                self.changed.push(auction);
            }
        }
        for auction in self.changed.drain(..) {
            // Whoever reads it knows a row by auction and rank: all that may have moved are told again.
            for (rank, (_, place)) in self.top[&auction].bids.iter().enumerate() {
                out.bid(&self.batches[place.batch as usize].bid, place.row as usize);
                out.integer(rank as i64 + 1);
                out.row();
            }
        }
    }

    fn rows(&self) -> Option<u64> {
        Some(self.top.values().map(|top| top.bids.len() as u64).sum())
    }
}
