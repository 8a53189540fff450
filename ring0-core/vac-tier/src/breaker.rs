//! Leaves a store alone that does not answer, so that nobody waits for it in vain.
//!
//! ```text
//! asked -- failures_max rounds without an answer --> left alone -- rest --> asked once -- answer --> asked
//!                                                        ^------------ no answer -----------'
//! ```

use std::time::Duration;

/// Counts rounds without an answer.
pub(crate) struct Breaker {
    failures_max: u32,
    rest: Duration,
    failures: u32,
    /// Left alone until then.
    until: Option<Duration>,
}

impl Breaker {
    pub(crate) fn new(failures_max: u32, rest: Duration) -> Self {
        Self { failures_max: failures_max.max(1), rest, failures: 0, until: None }
    }

    /// How much longer it is left alone, if it is.
    pub(crate) fn may_ask(&self, now: Duration) -> Result<(), Duration> {
        match self.until {
            Some(until) if now < until => Err(until - now),
            _ => Ok(()),
        }
    }

    /// Notes how a round ended.
    pub(crate) fn learn(&mut self, answered: bool, now: Duration) {
        if answered {
            (self.failures, self.until) = (0, None);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.failures_max {
            self.until = Some(now + self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_rests_tries_once_and_closes() {
        let s = Duration::from_secs;
        let mut breaker = Breaker::new(3, s(10));
        (0..2).for_each(|_| breaker.learn(false, s(1)));
        assert_eq!(breaker.may_ask(s(1)), Ok(()));
        breaker.learn(false, s(2));
        assert_eq!(breaker.may_ask(s(5)), Err(s(7)));
        assert_eq!(breaker.may_ask(s(12)), Ok(()));
        breaker.learn(false, s(12));
        assert_eq!(breaker.may_ask(s(13)), Err(s(9)), "one more failure, and it rests again");
        breaker.learn(true, s(22));
        (0..2).for_each(|_| breaker.learn(false, s(23)));
        assert_eq!(breaker.may_ask(s(23)), Ok(()), "an answer counts from zero");
    }
}
