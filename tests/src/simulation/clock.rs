//! A node's clock: it runs fast or slow, jumps ahead, stands still; it never goes back.

/// A node's clock. What it shows is a straight line from where it was last meddled with.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    permille: u64,
    /// At this true time …
    since: u64,
    /// … it showed this.
    shown: u64,
    /// Until this true time it stands still.
    stopped_until: u64,
}

impl Clock {
    pub(super) fn new(permille: u64, shown: u64) -> Self {
        Self {
            permille,
            since: 0,
            shown,
            stopped_until: 0,
        }
    }

    /// What it shows at this true time.
    pub(super) fn read(&self, now: u64) -> u64 {
        let start = self.since.max(self.stopped_until);
        let passed = now.saturating_sub(start);
        self.shown + passed / 1_000 * self.permille + passed % 1_000 * self.permille / 1_000
    }

    /// The true time at which it will show this, or the first at which that can be said.
    pub(super) fn when(&self, shown: u64, now: u64) -> u64 {
        let missing = shown.saturating_sub(self.read(now));
        let start = now.max(self.stopped_until);
        start + missing / self.permille * 1_000 + missing % self.permille * 1_000 / self.permille
    }

    pub(super) fn jump(&mut self, now: u64, ahead: u64) {
        self.hold(now);
        self.shown += ahead;
    }

    pub(super) fn stop(&mut self, now: u64, until: u64) {
        self.hold(now);
        self.stopped_until = until;
    }

    pub(super) fn go_on(&mut self, now: u64) {
        self.hold(now);
        self.stopped_until = 0;
    }

    fn hold(&mut self, now: u64) {
        self.shown = self.read(now);
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_runs_at_its_rate_and_tells_when_it_will_show_something() {
        let clock = Clock::new(900, 5);
        assert_eq!(clock.read(1_000_000), 900_005);
        assert_eq!(clock.when(900_005, 0), 1_000_000);
        assert_eq!(clock.when(3, 70), 70);
    }

    #[test]
    fn a_stopped_clock_goes_on_where_it_stopped() {
        let mut clock = Clock::new(1_000, 0);
        clock.stop(100, 300);
        assert_eq!(
            (clock.read(200), clock.read(300), clock.read(350)),
            (100, 100, 150)
        );
        assert_eq!(clock.when(150, 200), 350);
        clock.stop(350, 900);
        clock.go_on(400);
        assert_eq!(clock.read(500), 250);
    }

    #[test]
    fn a_clock_never_goes_back() {
        let mut clock = Clock::new(1_100, 0);
        clock.jump(1_000, 50);
        assert_eq!(clock.read(1_000), 1_150);
        clock.stop(2_000, 2_500);
        let before = clock.read(2_100);
        clock.jump(2_200, 1);
        assert_eq!(clock.read(2_200), before + 1);
    }
}
