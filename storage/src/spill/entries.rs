//! Keys and values in one piece of memory each: no allocation per entry.

/// Keys, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key that was added as the `at`th one, from 0 on.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        let start = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(start..*self.ends.get(at)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|at| self.get(at))
    }
}

/// Keys with their values, or with the news that they are gone.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    ends: Vec<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    key: usize,
    value: usize,
    is_gone: bool,
}

impl Entries {
    /// Adds an entry, whose value `value` appends to what it is given.
    pub fn put(&mut self, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(key);
        let key = self.bytes.len();
        value(&mut self.bytes);
        self.ends.push(End { key, value: self.bytes.len(), is_gone: false });
    }

    /// A key has no value any more.
    pub fn remove(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(End { key: self.bytes.len(), value: self.bytes.len(), is_gone: true });
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<End>()
    }

    /// Key and value of each entry, in the order in which they were added; None for one that is gone.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], Option<&[u8]>)> {
        (0..self.ends.len()).map(|at| {
            let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| end.value);
            let Some(end) = self.ends.get(at) else { return (&[][..], None) };
            let value = self.bytes.get(end.key..end.value).unwrap_or_default();
            (self.bytes.get(start..end.key).unwrap_or_default(), (!end.is_gone).then_some(value))
        })
    }
}
