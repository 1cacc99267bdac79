//! The program as users and scripts meet it: command lines in, texts and exit codes out.

mod command_line;
mod create_md;
#[cfg(test)]
mod resolving;
#[cfg(test)]
mod saving;
mod shell_status;
mod showing;
#[cfg(test)]
mod stage;
mod waiting;
mod with_daemon;
