use super::events::Bid;

/// Columns of an answer under construction, one buffer for each type.
#[derive(Default)]
pub struct Out {
    integers: Vec<i64>,
    decimals: Vec<i128>,
    bytes: Vec<u8>,
    offsets: Vec<i32>,
    rows: u64,
}

impl Out {
    pub fn integer(&mut self, value: i64) {
        self.integers.push(value);
    }

    pub fn decimal(&mut self, value: i128) {
        self.decimals.push(value);
    }

    pub fn text(&mut self, value: &str) {
        self.bytes.extend_from_slice(value.as_bytes());
        self.offsets.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    /// All columns of a bid.
    pub fn bid(&mut self, bid: &Bid<'_>, row: usize) {
        for column in [bid.auction, bid.bidder, bid.price, bid.time] {
            self.integer(column[row]);
        }
        for column in [bid.channel, bid.url, bid.extra] {
            self.text(column.value(row));
        }
    }

    /// A row is complete.
    pub fn row(&mut self) {
        self.rows += 1;
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Hands the columns on, as at the end of a batch.
    pub fn flush(&mut self) {
        std::hint::black_box((&self.integers, &self.decimals, &self.bytes, &self.offsets));
        self.integers.clear();
        self.decimals.clear();
        self.bytes.clear();
        self.offsets.clear();
    }
}
