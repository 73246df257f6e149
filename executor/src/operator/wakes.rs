//! When keys that were put aside are needed again because time has come to them, and not a row.
//!
//! A list of keys for each stretch of time is put aside itself, so that memory holds a few numbers however many keys there
//! are. A list tells what may have to come back; a key that came back meanwhile and was put aside anew stands in a later
//! list too. What must never happen: a key that is put aside and in no list before its time.

use std::collections::{BTreeMap, VecDeque};

use qanat_storage::spill::{Entries, Keys};

/// Lists by the time from which on they are due.
pub(crate) struct Wakes {
    /// Times of this length have one list.
    stretch: i64,
    lists: BTreeMap<i64, Vec<List>>,
    next: u64,
    /// A list that was asked for.
    asked: Option<u64>,
    /// Keys of lists that are due.
    due: VecDeque<Box<[u8]>>,
}

#[derive(Clone, Copy)]
struct List {
    number: u64,
    /// Its keys have something to tell, and do not come back to be forgotten.
    tells: bool,
}

/// First byte of the key of a list: rows of keys begin with 0 or 1.
const LIST: u8 = 0xff;
/// Keys that come back at once.
const KEYS_AT_ONCE: usize = 1 << 12;
/// Stretches within the time that rows are kept.
const STRETCHES: i64 = 16;

impl Wakes {
    /// `kept`: how long rows are kept, in the unit of times.
    pub(crate) fn new(kept: i64) -> Self {
        let stretch = (kept / STRETCHES).max(1);
        Self { stretch, lists: BTreeMap::new(), next: 0, asked: None, due: VecDeque::new() }
    }

    /// Keys are put aside that must be back before `now` is later than their times: because they have something to tell,
    /// or because nothing is left of them then, which does not matter any more at the end of all times.
    pub(crate) fn note<'k>(
        &mut self,
        now: i64,
        tells: bool,
        keys: impl Iterator<Item = (i64, &'k [u8])>,
        entries: &mut Entries,
    ) {
        let mut lists: BTreeMap<i64, Vec<&[u8]>> = BTreeMap::new();
        for (time, key) in keys {
            // Rather early than late; but not at once, or keys would come and go.
            let begin = |length: i64| time.saturating_sub(time.rem_euclid(length));
            let lengths = [self.stretch, (self.stretch / STRETCHES).max(1)];
            let due = lengths.into_iter().map(begin).find(|begin| *begin > now).unwrap_or(time);
            lists.entry(due).or_default().push(key);
        }
        for (due, keys) in lists {
            let number = self.next;
            self.next += 1;
            entries.put(&name_of(number), |bytes| {
                for key in keys {
                    bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(key);
                }
            });
            self.lists.entry(due).or_default().push(List { number, tells });
        }
    }

    /// What is to be asked for, as it is `now`: a list, or keys for which `is_away` holds. None: nothing is due.
    pub(crate) fn ask(&mut self, now: i64, is_away: impl Fn(&[u8]) -> bool) -> Option<Keys> {
        let mut keys = Keys::default();
        while keys.len() < KEYS_AT_ONCE
            && let Some(key) = self.due.pop_front()
        {
            if is_away(&key) {
                keys.push(&key);
            }
        }
        while keys.is_empty() {
            let mut first = self.lists.first_entry().filter(|first| *first.key() < now)?;
            match first.get_mut().pop() {
                Some(list) if list.tells || now < i64::MAX => {
                    self.asked = Some(list.number);
                    keys.push(&name_of(list.number));
                }
                Some(_) => {}
                None => drop(first.remove()),
            }
        }
        Some(keys)
    }

    /// Takes the list that was asked for, if it is among what was found. Returns its key, whose entry is of no more use.
    pub(crate) fn found(&mut self, found: &Entries) -> Option<[u8; 9]> {
        let name = name_of(self.asked.take()?);
        let (_, list) = found.iter().find(|(key, _)| *key == name.as_slice())?;
        let mut list = list?;
        while let Some((length, rest)) = list.split_first_chunk::<4>()
            && let Some((key, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)
        {
            self.due.push_back(key.into());
            list = rest;
        }
        Some(name)
    }

    /// The time of the first list.
    pub(crate) fn next(&self) -> Option<i64> {
        self.lists.first_key_value().map(|(due, _)| *due)
    }

    /// Whether an entry is one of a list.
    pub(crate) fn is_list(key: &[u8]) -> bool {
        key.first() == Some(&LIST)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lists.len() * 64 + self.due.iter().map(|key| key.len() + 16).sum::<usize>()
    }
}

fn name_of(number: u64) -> [u8; 9] {
    let mut name = [LIST; 9];
    name[1..].copy_from_slice(&number.to_le_bytes());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_before_their_time_and_not_at_once() {
        let (mut wakes, mut entries) = (Wakes::new(1_600), Entries::default());
        let key = |number: u8| [1, number];
        let keys: Vec<[u8; 2]> = (0..5).map(key).collect();
        let times = [1_250, 1_050, 1_003, 1_007, 2_000];
        wakes.note(1_000, true, times.into_iter().zip(keys.iter().map(<[u8; 2]>::as_slice)), &mut entries);
        wakes.note(1_000, false, std::iter::once((5_000, keys[0].as_slice())), &mut entries);
        let all = entries.clone();
        let mut come = Vec::new();
        for now in 1_000..2_100 {
            while let Some(asked) = wakes.ask(now, |key| key[1] != 4) {
                let mut found = Entries::default();
                for key in asked.iter() {
                    if !Wakes::is_list(key) {
                        come.push((now, key[1]));
                    } else if let Some((_, Some(value))) = all.iter().find(|(list, _)| *list == key) {
                        found.put(key, |bytes| bytes.extend_from_slice(value));
                    }
                }
                wakes.found(&found);
            }
        }
        assert_eq!(come, [(1_003, 2), (1_003, 3), (1_051, 1), (1_201, 0)]);
        assert!(wakes.next().is_some() && wakes.ask(i64::MAX, |_| true).is_none(), "it was only to be forgotten");
        assert_eq!(wakes.bytes(), 0);
    }
}
