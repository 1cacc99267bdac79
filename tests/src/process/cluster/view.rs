//! What is to be seen of a cluster, and waiting for it.

use std::fs;
use std::thread;
use std::time::Instant;

use super::room::NODES;
use super::{Cluster, LIMIT, POLL, Status, node_number, unless};

impl Cluster {
    /// What the daemon of a machine says of the resource.
    ///
    /// # Errors
    /// What it says instead.
    pub fn status(&self, node: &str) -> Result<Status, String> {
        let output = self.run(node, &["rbdadm", "status", "--json", "r0"]);
        if output.code != Some(0) {
            return Err(format!("status: {:?}: {}", output.code, output.text()));
        }
        Status::parse(&output.stdout, "r0")
    }

    /// Waits until the client writes somewhere, and returns where.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_for_client(&self) -> &'static str {
        let mut place = 0;
        self.wait("a client that writes", |cluster| {
            (place, _) = cluster.client_at_work()?;
            Ok(())
        });
        NODES[place]
    }

    /// Waits until the client writes on this machine.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_for_client_on(&self, node: &str) {
        self.wait(&format!("a client that writes on {node}"), |cluster| {
            let (place, _) = cluster.client_at_work()?;
            unless(NODES[place] == node, || format!("on {}", NODES[place]))
        });
    }

    /// Waits until the daemon of a machine, or one of its handlers, has said these words.
    ///
    /// # Panics
    /// When they are not said in time.
    pub fn wait_for_words(&self, node: &str, words: &str) {
        self.wait(&format!("{node}: '{words}'"), |cluster| {
            let room = cluster.board.room();
            let path = room.own_file(node_number(node), "/var/log/rbdd.log");
            let log = fs::read_to_string(path).map_err(|error| error.to_string())?;
            unless(log.contains(words), || "not said".to_owned())
        });
    }

    /// Waits until the daemon of a machine says what is waited for.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_for_status(&self, node: &str, what: &str, is_so: impl Fn(&Status) -> bool) {
        self.wait(&format!("{node}: {what}"), |cluster| {
            let status = cluster.status(node)?;
            unless(is_so(&status), || status.text())
        });
    }

    /// Waits until both machines are members, both copies are the same, both have their score and
    /// nothing is fenced any more.
    ///
    /// # Panics
    /// When it does not come to that in time.
    pub fn wait_until_whole(&self) {
        self.wait("both nodes in sync", |cluster| {
            for node in NODES {
                let status = cluster.status(node)?;
                unless(status.is_in_sync(), || format!("{node}: {}", status.text()))?;
            }
            Ok(())
        });
        self.wait("no constraint of a handler", |cluster| {
            let constraint = cluster.constraint();
            unless(constraint.is_none(), || format!("{constraint:?}"))
        });
        self.wait("scores", |cluster| {
            let scores = NODES.map(|node| cluster.score(node));
            unless(scores == [Some(10_000); 2], || format!("{scores:?}"))
        });
        if self.options.primaries == 1 {
            self.wait_for_client();
        } else {
            for node in NODES {
                self.wait_for_clients_of(node);
            }
        }
    }

    /// Waits until the clients of a machine, of two that have some, have answers.
    ///
    /// # Panics
    /// When they have none in time.
    pub fn wait_for_clients_of(&self, node: &str) {
        self.wait(&format!("clients that write on {node}"), |cluster| {
            let number = node_number(node);
            let before = cluster.board.everywhere().answered(number)?;
            thread::sleep(POLL);
            let after = cluster.board.everywhere().answered(number)?;
            let each = before.iter().zip(after).all(|(old, new)| new > *old);
            unless(each, || format!("{before:?} and {after:?} are answered"))
        });
    }

    /// How often the clients of a machine, of two that have some, have begun to write.
    #[must_use]
    pub fn starts_on(&self, node: &str) -> u64 {
        self.board.everywhere().starts(node_number(node))
    }

    /// The promotion score of a machine.
    #[must_use]
    pub fn score(&self, node: &str) -> Option<i64> {
        let words = [
            "crm_attribute",
            "--quiet",
            "--query",
            "--lifetime",
            "reboot",
        ];
        let name = ["--name", "master-p_rbd", "--node", node];
        let output = self.run(self.some_node(), &[&words[..], &name[..]].concat());
        output.stdout.trim().parse().ok()
    }

    /// Whom the constraint of a fence handler lets be promoted, if there is one.
    #[must_use]
    pub fn constraint(&self) -> Option<String> {
        let path = "//rsc_location[starts-with(@id,'rbd-fence')]";
        let output = self.run(self.some_node(), &["cibadmin", "--query", "--xpath", path]);
        if output.code != Some(0) {
            return None;
        }
        let value = output.stdout.split("<expression").nth(1)?;
        let value = value.split(" value=\"").nth(1)?;
        Some(value.split('"').next()?.to_owned())
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// When it is not so in time, or the client has seen what must not be.
    pub fn wait(&self, what: &str, mut attempt: impl FnMut(&Self) -> Result<(), String>) {
        let begin = Instant::now();
        while let Err(seen) = attempt(self) {
            self.assert_nothing_wrong();
            assert!(
                begin.elapsed() < LIMIT,
                "waited {} s in vain for: {what}; last seen: {seen}",
                LIMIT.as_secs()
            );
            thread::sleep(POLL);
        }
        println!("{:>6.1} s  {what}", begin.elapsed().as_secs_f32());
    }

    /// Whether a machine is on.
    #[must_use]
    pub fn is_on(&self, node: &str) -> bool {
        self.board.is_on(node_number(node))
    }

    /// What the power switch was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.board.asked()
    }

    /// Whether the power switch was asked to cut a machine's power.
    #[must_use]
    pub fn has_been_fenced(&self, node: &str) -> bool {
        let asked = self.asked();
        let cut = ["off", "reboot"].map(|what| format!("{what} {node}"));
        asked.iter().any(|question| cut.contains(question))
    }

    /// How often the client has begun to write.
    #[must_use]
    pub fn client_starts(&self) -> u64 {
        self.board.follower().starts
    }

    /// How many requests of the client have been answered since it began.
    #[must_use]
    pub fn client_answered(&self) -> u64 {
        self.board
            .follower()
            .place()
            .map_or(0, |(_, answered)| answered)
    }

    /// Waits until the client has begun to write once more.
    ///
    /// # Panics
    /// When it has not in time.
    pub fn wait_for_next_start(&self, before: u64) {
        self.wait("the client begins again", |cluster| {
            let starts = cluster.client_starts();
            unless(starts > before, || format!("{starts} starts"))
        });
    }

    pub(super) fn assert_nothing_wrong(&self) {
        let mut wrongs = self.board.follower().take_wrongs();
        wrongs.extend(self.board.everywhere().take_wrongs());
        assert!(wrongs.is_empty(), "{wrongs:?}");
    }

    /// Where the client has just had an answer.
    fn client_at_work(&self) -> Result<(usize, u64), String> {
        let nowhere = || "the client does not run".to_owned();
        let (place, before) = self.board.follower().place().ok_or_else(nowhere)?;
        thread::sleep(POLL);
        let (_, after) = self.board.follower().place().ok_or_else(nowhere)?;
        unless(after > before, || {
            format!("nothing is answered on {}", NODES[place])
        })?;
        Ok((place, after))
    }

    /// A machine that is on.
    pub(super) fn some_node(&self) -> &'static str {
        NODES
            .into_iter()
            .find(|node| self.is_on(node))
            .unwrap_or("alpha")
    }
}
