//! What a handler prints, line by line into the log; never more than a person would read.

use std::future::Future;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

use super::About;
use crate::control::task::Task;

/// Starts to log what the child prints. The future ends when there will be no more.
pub(super) fn follow(about: &About, child: &mut Child) -> impl Future<Output = ()> + use<> {
    let (ended, end) = tokio::sync::oneshot::channel();
    let (output, complaints) = (child.stdout.take(), child.stderr.take());
    let about = about.clone();
    let task = Task::spawn(async move {
        tokio::join!(
            log_lines(&about, "stdout", output),
            log_lines(&about, "stderr", complaints)
        );
        // Nobody may wait for it.
        let _not_wanted = ended.send(());
    });
    async move {
        let _following = task;
        // The other end goes only with the task.
        drop(end.await);
    }
}

async fn log_lines(about: &About, stream: &str, source: Option<impl AsyncRead + Unpin>) {
    let Some(mut source) = source else { return };
    let mut lines = Lines::default();
    let mut chunk = [0; 4096];
    // A read error is an end like any other: what counts is how the handler ends.
    while let Ok(length @ 1..) = source.read(&mut chunk).await {
        lines.add(&chunk[..length], |line| log(about, stream, line));
    }
    lines.end(|line| log(about, stream, line));
}

fn log(about: &About, stream: &str, line: &str) {
    let About { resource, handler } = about;
    tracing::info!(resource, handler, stream, "handler: {line}");
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    count: usize,
}

impl Lines {
    pub(super) fn add(&mut self, bytes: &[u8], mut log: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' {
                self.flush(&mut log);
            } else {
                self.rest.push(*byte);
                if self.rest.len() >= LONGEST_LINE {
                    self.flush(&mut log);
                }
            }
        }
    }

    pub(super) fn end(&mut self, mut log: impl FnMut(&str)) {
        if !self.rest.is_empty() {
            self.flush(&mut log);
        }
    }

    fn flush(&mut self, log: &mut impl FnMut(&str)) {
        self.count += 1;
        match self.count.cmp(&MOST_LINES) {
            std::cmp::Ordering::Less => log(&String::from_utf8_lossy(&self.rest)),
            std::cmp::Ordering::Equal => log("(the rest of its output is dropped)"),
            std::cmp::Ordering::Greater => {}
        }
        self.rest.clear();
    }
}

/// Longer lines are cut in pieces.
pub(super) const LONGEST_LINE: usize = 1024;

/// More lines are dropped: a handler gone wild must not fill the log.
pub(super) const MOST_LINES: usize = 200;
