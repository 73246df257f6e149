use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter;
use arrow::datatypes::{
    DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType,
};
use arrow::json::ReaderBuilder;

const EVENTS: usize = 8_192;
const PERSON: &str = "id name emailAddress creditCard city state dateTime extra";
const AUCTION: &str = "id itemName description initialBid reserve dateTime expires seller category extra";
const BID: &str = "auction bidder price channel url dateTime extra";

/// The columns of the bids of a batch; times in ms.
pub struct Bid<'a> {
    pub auction: &'a [i64],
    pub bidder: &'a [i64],
    pub price: &'a [i64],
    pub channel: &'a StringArray,
    pub url: &'a StringArray,
    pub time: &'a [i64],
    pub extra: &'a StringArray,
}

/// The columns of its auctions.
pub struct Auction<'a> {
    pub id: &'a [i64],
    pub item_name: &'a StringArray,
    pub description: &'a StringArray,
    pub initial_bid: &'a [i64],
    pub reserve: &'a [i64],
    pub time: &'a [i64],
    pub expires: &'a [i64],
    pub seller: &'a [i64],
    pub category: &'a [i64],
    pub extra: &'a StringArray,
}

/// The columns of its persons that a query here asks for.
pub struct Person<'a> {
    pub id: &'a [i64],
    pub name: &'a StringArray,
    pub time: &'a [i64],
}

/// Some events in a row.
pub struct Batch<'a> {
    pub bid: Bid<'a>,
    pub auction: Auction<'a>,
    pub person: Person<'a>,
}

/// The three kinds of events of one batch, as columns of their own.
pub struct Columns([Vec<Arc<dyn Array>>; 3]);

fn fields(names: &str) -> Fields {
    let field = |name: &str| {
        let data_type = match name {
            "dateTime" | "expires" => DataType::Timestamp(TimeUnit::Millisecond, None),
            "id" | "initialBid" | "reserve" | "seller" | "category" | "auction" | "bidder" | "price" => DataType::Int64,
            _ => DataType::Utf8,
        };
        Field::new(name, data_type, true)
    };
    names.split(' ').map(field).collect()
}

fn schema() -> SchemaRef {
    let kind = |name: &str, names: &str| Field::new(name, DataType::Struct(fields(names)), true);
    Arc::new(Schema::new(vec![
        Field::new("event_type", DataType::Int32, false),
        kind("person", PERSON),
        kind("auction", AUCTION),
        kind("bid", BID),
    ]))
}

/// All events of the files of JSON lines in a folder, a batch of each in turn. `seen` is told the time that one batch took
/// to decode, which separating the kinds is no part of.
///
/// # Errors
/// Files that cannot be read, or hold something else.
pub fn read(
    folder: &Path,
    mut decoded: impl FnMut(&mut dyn FnMut() -> Result<Option<RecordBatch>>) -> Result<Option<RecordBatch>>,
) -> Result<Vec<Columns>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort_unstable();
    let mut readers = Vec::new();
    for path in paths {
        let file = BufReader::with_capacity(1 << 20, File::open(&path)?);
        readers.push(ReaderBuilder::new(schema()).with_batch_size(EVENTS).build(file)?);
    }
    let mut all = Vec::new();
    while !readers.is_empty() {
        let mut left = Vec::new();
        for mut reader in readers {
            if let Some(batch) = decoded(&mut || Ok(reader.next().transpose()?))? {
                all.push(separated(&batch)?);
                left.push(reader);
            }
        }
        readers = left;
    }
    Ok(all)
}

fn separated(batch: &RecordBatch) -> Result<Columns> {
    let kinds = batch.column(0).as_primitive::<Int32Type>();
    let kind = |number: i32| -> Result<Vec<Arc<dyn Array>>> {
        let own = BooleanArray::from_unary(kinds, |kind| kind == number);
        let columns = batch.column(usize::try_from(number)? + 1).as_struct().columns();
        Ok(columns.iter().map(|column| filter(column, &own)).collect::<Result<_, _>>()?)
    };
    Ok(Columns([kind(0)?, kind(1)?, kind(2)?]))
}

impl Columns {
    /// The columns by name.
    ///
    /// # Errors
    /// None, of what [`read`] gives.
    pub fn batch(&self) -> Result<Batch<'_>> {
        let [person, auction, bid] = &self.0;
        Ok(Batch {
            person: Person {
                id: integers(person, PERSON, "id")?,
                name: texts(person, PERSON, "name")?,
                time: times(person, PERSON, "dateTime")?,
            },
            auction: Auction {
                id: integers(auction, AUCTION, "id")?,
                item_name: texts(auction, AUCTION, "itemName")?,
                description: texts(auction, AUCTION, "description")?,
                initial_bid: integers(auction, AUCTION, "initialBid")?,
                reserve: integers(auction, AUCTION, "reserve")?,
                time: times(auction, AUCTION, "dateTime")?,
                expires: times(auction, AUCTION, "expires")?,
                seller: integers(auction, AUCTION, "seller")?,
                category: integers(auction, AUCTION, "category")?,
                extra: texts(auction, AUCTION, "extra")?,
            },
            bid: Bid {
                auction: integers(bid, BID, "auction")?,
                bidder: integers(bid, BID, "bidder")?,
                price: integers(bid, BID, "price")?,
                channel: texts(bid, BID, "channel")?,
                url: texts(bid, BID, "url")?,
                time: times(bid, BID, "dateTime")?,
                extra: texts(bid, BID, "extra")?,
            },
        })
    }
}

fn column<'a>(columns: &'a [Arc<dyn Array>], names: &str, name: &str) -> Result<&'a Arc<dyn Array>> {
    names.split(' ').zip(columns).find(|(known, _)| *known == name).map(|(_, column)| column).context("no such column")
}

fn integers<'a>(columns: &'a [Arc<dyn Array>], names: &str, name: &str) -> Result<&'a [i64]> {
    Ok(column(columns, names, name)?.as_primitive::<Int64Type>().values())
}

fn times<'a>(columns: &'a [Arc<dyn Array>], names: &str, name: &str) -> Result<&'a [i64]> {
    Ok(column(columns, names, name)?.as_primitive::<TimestampMillisecondType>().values())
}

fn texts<'a>(columns: &'a [Arc<dyn Array>], names: &str, name: &str) -> Result<&'a StringArray> {
    Ok(column(columns, names, name)?.as_string())
}
