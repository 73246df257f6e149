use ahash::AHashMap as Map;

use super::events::Batch;
use super::{Loop, Out, Place};

struct Open {
    from: i64,
    until: i64,
    category: i64,
    best: Option<i64>,
}

/// q4: the average of the highest bids of each category.
#[derive(Default)]
pub(super) struct CategoryAverage {
    auctions: Map<i64, Open>,
    /// Bids whose auction is not there yet: time and price.
    early: Map<i64, Vec<(i64, i64)>>,
    /// Sum and number of the best prices of each category.
    categories: Map<i64, (i64, i64)>,
    changed: Vec<i64>,
}

impl CategoryAverage {
    fn bid(open: &mut Open, time: i64, price: i64, categories: &mut Map<i64, (i64, i64)>, changed: &mut Vec<i64>) {
        if time < open.from || time > open.until || open.best.is_some_and(|best| best >= price) {
            return;
        }
        let (sum, number) = categories.entry(open.category).or_default();
        *sum += price - open.best.unwrap_or(0);
        *number += i64::from(open.best.is_none());
        open.best = Some(price);
        if !changed.contains(&open.category) {
            changed.push(open.category);
        }
    }
}

impl Loop<'_> for CategoryAverage {
    fn batch(&mut self, _: u32, batch: &Batch<'_>, out: &mut Out) {
        let Self { auctions, early, categories, changed } = self;
        let auction = &batch.auction;
        for (row, id) in auction.id.iter().enumerate() {
            let (from, until, category) = (auction.time[row], auction.expires[row], auction.category[row]);
            let open = auctions.entry(*id).or_insert(Open { from, until, category, best: None });
            for (time, price) in early.remove(id).unwrap_or_default() {
                Self::bid(open, time, price, categories, changed);
            }
        }
        let bid = &batch.bid;
        for (row, id) in bid.auction.iter().enumerate() {
            match auctions.get_mut(id) {
                Some(open) => Self::bid(open, bid.time[row], bid.price[row], categories, changed),
                None => early.entry(*id).or_default().push((bid.time[row], bid.price[row])),
            }
        }
        for category in changed.drain(..) {
            let (sum, number) = categories[&category];
            out.integer(category);
            out.integer(sum / number);
            out.row();
        }
    }

    fn rows(&self) -> Option<u64> {
        Some(self.categories.len() as u64)
    }
}

struct Winner {
    auction: Place,
    from: i64,
    until: i64,
    /// Price, time and place of the bid that leads.
    best: Option<(i64, i64, Place)>,
    mark: u32,
}

/// q9: the highest bid of each auction.
pub(super) struct WinningBids<'a> {
    batches: &'a [Batch<'a>],
    auctions: Map<i64, Winner>,
    early: Map<i64, Vec<Place>>,
    changed: Vec<i64>,
}

impl<'a> WinningBids<'a> {
    pub(super) fn new(batches: &'a [Batch<'a>]) -> Self {
        Self { batches, auctions: Map::default(), early: Map::default(), changed: Vec::new() }
    }

    fn bid(winner: &mut Winner, id: i64, batches: &[Batch<'_>], place: Place, mark: u32, changed: &mut Vec<i64>) {
        let (bid, row) = (&batches[place.batch as usize].bid, place.row as usize);
        let (time, price) = (bid.time[row], bid.price[row]);
        let leads = winner.best.is_none_or(|(best, at, _)| price > best || (price == best && time < at));
        if time < winner.from || time > winner.until || !leads {
            return;
        }
        winner.best = Some((price, time, place));
        if winner.mark != mark {
            winner.mark = mark;
            changed.push(id);
        }
    }
}

impl<'a> Loop<'a> for WinningBids<'a> {
    fn batch(&mut self, at: u32, batch: &Batch<'a>, out: &mut Out) {
        let Self { batches, auctions, early, changed } = self;
        let auction = &batch.auction;
        for (row, id) in auction.id.iter().enumerate() {
            let place = Place { batch: at, row: row as u32 };
            let (from, until) = (auction.time[row], auction.expires[row]);
            let winner = auctions.entry(*id).or_insert(Winner { auction: place, from, until, best: None, mark: 0 });
            for place in early.remove(id).unwrap_or_default() {
                Self::bid(winner, *id, batches, place, at + 1, changed);
            }
        }
        for (row, id) in batch.bid.auction.iter().enumerate() {
            let place = Place { batch: at, row: row as u32 };
            match auctions.get_mut(id) {
                Some(winner) => Self::bid(winner, *id, batches, place, at + 1, changed),
                None => early.entry(*id).or_default().push(place),
            }
        }
        for id in changed.drain(..) {
            let winner = &auctions[&id];
            let Some((_, _, place)) = winner.best else { continue };
            let (of, row) = (&batches[winner.auction.batch as usize].auction, winner.auction.row as usize);
            for column in [of.id, of.initial_bid, of.reserve, of.time, of.expires, of.seller, of.category] {
                out.integer(column[row]);
            }
            for column in [of.item_name, of.description, of.extra] {
                out.text(column.value(row));
            }
            out.bid(&batches[place.batch as usize].bid, place.row as usize);
            out.row();
        }
    }

    fn rows(&self) -> Option<u64> {
        Some(self.auctions.values().filter(|winner| winner.best.is_some()).count() as u64)
    }
}
