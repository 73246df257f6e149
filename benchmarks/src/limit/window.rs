use std::collections::BTreeMap;

use ahash::{AHashMap as Map, AHashSet as Set};

use super::events::Batch;
use super::{Loop, Out};

/// Rows may be this much behind the latest, ms.
const DELAY: i64 = 4_000;
const SIZE: i64 = 10_000;
/// Of hopping windows.
const PANE: i64 = 2_000;
const PANES: i64 = SIZE / PANE;

/// q5: the auctions with the most bids of ten seconds, every two.
#[derive(Default)]
pub(super) struct HotItems {
    panes: BTreeMap<i64, Map<i64, i64>>,
    /// The last pane of the window that closes next.
    next: Option<i64>,
    latest: i64,
}

impl HotItems {
    fn close(&mut self, last: i64, out: &mut Out) {
        let mut counts: Map<i64, i64> = Map::default();
        for pane in self.panes.range(last - PANES + 1..=last).map(|(_, pane)| pane) {
            for (auction, count) in pane {
                *counts.entry(*auction).or_default() += count;
            }
        }
        let most = counts.values().copied().max().unwrap_or(0);
        for (auction, count) in counts.into_iter().filter(|(_, count)| *count == most) {
            out.integer(auction);
            out.integer(count);
            out.row();
        }
        self.panes = self.panes.split_off(&(last - PANES + 2));
    }
}

impl Loop<'_> for HotItems {
    fn batch(&mut self, _: u32, batch: &Batch<'_>, out: &mut Out) {
        let bid = &batch.bid;
        let mut row = 0;
        while row < bid.time.len() {
            let number = bid.time[row].div_euclid(PANE);
            let pane = self.panes.entry(number).or_default();
            while row < bid.time.len() && bid.time[row].div_euclid(PANE) == number {
                *pane.entry(bid.auction[row]).or_default() += 1;
                self.latest = self.latest.max(bid.time[row]);
                row += 1;
            }
        }
        let Some(first) = self.panes.keys().next().copied() else { return };
        let mut next = self.next.unwrap_or(first);
        while (next + 1) * PANE <= self.latest - DELAY {
            self.close(next, out);
            next += 1;
        }
        self.next = Some(next);
    }

    fn end(&mut self, out: &mut Out) {
        while let (Some(next), false) = (self.next, self.panes.is_empty()) {
            self.close(next, out);
            self.next = Some(next + 1);
        }
    }
}

#[derive(Default)]
struct Users<'a> {
    names: Map<i64, &'a str>,
    sellers: Set<i64>,
}

/// q8: who came and opened an auction within the same ten seconds.
#[derive(Default)]
pub(super) struct NewUsers<'a> {
    windows: BTreeMap<i64, Users<'a>>,
    latest: i64,
}

impl NewUsers<'_> {
    fn close(&mut self, until: i64, out: &mut Out) {
        while let Some(window) = self.windows.first_entry() {
            let begin = *window.key() * SIZE;
            if begin + SIZE > until {
                return;
            }
            let users = window.remove();
            for (id, name) in users.names.into_iter().filter(|(id, _)| users.sellers.contains(id)) {
                out.integer(id);
                out.text(name);
                out.integer(begin);
                out.row();
            }
        }
    }
}

impl<'a> Loop<'a> for NewUsers<'a> {
    fn batch(&mut self, _: u32, batch: &Batch<'a>, out: &mut Out) {
        for (row, time) in batch.person.time.iter().enumerate() {
            let window = self.windows.entry(time.div_euclid(SIZE)).or_default();
            window.names.insert(batch.person.id[row], batch.person.name.value(row));
            self.latest = self.latest.max(*time);
        }
        for (row, time) in batch.auction.time.iter().enumerate() {
            self.windows.entry(time.div_euclid(SIZE)).or_default().sellers.insert(batch.auction.seller[row]);
        }
        self.close(self.latest - DELAY, out);
    }

    fn end(&mut self, out: &mut Out) {
        self.close(i64::MAX, out);
    }
}

struct Session {
    first: i64,
    last: i64,
    bids: i64,
}

/// q11: bids of each session of a bidder, which ends when ten seconds have none.
#[derive(Default)]
pub(super) struct Sessions {
    open: Map<i64, Session>,
    /// Who may be at an end, by the second.
    due: BTreeMap<i64, Vec<i64>>,
    latest: i64,
}

fn ended(bidder: i64, session: &Session, out: &mut Out) {
    for value in [bidder, session.bids, session.first, session.last + SIZE] {
        out.integer(value);
    }
    out.row();
}

impl Loop<'_> for Sessions {
    fn batch(&mut self, _: u32, batch: &Batch<'_>, out: &mut Out) {
        let second = |time: i64| (time + SIZE) / 1_000 + 1;
        let bid = &batch.bid;
        for (row, time) in bid.time.iter().enumerate() {
            let bidder = bid.bidder[row];
            let session = self.open.entry(bidder).or_insert(Session { first: *time, last: *time, bids: 0 });
            if session.bids == 0 {
                self.due.entry(second(*time)).or_default().push(bidder);
            } else if time - session.last > SIZE {
                ended(bidder, session, out);
                *session = Session { first: *time, last: *time, bids: 0 };
            }
            session.first = session.first.min(*time);
            session.last = session.last.max(*time);
            session.bids += 1;
            self.latest = self.latest.max(*time);
        }
        let until = self.latest - DELAY;
        while let Some(due) = self.due.first_entry() {
            if *due.key() * 1_000 > until {
                break;
            }
            for bidder in due.remove() {
                let last = self.open[&bidder].last;
                if last + SIZE < until {
                    self.open.remove(&bidder).iter().for_each(|session| ended(bidder, session, out));
                } else {
                    self.due.entry(second(last)).or_default().push(bidder);
                }
            }
        }
    }

    fn end(&mut self, out: &mut Out) {
        self.open.drain().for_each(|(bidder, session)| ended(bidder, &session, out));
    }
}
