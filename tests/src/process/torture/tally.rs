//! What has been survived, in numbers.

use std::fmt;

/// What has been survived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Rounds.
    pub rounds: u64,
    /// Daemons killed.
    pub killed: u64,
    /// Daemons stopped in an orderly way.
    pub stopped: u64,
    /// Daemons frozen for a while.
    pub frozen: u64,
    /// Times the wire was cut, reset, held up or damaged.
    pub wire: u64,
    /// Nodes whose power was cut.
    pub unplugged: u64,
    /// Disks made to fail, hang or do things by halves.
    pub broken: u64,
    /// Requests of the daemons that met a fault of their disk.
    pub faults: u64,
    /// Times the other node took over.
    pub failovers: u64,
    /// Requests answered.
    pub answered: u64,
    /// Times both disks were checked against their marks.
    pub mark_checks: u64,
    /// Of those, with a daemon that lived and stood still.
    pub standstills: u64,
    /// Blocks that differed then, all of them marked.
    pub differing: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds: {} daemons killed, {} stopped, {} frozen; wire damaged {} times; {} \
             fail-overs; {} requests answered; marks checked {} times, {} of them beside a living \
             daemon, {} differing blocks, all marked",
            self.rounds,
            self.killed,
            self.stopped,
            self.frozen,
            self.wire,
            self.failovers,
            self.answered,
            self.mark_checks,
            self.standstills,
            self.differing
        )?;
        if self.unplugged + self.broken > 0 {
            write!(
                f,
                "; {} nodes unplugged, {} disks broken, {} requests met a fault",
                self.unplugged, self.broken, self.faults
            )?;
        }
        Ok(())
    }
}
