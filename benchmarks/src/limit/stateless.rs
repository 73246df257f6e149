use super::events::Batch;
use super::{Loop, Out};

/// q1: prices in another currency.
pub(super) struct Currency;

impl Loop<'_> for Currency {
    fn batch(&mut self, _: u32, batch: &Batch<'_>, out: &mut Out) {
        let bid = &batch.bid;
        for row in 0..bid.time.len() {
            out.integer(bid.auction[row]);
            out.integer(bid.bidder[row]);
            out.decimal(i128::from(bid.price[row]) * 908);
            out.integer(bid.time[row]);
            out.text(bid.extra.value(row));
            out.row();
        }
    }
}

/// q22: parts of the address.
pub(super) struct Parts;

impl Loop<'_> for Parts {
    fn batch(&mut self, _: u32, batch: &Batch<'_>, out: &mut Out) {
        let bid = &batch.bid;
        for row in 0..bid.time.len() {
            for column in [bid.auction, bid.bidder, bid.price] {
                out.integer(column[row]);
            }
            out.text(bid.channel.value(row));
            let mut parts = bid.url.value(row).split('/').skip(3);
            for _ in 0..3 {
                out.text(parts.next().unwrap_or_default());
            }
            out.row();
        }
    }
}
