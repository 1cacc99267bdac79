//! A connection that could not be taken in, most likely for want of descriptors: it waits in the
//! queue, and is tried again after a pause. The log says so, but not each time.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What was said about connections of one kind that could not be taken in.
#[derive(Debug)]
pub(super) struct Unaccepted {
    whose: &'static str,
    told: Option<Instant>,
}

impl Unaccepted {
    /// Nothing yet; `whose` connections they are.
    pub(super) const fn of(whose: &'static str) -> Self {
        Self { whose, told: None }
    }

    /// Waits until trying again makes sense.
    pub(super) async fn pause(&mut self, error: &io::Error) {
        if self.is_news(Instant::now()) {
            tracing::warn!(
                "connections of {} wait, because none can be accepted: {error} (is LimitNOFILE in \
                 the unit, or ulimit -n, too low?)",
                self.whose
            );
        }
        sleep(PAUSE).await;
    }

    fn is_news(&mut self, now: Instant) -> bool {
        let is_news = self.told.is_none_or(|told| now >= told + SILENCE);
        if is_news {
            self.told = Some(now);
        }
        is_news
    }
}

/// Long enough for some descriptors to be closed, short enough for clients to wait.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the same is not said again.
const SILENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::{Instant, SILENCE, Unaccepted};

    #[test]
    fn it_is_said_once_and_again_after_a_minute() {
        let mut clients = Unaccepted::of("clients");
        let begin = Instant::now();
        assert!(clients.is_news(begin));
        assert!(!clients.is_news(begin + SILENCE / 2));
        assert!(clients.is_news(begin + SILENCE));
        assert!(!clients.is_news(begin + SILENCE));
    }
}
