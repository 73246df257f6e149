//! Outlets: how rows and markers leave a task.
//!
//! An outlet keeps what its queue did not take; a task with anything kept does nothing else until it
//! is gone. So a slow consumer stops only the tasks that feed it, and nothing is ever dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use qanat_executor_core::partition::Partitioner;
use qanat_executor_core::receipt::RowHasher;
use qanat_proto::Result;
use qanat_proto::control::EdgeCount;
use qanat_proto::receipt::RowSum;

use crate::task::channel::{Channel, Element};

/// One queue and what waits to enter it.
pub struct Outlet {
    channel: Arc<Channel>,
    kept: VecDeque<Element>,
}

impl Outlet {
    pub fn new(channel: Arc<Channel>) -> Self {
        Self { channel, kept: VecDeque::new() }
    }

    pub fn send(&mut self, element: Element) {
        if !self.kept.is_empty() {
            self.kept.push_back(element);
        } else if let Err(element) = self.channel.push(element) {
            self.kept.push_back(*element);
        }
    }

    /// Announces the end of idleness and opens the handshake (P13).
    fn begin_wake(&mut self) {
        self.channel.begin_wake();
        self.send(Element::Active);
    }

    /// Pushes what waits; whether nothing is left.
    pub fn drain(&mut self) -> bool {
        while let Some(element) = self.kept.pop_front() {
            if let Err(element) = self.channel.push(element) {
                self.kept.push_front(*element);
                return false;
            }
        }
        true
    }
}

/// How rows choose among a router's outlets.
pub enum Route {
    /// All rows to one outlet; markers to each.
    One(usize),
    /// By key group; outlet i is subtask i.
    Hash(Box<Partitioner>),
}

/// All outlets of one edge.
pub struct Router {
    pub outlets: Vec<Outlet>,
    pub route: Route,
    /// Rows sent since the last barrier.
    pub sent: EdgeCount,
    hasher: RowHasher,
}

impl Router {
    pub fn new(outlets: Vec<Outlet>, route: Route, sent: EdgeCount) -> Self {
        Self { outlets, route, sent, hasher: RowHasher::default() }
    }

    /// # Errors
    /// If the key columns cannot be hashed.
    pub fn send_rows(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match &mut self.route {
            Route::Hash(partitioner) => {
                for (subtask, part, sum) in partitioner.partition_and_sum(&rows, &mut self.hasher)? {
                    self.send_to(subtask as usize, part, sum);
                }
                Ok(())
            }
            Route::One(outlet) => {
                let outlet = *outlet;
                let sum = self.hasher.sum(&rows)?;
                self.send_to(outlet, rows, sum);
                Ok(())
            }
        }
    }

    fn send_to(&mut self, index: usize, rows: RecordBatch, sum: RowSum) {
        self.sent.sum.add(sum);
        if let Some(outlet) = self.outlets.get_mut(index) {
            outlet.send(Element::batch(rows, sum));
        }
    }

    pub fn send_marker(&mut self, marker: &Element) {
        for outlet in &mut self.outlets {
            outlet.send(marker.clone());
        }
    }

    /// Pushes what waits; whether nothing is left.
    pub fn drain(&mut self) -> bool {
        let mut empty = true;
        for outlet in &mut self.outlets {
            empty &= outlet.drain();
        }
        empty
    }

    pub fn begin_wake(&mut self) {
        self.outlets.iter_mut().for_each(Outlet::begin_wake);
    }

    /// The highest watermark of the receivers, once all have answered.
    pub fn adopted(&self) -> Option<i64> {
        self.outlets.iter().try_fold(i64::MIN, |highest, outlet| outlet.channel.adopted().map(|w| highest.max(w)))
    }

    /// Rows sent since the last call.
    pub fn take_sent(&mut self) -> EdgeCount {
        let sent = self.sent;
        self.sent.sum = RowSum::default();
        sent
    }
}
