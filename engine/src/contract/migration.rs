//! What the hands have to do about a live migration.

/// What the hands are told of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationNews {
    /// For so many milliseconds both nodes may be Primary: a daemon that comes up anew meanwhile
    /// has to say so when it promotes this one again.
    Begun {
        /// Milliseconds.
        ms: u32,
    },
    /// The time is over: this node is to be demoted if nobody uses it. Told again and again.
    Expired,
    /// One of the two is Primary no more.
    Over,
}
