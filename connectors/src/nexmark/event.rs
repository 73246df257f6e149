//! The events of Nexmark as functions of their number.
//!
//! Constants are the benchmark's published ones. In every run of 50 events the first is a person, the
//! next 3 are auctions, the other 46 bids, if [`Proportions`] are the published ones, too. Half of the bids go to a hot
//! auction (every 100th), three in four bids and auctions come from hot persons (every 100th); the rest spread over what
//! is active.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringBuilder, TimestampMillisecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use qanat_proto::error::{Error, Result};

use crate::generator::{below, mix, unit};

const FIRST_PERSON: u64 = 1_000;
const FIRST_AUCTION: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// Persons and auctions that events may refer to before they appear.
const LEAD: u64 = 10;
const ACTIVE_PERSONS: u64 = 1_000;
const OPEN_AUCTIONS: u64 = 100;
/// One in so many is hot.
const HOT_EVERY: u64 = 100;
/// One reference in so many is *not* hot.
const COLD_AUCTIONS: u64 = 2;
const COLD_PERSONS: u64 = 4;
const COLD_CHANNELS: u64 = 2;
const CHANNELS: u64 = 10_000;

/// Average bytes of an event, padding included.
const PERSON_BYTES: u64 = 200;
const AUCTION_BYTES: u64 = 500;
const BID_BYTES: u64 = 100;

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Person,
    Auction,
    Bid,
}

/// How many events of each kind there are in a run; each at least 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proportions {
    pub(super) persons: u64,
    pub(super) auctions: u64,
    pub(super) bids: u64,
}

impl Proportions {
    fn run(self) -> u64 {
        self.persons + self.auctions + self.bids
    }

    pub(super) fn kind(self, event: u64) -> Kind {
        match event % self.run() {
            n if n < self.persons => Kind::Person,
            n if n < self.persons + self.auctions => Kind::Auction,
            _ => Kind::Bid,
        }
    }

    /// First place in a run, and places.
    fn places(self, kind: Kind) -> (u64, u64) {
        match kind {
            Kind::Person => (0, self.persons),
            Kind::Auction => (self.persons, self.auctions),
            Kind::Bid => (self.persons + self.auctions, self.bids),
        }
    }

    /// The number of the event that is the `row`th of a kind.
    pub(super) fn event(self, kind: Kind, row: u64) -> u64 {
        let (first, places) = self.places(kind);
        (row / places) * self.run() + first + row % places
    }

    /// Events of a kind among the first `events`.
    pub(super) fn among(self, kind: Kind, events: u64) -> u64 {
        let (first, places) = self.places(kind);
        (events / self.run()) * places + (events % self.run()).saturating_sub(first).min(places)
    }

    pub(super) fn share(self, kind: Kind) -> f64 {
        self.places(kind).1 as f64 / self.run() as f64
    }

    /// The number, from 0, of the newest person as of `event`.
    fn last_person(self, event: u64) -> u64 {
        event / self.run() * self.persons + (event % self.run()).min(self.persons - 1)
    }

    /// The number, from 0, of the newest auction as of `event`; 0 before the first.
    fn last_auction(self, event: u64) -> u64 {
        let (run, place) = (event / self.run(), event % self.run());
        if place < self.persons {
            return (run * self.auctions).saturating_sub(1);
        }
        run * self.auctions + (place - self.persons).min(self.auctions - 1)
    }
}

/// What a field is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Long,
    Text,
    Time,
}

impl Made {
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Long => DataType::Int64,
            Self::Text => DataType::Utf8,
            Self::Time => DataType::Timestamp(TimeUnit::Millisecond, None),
        }
    }
}

impl Kind {
    pub(super) fn fields(self) -> &'static [(&'static str, Made)] {
        match self {
            Self::Person => &[
                ("id", Made::Long),
                ("name", Made::Text),
                ("emailAddress", Made::Text),
                ("creditCard", Made::Text),
                ("city", Made::Text),
                ("state", Made::Text),
                ("dateTime", Made::Time),
                ("extra", Made::Text),
            ],
            Self::Auction => &[
                ("id", Made::Long),
                ("itemName", Made::Text),
                ("description", Made::Text),
                ("initialBid", Made::Long),
                ("reserve", Made::Long),
                ("dateTime", Made::Time),
                ("expires", Made::Time),
                ("seller", Made::Long),
                ("category", Made::Long),
                ("extra", Made::Text),
            ],
            Self::Bid => &[
                ("auction", Made::Long),
                ("bidder", Made::Long),
                ("price", Made::Long),
                ("channel", Made::Text),
                ("url", Made::Text),
                ("dateTime", Made::Time),
                ("extra", Made::Text),
            ],
        }
    }
}

/// One random number per event and use.
#[derive(Clone, Copy)]
enum Draw {
    FirstName,
    LastName,
    Email,
    Card,
    City,
    State,
    Extra,
    ExtraLength,
    ItemName,
    Description,
    Price,
    Reserve,
    Expires,
    IsHotPerson,
    Person,
    Category,
    IsHotAuction,
    Auction,
    IsHotChannel,
    Channel,
    Path,
}

/// The generator: a seed and the pace of event time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Events {
    seed: u64,
    events_per_second: u64,
    proportions: Proportions,
}

impl Events {
    pub(super) fn new(seed: u64, events_per_second: u64, proportions: Proportions) -> Self {
        Self { seed, events_per_second: events_per_second.max(1), proportions }
    }

    pub(super) fn kind(&self, event: u64) -> Kind {
        self.proportions.kind(event)
    }

    /// The number of the event that is the `row`th of a kind.
    pub(super) fn event(&self, kind: Kind, row: u64) -> u64 {
        self.proportions.event(kind, row)
    }

    pub(super) fn types(&self, events: &[u64]) -> ArrayRef {
        let code = |event: &u64| match self.kind(*event) {
            Kind::Person => 0,
            Kind::Auction => 1,
            Kind::Bid => 2,
        };
        Arc::new(Int32Array::from_iter_values(events.iter().map(code)))
    }

    pub(super) fn times(&self, events: &[u64], base_ms: i64) -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(events.iter().map(|e| self.time(*e, base_ms))))
    }

    /// A field of one kind of event; NULL for events of other kinds.
    pub(super) fn field(&self, kind: Kind, name: &str, events: &[u64], base_ms: i64) -> Result<ArrayRef> {
        let name = name.to_ascii_lowercase();
        let longs = |value: &dyn Fn(u64) -> u64| -> ArrayRef {
            let value = |e: &u64| (self.kind(*e) == kind).then(|| i64::try_from(value(*e)).unwrap_or(i64::MAX));
            Arc::new(events.iter().map(value).collect::<Int64Array>())
        };
        let times = |value: &dyn Fn(u64) -> i64| -> ArrayRef {
            let value = |e: &u64| (self.kind(*e) == kind).then(|| value(*e));
            Arc::new(events.iter().map(value).collect::<TimestampMillisecondArray>())
        };
        let texts = |write: &dyn Fn(u64, &mut String)| -> ArrayRef {
            let mut builder = StringBuilder::with_capacity(events.len(), events.len() * 32);
            let mut text = String::new();
            for event in events {
                if self.kind(*event) == kind {
                    text.clear();
                    write(*event, &mut text);
                    builder.append_value(&text);
                } else {
                    builder.append_null();
                }
            }
            Arc::new(builder.finish())
        };
        Ok(match (kind, name.as_str()) {
            (_, "datetime") => times(&|e| self.time(e, base_ms)),
            (_, "extra") => texts(&|e, text| self.extra(kind, e, text)),
            (Kind::Person, "id") => longs(&|e| FIRST_PERSON + self.proportions.last_person(e)),
            (Kind::Person, "name") => texts(&|e, text| self.name(e, text)),
            (Kind::Person, "emailaddress") => texts(&|e, text| self.email(e, text)),
            (Kind::Person, "creditcard") => texts(&|e, text| self.card(e, text)),
            (Kind::Person, "city") => texts(&|e, text| text.push_str(pick(&CITIES, self.draw(Draw::City, e)))),
            (Kind::Person, "state") => texts(&|e, text| text.push_str(pick(&STATES, self.draw(Draw::State, e)))),
            (Kind::Auction, "id") => longs(&|e| FIRST_AUCTION + self.proportions.last_auction(e)),
            (Kind::Auction, "itemname") => texts(&|e, text| self.word(Draw::ItemName, e, 20, text)),
            (Kind::Auction, "description") => texts(&|e, text| self.word(Draw::Description, e, 100, text)),
            (Kind::Auction, "initialbid") => longs(&|e| self.price(Draw::Price, e)),
            (Kind::Auction, "reserve") => longs(&|e| self.price(Draw::Price, e) + self.price(Draw::Reserve, e)),
            (Kind::Auction, "expires") => times(&|e| self.expires(e, base_ms)),
            (Kind::Auction, "seller") => longs(&|e| self.person(e, 0)),
            (Kind::Auction, "category") => longs(&|e| FIRST_CATEGORY + below(self.draw(Draw::Category, e), CATEGORIES)),
            (Kind::Bid, "auction") => longs(&|e| self.auction(e)),
            (Kind::Bid, "bidder") => longs(&|e| self.person(e, 1)),
            (Kind::Bid, "price") => longs(&|e| self.price(Draw::Price, e)),
            (Kind::Bid, "channel") => texts(&|e, text| self.channel(e, text)),
            (Kind::Bid, "url") => texts(&|e, text| self.url(e, text)),
            _ => return Err(Error::internal(format!("nexmark has no field `{name}`"))),
        })
    }

    #[inline]
    fn draw(&self, draw: Draw, event: u64) -> u64 {
        mix(self.seed, draw as u64, event)
    }

    #[inline]
    fn time(&self, event: u64, base_ms: i64) -> i64 {
        let past_ms = u128::from(event) * 1_000 / u128::from(self.events_per_second);
        base_ms.saturating_add(i64::try_from(past_ms).unwrap_or(i64::MAX))
    }

    /// An auction stays open for about as long as it takes to open [`OPEN_AUCTIONS`] more.
    fn expires(&self, event: u64, base_ms: i64) -> i64 {
        let time = self.time(event, base_ms);
        let horizon =
            self.time(event + OPEN_AUCTIONS * self.proportions.run() / self.proportions.auctions, base_ms) - time;
        let longest = u64::try_from(horizon * 2).unwrap_or(0).max(1);
        time.saturating_add_unsigned(1 + below(self.draw(Draw::Expires, event), longest))
    }

    /// 10^0 to 10^6 in cents, evenly in the exponent.
    fn price(&self, draw: Draw, event: u64) -> u64 {
        (10_f64.powf(unit(self.draw(draw, event)) * 6.0) * 100.0).round() as u64
    }

    /// A seller or bidder; the hot bidder stands `hot_offset` behind the hot seller.
    fn person(&self, event: u64, hot_offset: u64) -> u64 {
        let last = self.proportions.last_person(event);
        if below(self.draw(Draw::IsHotPerson, event), COLD_PERSONS) > 0 {
            return FIRST_PERSON + last / HOT_EVERY * HOT_EVERY + hot_offset;
        }
        let persons = last + 1;
        let active = persons.min(ACTIVE_PERSONS);
        FIRST_PERSON + persons - active + below(self.draw(Draw::Person, event), active + LEAD)
    }

    fn auction(&self, event: u64) -> u64 {
        let last = self.proportions.last_auction(event);
        if below(self.draw(Draw::IsHotAuction, event), COLD_AUCTIONS) > 0 {
            return FIRST_AUCTION + last / HOT_EVERY * HOT_EVERY;
        }
        let oldest = last.saturating_sub(OPEN_AUCTIONS);
        FIRST_AUCTION + oldest + below(self.draw(Draw::Auction, event), last - oldest + 1 + LEAD)
    }

    fn name(&self, event: u64, text: &mut String) {
        text.push_str(pick(&FIRST_NAMES, self.draw(Draw::FirstName, event)));
        text.push(' ');
        text.push_str(pick(&LAST_NAMES, self.draw(Draw::LastName, event)));
    }

    fn email(&self, event: u64, text: &mut String) {
        let random = self.draw(Draw::Email, event);
        letters(random, 7, text);
        text.push('@');
        letters(!random, 5, text);
        text.push_str(".com");
    }

    fn card(&self, event: u64, text: &mut String) {
        let mut random = self.draw(Draw::Card, event);
        for digit in 0..16 {
            if digit > 0 && digit % 4 == 0 {
                text.push(' ');
            }
            text.push(char::from(b'0' + (random % 10) as u8));
            random /= 10;
        }
    }

    /// Letters, 3 to `longest` of them.
    fn word(&self, draw: Draw, event: u64, longest: u64, text: &mut String) {
        let random = self.draw(draw, event);
        letters(random, 3 + below(random, longest - 3), text);
    }

    fn channel_number(&self, event: u64) -> Result<u64, &'static str> {
        let random = self.draw(Draw::Channel, event);
        if below(self.draw(Draw::IsHotChannel, event), COLD_CHANNELS) > 0 {
            return Err(pick(&HOT_CHANNELS, random));
        }
        Ok(below(random, CHANNELS))
    }

    fn channel(&self, event: u64, text: &mut String) {
        match self.channel_number(event) {
            Ok(number) => {
                text.push_str("channel-");
                text.push_str(&number.to_string());
            }
            Err(name) => text.push_str(name),
        }
    }

    fn url(&self, event: u64, text: &mut String) {
        let channel = self.channel_number(event);
        // One channel, one address.
        let random = match channel {
            Ok(number) => mix(self.seed, Draw::Path as u64, number),
            Err(name) => mix(self.seed, Draw::Path as u64, CHANNELS + name.len() as u64),
        };
        text.push_str("https://www.nexmark.com/");
        for part in 0..3 {
            letters(mix(random, part, 0), 3 + below(mix(random, part, 1), 3), text);
            text.push('/');
        }
        text.push_str("item.htm?query=1");
        if let Ok(number) = channel
            && below(mix(random, 3, 0), 10) > 0
        {
            text.push_str("&channel_id=");
            text.push_str(&(number as u32).reverse_bits().to_string());
        }
    }

    /// Padding up to the average size of the kind, give or take a fifth.
    fn extra(&self, kind: Kind, event: u64, text: &mut String) {
        let mut taken = String::new();
        let (wanted, numbers) = match kind {
            Kind::Person => {
                self.name(event, &mut taken);
                self.email(event, &mut taken);
                self.card(event, &mut taken);
                taken.push_str(pick(&CITIES, self.draw(Draw::City, event)));
                taken.push_str(pick(&STATES, self.draw(Draw::State, event)));
                (PERSON_BYTES, 8)
            }
            Kind::Auction => {
                self.word(Draw::ItemName, event, 20, &mut taken);
                self.word(Draw::Description, event, 100, &mut taken);
                (AUCTION_BYTES, 6 * 8)
            }
            Kind::Bid => (BID_BYTES, 4 * 8),
        };
        let left = wanted.saturating_sub(numbers + taken.len() as u64);
        let give = left / 5;
        let length = left - give + below(self.draw(Draw::ExtraLength, event), (2 * give).max(1));
        letters(self.draw(Draw::Extra, event), length, text);
    }
}

fn pick<'a>(names: &[&'a str], random: u64) -> &'a str {
    names.get(below(random, names.len() as u64) as usize).copied().unwrap_or_default()
}

/// Appends so many lower-case letters.
fn letters(seed: u64, length: u64, text: &mut String) {
    let mut random = 0;
    for at in 0..length {
        if at % 8 == 0 {
            random = mix(seed, 0, at);
        }
        text.push(char::from(b'a' + (((random & 0xff) * 26) >> 8) as u8));
        random >>= 8;
    }
}
