//! Barrier alignment: when a subtask with several input channels may seal an epoch.
//!
//! A channel that has delivered the barrier of epoch e is blocked until all others have: what stands
//! behind the barrier belongs to e + 1. A channel that has ended holds nothing back. The task loop asks
//! [`BarrierAligner::is_blocked`] before it takes from a channel and seals when told to.
//!
//! What must never happen: an epoch sealed before a live channel delivered its barrier, or twice, or
//! out of order (I3).

use qanat_proto::error::{Code, Error, Result};
use qanat_proto::ids::Epoch;
use qanat_proto::zoo::{Bug, planted};

/// What a barrier or an end brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Alignment {
    /// Nothing to do yet; the channel may be blocked now.
    Waiting,
    /// All channels are aligned: seal this epoch. All channels are open again.
    Complete(Epoch),
    /// A repeat; nothing changed.
    Repeated,
}

/// Whether an epoch is sealed already, by a subtask that has sealed up to `sealed`: a trigger or a barrier that comes
/// again changes nothing (P4).
pub fn is_sealed(epoch: Epoch, sealed: Epoch) -> bool {
    epoch <= sealed && !(epoch == sealed && planted(Bug::SealTwice))
}

/// Aligns the barriers of the input channels of one subtask.
#[derive(Clone, Debug)]
pub struct BarrierAligner {
    channels: Vec<Channel>,
    /// The last epoch sealed, or restored.
    sealed: Epoch,
    /// Whether an epoch was sealed by this generation: then the next is exactly one higher. The first
    /// may be any, because numbers of withdrawn epochs are never reused (P10).
    has_sealed: bool,
    aligning: Option<Epoch>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    delivered: bool,
    ended: bool,
}

impl BarrierAligner {
    /// For `channels` inputs of a generation restored from epoch `restored`.
    pub fn new(channels: usize, restored: Epoch) -> Self {
        Self { channels: vec![Channel::default(); channels], sealed: restored, has_sealed: false, aligning: None }
    }

    /// Whether nothing may be taken from a channel until the open alignment completes.
    pub fn is_blocked(&self, channel: usize) -> bool {
        !planted(Bug::ReadPastBarrier)
            && self.aligning.is_some()
            && self.channels.get(channel).is_some_and(|c| c.delivered && !c.ended)
    }

    /// The epoch that is being aligned.
    pub fn aligning(&self) -> Option<Epoch> {
        self.aligning
    }

    /// The last epoch sealed, or the one restored.
    pub fn sealed(&self) -> Epoch {
        self.sealed
    }

    /// Whether all channels have ended.
    pub fn all_ended(&self) -> bool {
        self.channels.iter().all(|channel| channel.ended)
    }

    /// A channel delivered the barrier of `epoch`.
    ///
    /// # Errors
    /// E0502 if `epoch` is not the next one; E0503 for a channel that does not exist.
    pub fn barrier(&mut self, channel: usize, epoch: Epoch) -> Result<Alignment> {
        let state = *self.channel(channel)?;
        if planted(Bug::SealTwice) && epoch == self.sealed {
            return Ok(Alignment::Complete(epoch));
        }
        if is_sealed(epoch, self.sealed) || (state.delivered && self.aligning == Some(epoch)) {
            return Ok(Alignment::Repeated);
        }
        let is_next = match self.aligning {
            Some(open) => epoch == open,
            None => !self.has_sealed || epoch == self.sealed.next(),
        };
        if !is_next {
            let open = self.aligning.map_or_else(|| "none".to_owned(), |e| e.to_string());
            return Err(Error::new(
                Code::Invariant,
                format!(
                    "invariant I3 does not hold: barrier {epoch} on channel {channel} is not the next \
                     (sealed {}, aligning {open})",
                    self.sealed
                ),
            ));
        }
        self.aligning = Some(epoch);
        self.channel(channel)?.delivered = true;
        Ok(self.complete())
    }

    /// A channel ended: nothing comes behind it, so it counts as aligned from now on.
    ///
    /// # Errors
    /// E0503 for a channel that does not exist.
    pub fn end(&mut self, channel: usize) -> Result<Alignment> {
        let state = self.channel(channel)?;
        if state.ended {
            return Ok(Alignment::Repeated);
        }
        state.ended = true;
        Ok(self.complete())
    }

    fn complete(&mut self) -> Alignment {
        let Some(epoch) = self.aligning else { return Alignment::Waiting };
        let is_aligned = self.channels.iter().all(|channel| channel.delivered || channel.ended);
        if !is_aligned && !planted(Bug::BarrierOfOne) {
            return Alignment::Waiting;
        }
        for channel in &mut self.channels {
            channel.delivered = false;
        }
        self.aligning = None;
        self.sealed = epoch;
        self.has_sealed = true;
        Alignment::Complete(epoch)
    }

    fn channel(&mut self, channel: usize) -> Result<&mut Channel> {
        let count = self.channels.len();
        self.channels
            .get_mut(channel)
            .ok_or_else(|| Error::internal(format!("channel {channel} does not exist: there are {count}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_channel_is_blocked_between_its_barrier_and_the_last() {
        let mut aligner = BarrierAligner::new(2, Epoch(0));
        assert_eq!(aligner.barrier(0, Epoch(1)).expect("next"), Alignment::Waiting);
        assert!(aligner.is_blocked(0) && !aligner.is_blocked(1));
        assert_eq!(aligner.barrier(0, Epoch(1)).expect("repeat"), Alignment::Repeated);
        assert_eq!(aligner.barrier(1, Epoch(1)).expect("next"), Alignment::Complete(Epoch(1)));
        assert!(!aligner.is_blocked(0) && !aligner.is_blocked(1));
        assert_eq!(aligner.barrier(1, Epoch(1)).expect("repeat"), Alignment::Repeated);
    }

    #[test]
    fn a_barrier_out_of_order_is_refused() {
        let mut aligner = BarrierAligner::new(2, Epoch(4));
        // Epochs 5 to 8 were withdrawn: the first of a generation may skip them.
        assert_eq!(aligner.barrier(0, Epoch(9)).expect("first"), Alignment::Waiting);
        assert_eq!(aligner.barrier(1, Epoch(10)).expect_err("not the open one").code(), Code::Invariant);
        assert_eq!(aligner.barrier(1, Epoch(9)).expect("open one"), Alignment::Complete(Epoch(9)));
        assert_eq!(aligner.barrier(0, Epoch(11)).expect_err("skips one").code(), Code::Invariant);
        assert_eq!(aligner.barrier(7, Epoch(10)).expect_err("no such channel").code(), Code::Internal);
    }

    #[test]
    fn an_ended_channel_counts_as_aligned_and_may_still_answer() {
        let mut aligner = BarrierAligner::new(2, Epoch(0));
        assert_eq!(aligner.barrier(1, Epoch(1)).expect("next"), Alignment::Waiting);
        assert_eq!(aligner.end(0).expect("exists"), Alignment::Complete(Epoch(1)));
        assert_eq!(aligner.barrier(1, Epoch(2)).expect("next"), Alignment::Complete(Epoch(2)));
        assert_eq!(aligner.end(1).expect("exists"), Alignment::Waiting);
        assert!(aligner.all_ended());
        assert_eq!(aligner.barrier(0, Epoch(3)).expect("next"), Alignment::Complete(Epoch(3)));
        assert_eq!(aligner.barrier(1, Epoch(3)).expect("repeat"), Alignment::Repeated);
    }

    proptest! {
        /// Each channel carries items and barriers; whatever the interleaving, every epoch is sealed once,
        /// in order, and holds exactly the items that stand before its barrier.
        #[test]
        fn any_interleaving_seals_the_same_epochs(
            lengths in prop::collection::vec((0_usize..6, prop::collection::vec(0_usize..4, 6)), 1..5),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 400),
        ) {
            #[derive(Clone, Copy)]
            enum Item { Row(u64), Barrier(Epoch), End }
            let queues: Vec<Vec<Item>> = lengths.iter().map(|(epochs, rows)| {
                let mut queue = Vec::new();
                for epoch in 1..=*epochs {
                    queue.extend((0..rows[epoch - 1]).map(|_| Item::Row(epoch as u64)));
                    queue.push(Item::Barrier(Epoch(epoch as u64)));
                }
                queue.push(Item::End);
                queue
            }).collect();
            let last = lengths.iter().map(|(epochs, _)| *epochs).max().unwrap_or(0) as u64;
            let mut aligner = BarrierAligner::new(queues.len(), Epoch(0));
            let mut heads = vec![0; queues.len()];
            let mut sealed = Vec::new();
            for pick in picks {
                let ready: Vec<usize> = (0..queues.len())
                    .filter(|c| heads[*c] < queues[*c].len() && !aligner.is_blocked(*c))
                    .collect();
                if ready.is_empty() { break; }
                let channel = ready[pick.index(ready.len())];
                let item = queues[channel][heads[channel]];
                heads[channel] += 1;
                let outcome = match item {
                    Item::Row(epoch) => { prop_assert_eq!(epoch, sealed.len() as u64 + 1); continue; }
                    Item::Barrier(epoch) => aligner.barrier(channel, epoch).expect("in order"),
                    Item::End => aligner.end(channel).expect("exists"),
                };
                if let Alignment::Complete(epoch) = outcome { sealed.push(epoch.0); }
            }
            if heads.iter().zip(&queues).all(|(head, queue)| *head == queue.len()) {
                prop_assert_eq!(sealed, (1..=last).collect::<Vec<_>>());
            }
        }
    }
}
