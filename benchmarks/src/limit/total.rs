use ahash::AHashMap as Map;

use super::events::Batch;
use super::{Loop, Out};

const DAY: i64 = 86_400_000;

/// Which of the three ranks of prices this is, as a bit.
fn rank(price: i64) -> u8 {
    1 << (u8::from(price >= 10_000) + u8::from(price >= 1_000_000))
}

/// What is known of a day: bids of each rank, and of whom with which.
#[derive(Default)]
struct Day {
    bids: [i64; 4],
    bidders: Map<i64, u8>,
    auctions: Map<i64, u8>,
    distinct: [[i64; 4]; 2],
    mark: u32,
}

/// q15: bids, bidders and auctions of each day, by price.
#[derive(Default)]
pub(super) struct Distinct {
    days: Map<i64, Day>,
    changed: Vec<i64>,
}

impl Loop<'_> for Distinct {
    fn batch(&mut self, at: u32, batch: &Batch<'_>, out: &mut Out) {
        let bid = &batch.bid;
        let mut row = 0;
        while row < bid.time.len() {
            let number = bid.time[row].div_euclid(DAY);
            let day = self.days.entry(number).or_default();
            if day.mark != at + 1 {
                day.mark = at + 1;
                self.changed.push(number);
            }
            while row < bid.time.len() && bid.time[row].div_euclid(DAY) == number {
                let bit = rank(bid.price[row]);
                day.bids[0] += 1;
                day.bids[bit.trailing_zeros() as usize + 1] += 1;
                let sets = [(&mut day.bidders, bid.bidder[row]), (&mut day.auctions, bid.auction[row])];
                for ((known, key), counts) in sets.into_iter().zip(&mut day.distinct) {
                    let mask = known.entry(key).or_default();
                    counts[0] += i64::from(*mask == 0);
                    counts[bit.trailing_zeros() as usize + 1] += i64::from(*mask & bit == 0);
                    *mask |= bit;
                }
                row += 1;
            }
        }
        for number in self.changed.drain(..) {
            let day = &self.days[&number];
            out.integer(number);
            for count in day.bids.iter().chain(day.distinct.iter().flatten()) {
                out.integer(*count);
            }
            out.row();
        }
    }

    fn rows(&self) -> Option<u64> {
        Some(self.days.len() as u64)
    }
}

struct Auction {
    bids: [i64; 4],
    least: i64,
    most: i64,
    sum: i64,
    mark: u32,
}

/// q17: bids and prices of each auction and day.
#[derive(Default)]
pub(super) struct PerAuction {
    auctions: Map<(i64, i64), Auction>,
    changed: Vec<(i64, i64)>,
}

impl Loop<'_> for PerAuction {
    fn batch(&mut self, at: u32, batch: &Batch<'_>, out: &mut Out) {
        let bid = &batch.bid;
        for row in 0..bid.time.len() {
            let (key, price) = ((bid.auction[row], bid.time[row].div_euclid(DAY)), bid.price[row]);
            let none = Auction { bids: [0; 4], least: i64::MAX, most: i64::MIN, sum: 0, mark: 0 };
            let auction = self.auctions.entry(key).or_insert(none);
            auction.bids[0] += 1;
            auction.bids[rank(price).trailing_zeros() as usize + 1] += 1;
            auction.least = auction.least.min(price);
            auction.most = auction.most.max(price);
            auction.sum += price;
            if auction.mark != at + 1 {
                auction.mark = at + 1;
                self.changed.push(key);
            }
        }
        for key in self.changed.drain(..) {
            let auction = &self.auctions[&key];
            let mean = auction.sum / auction.bids[0];
            for value in [key.0, key.1].into_iter().chain(auction.bids) {
                out.integer(value);
            }
            for value in [auction.least, auction.most, mean, auction.sum] {
                out.integer(value);
            }
            out.row();
        }
    }

    fn rows(&self) -> Option<u64> {
        Some(self.auctions.len() as u64)
    }
}
