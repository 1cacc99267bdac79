//! The control plane of the daemon: everything that is not per-I/O, on one tokio thread.
//!
//! It owns the run directory, listens for `rbdadm`, opens links to peers and NBD connections of
//! clients, and hands finished sockets and disks to the resource's thread (see
//! [`shell`](crate::shell)). It never touches a data byte and decides nothing about data: whether
//! a wish is granted is the engine's answer.
//!
//! | File | Job |
//! |---|---|
//! | `settings`, `log`, `run_directory`, `life` | start and stop of the daemon |
//! | `socket`, `requests` | conversations with `rbdadm` |
//! | `daemon`, `service` | the resources that are up |
//! | `bring_up`, `adjust`, `conflicts`, `disk`, `remembered` | up, adjust, down |
//! | `handlers` | running the administrator's programs |
//! | `links` | opening connections between nodes |
//! | `nbd` | opening connections of clients |
//! | `kernel` | which volumes are kernel block devices now |
//! | `migration` | what a restart and the end of a live migration need |
//! | `pressure` | what keeps the daemon going when memory runs out |
//! | `system`, `task` | what only the system knows; tasks that end with their owner |
//! | `upgrade` | resources that were up under another version |
//! | `unaccepted` | connections that cannot be taken in |

mod adjust;
mod bring_up;
mod conflicts;
mod daemon;
mod dependencies;
mod disk;
#[cfg(test)]
mod fixtures;
mod handlers;
mod kernel;
mod life;
mod links;
mod log;
mod migration;
mod nbd;
mod pressure;
mod remembered;
mod requests;
mod run_directory;
mod service;
mod settings;
mod socket;
mod system;
mod task;
#[cfg(test)]
mod tests;
mod unaccepted;
mod upgrade;

pub use life::run;
pub use settings::Settings;
