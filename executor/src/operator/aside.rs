//! What an operator keeps of state that was put aside by key, and what waits for some of it.
//!
//! Rows that come arrive ([`Aside::arrive`]): if some of their keys may have been put aside, these are asked for, and the
//! rows wait until `resume`.

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion_common::DataFusionError;
use qanat_proto::error::Result;
use qanat_storage::spill::{Entries, Keys};

use super::packer::{PackedRows, Packer};
use super::residence::{Asked, Dropped, Residence};
use super::slots::Slots;
use super::wakes::Wakes;

/// `A`: what arrives.
pub(crate) struct Aside<A> {
    pub(crate) residence: Residence,
    pub(crate) dropped: Dropped,
    packer: Option<Packer>,
    asked: Option<Keys>,
    arriving: Option<A>,
}

impl<A> Aside<A> {
    /// `tables`: the columns of each table that an entry has rows of. Nothing is put aside if there is a type of which no
    /// row can be made.
    pub(crate) fn new(is_on: bool, tables: &[Vec<DataType>]) -> Result<Self> {
        let packer = if is_on { Packer::new(tables)? } else { None };
        let residence = Residence::new(packer.is_some());
        Ok(Self { residence, dropped: Dropped::default(), packer, asked: None, arriving: None })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.packer.is_some()
    }

    /// Keys of rows that have no slot and may have been put aside. `nulls`: rows that need nothing.
    pub(crate) fn missing(
        &self,
        slots: &Slots,
        keys: &[ArrayRef],
        nulls: Option<&NullBuffer>,
    ) -> Result<Asked, DataFusionError> {
        let mut asked = Asked::default();
        if !self.residence.is_any_away() {
            return Ok(asked);
        }
        for (row, key) in slots.rows(keys)?.iter().map(|key| key.data()).enumerate() {
            let is_null = nulls.is_some_and(|nulls| nulls.is_null(row));
            if !is_null && slots.find(key).is_none() && !self.dropped.contains(key) {
                asked.push(key);
            }
        }
        Ok(asked)
    }

    /// Something comes. It is given back if nothing is asked for.
    pub(crate) fn arrive(&mut self, arriving: A, asked: Asked) -> Option<A> {
        self.asked = asked.into_keys();
        if self.asked.is_none() {
            return Some(arriving);
        }
        self.arriving = Some(arriving);
        None
    }

    /// What has waited and now has all that it needs.
    pub(crate) fn arrived(&mut self) -> Option<A> {
        self.arriving.take()
    }

    /// Asks for keys whose time comes, though no rows wait for them; whether there are some.
    pub(crate) fn wake(&mut self, wakes: &mut Wakes, slots: &Slots, now: i64) -> bool {
        let is_away = |key: &[u8]| slots.find(key).is_none() && !self.dropped.contains(key);
        let keys = wakes.ask(now, is_away);
        let is_any = keys.is_some();
        self.asked = keys.or_else(|| self.asked.take());
        is_any
    }

    pub(crate) fn wanted(&mut self) -> Option<Keys> {
        self.asked.take()
    }

    /// Whether something may be put aside now.
    pub(crate) fn may_pack(&self) -> bool {
        self.packer.is_some() && self.arriving.is_none()
    }

    /// A key is no more, and its slot is free.
    pub(crate) fn gone(&mut self, slot: u32, slots: &Slots) {
        if self.residence.gone(slot) {
            self.dropped.insert(slots.key(slot));
        }
    }

    /// Puts the rows of each key into `entries`.
    pub(crate) fn pack<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        tables: &[PackedRows],
        entries: &mut Entries,
    ) -> Result<()> {
        self.packer.as_ref().map_or(Ok(()), |packer| packer.pack(keys, tables, entries))
    }

    /// The rows of all values, by table.
    pub(crate) fn unpack<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> Result<Vec<PackedRows>> {
        self.packer.as_ref().map_or(Ok(Vec::new()), |packer| packer.unpack(values))
    }

    /// The rows of what was found, by table, among which a list of keys may be whose time comes.
    pub(crate) fn unpack_woken(&mut self, wakes: &mut Wakes, found: &Entries) -> Result<Vec<PackedRows>> {
        if let Some(list) = wakes.found(found) {
            self.dropped.insert(&list);
        }
        self.unpack(found.iter().filter(|(key, _)| !Wakes::is_list(key)).filter_map(|(_, value)| value))
    }

    /// Keys that were put back have slots again.
    pub(crate) fn came_back(&mut self, found: &Entries, slots: &Slots) {
        found.iter().filter_map(|(key, _)| slots.find(key)).for_each(|slot| self.residence.came_back(slot));
    }

    pub(crate) fn bytes(&self) -> usize {
        self.residence.bytes() + self.dropped.bytes()
    }
}

/// How many of `used` keys, which take `all` bytes, make up `bytes`.
pub(crate) fn keys_of_bytes(bytes: usize, all: usize, used: usize) -> usize {
    (bytes as u128 * used as u128 / all.max(1) as u128) as usize + 1
}
