//! How often one principal may call: a bucket of tokens for each, which fills with time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qanat_proto::{Code, Error, Result, limits};
use qanat_storage::env::Clock;

/// The rates of all principals.
pub(super) struct Rates {
    clock: Arc<dyn Clock>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

struct Bucket {
    /// Requests that may be made now.
    left: f64,
    at: Duration,
}

impl Rates {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, buckets: Mutex::default() }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// E0609 if it is one too many.
    pub(super) fn take(&self, principal: &str) -> Result<()> {
        let (per_second, burst) = limits::PRINCIPAL_REQUESTS;
        let now = self.clock.monotonic();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(principal) && buckets.len() >= limits::PRINCIPALS_WATCHED {
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                buckets.remove(&oldest);
            }
        }
        let full = || Bucket { left: f64::from(burst), at: now };
        let bucket = buckets.entry(principal.to_owned()).or_insert_with(full);
        let waited = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + waited * f64::from(per_second)).min(f64::from(burst));
        bucket.at = now;
        if bucket.left < 1.0 {
            let error = Error::new(Code::TooManyRequests, format!("`{principal}` makes too many requests"));
            return Err(error.hint(format!("{per_second} per second are allowed, and {burst} at once after a pause")));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use qanat_storage::env::Env;

    use super::*;

    #[test]
    fn a_principal_has_its_share_and_no_more() {
        let (per_second, burst) = limits::PRINCIPAL_REQUESTS;
        let sim = Env::sim(1);
        let rates = Rates::new(sim.env.clock.clone());
        let taken =
            |principal: &str| std::iter::repeat_with(|| rates.take(principal)).take_while(Result::is_ok).count();
        assert_eq!(taken("ann"), burst as usize);
        assert_eq!(rates.take("ann").map_err(|e| e.code()), Err(Code::TooManyRequests));
        rates.take("bob").expect("another's share");
        sim.clock.advance(Duration::from_secs(1));
        assert_eq!(taken("ann"), per_second as usize);
        sim.clock.advance(Duration::from_secs(3600));
        assert_eq!(taken("ann"), burst as usize, "never more than so many at once");
    }

    #[test]
    fn so_many_are_watched_and_no_more() {
        let sim = Env::sim(1);
        let rates = Rates::new(sim.env.clock.clone());
        for principal in 0..limits::PRINCIPALS_WATCHED + 5 {
            sim.clock.advance(Duration::from_nanos(1));
            rates.take(&principal.to_string()).expect("its first");
        }
        assert_eq!(rates.buckets.lock().expect("whole").len(), limits::PRINCIPALS_WATCHED);
    }
}
