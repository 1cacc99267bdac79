//! Two nodes that replicate to each other, and what must be true of both.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::setup::{NAMES, disk_file, meta_file};
use super::{Chance, Load, LoadOptions, Meta, Node, Proxy, Setup};
use crate::check::{Ledger, Marks, Recorder, Replica, check_marks, first_difference};
use crate::faultfs::Opening;

/// Two nodes on addresses of their own, in a temporary directory.
#[derive(Debug)]
pub struct Pair {
    /// The node with node-id 0.
    pub alpha: Node,
    /// The node with node-id 1.
    pub beta: Node,
    /// The wires to alpha and to beta, if there are any.
    pub wires: Vec<Proxy>,
    /// Where each node listens.
    pub addresses: [SocketAddr; 2],
    /// What volume 0 may hold.
    pub ledger: Ledger,
    bytes: u64,
    setup: Setup,
    // Last, so that the nodes are gone when it goes.
    directory: Option<tempfile::TempDir>,
}

impl Pair {
    /// Two nodes that hold different garbage and have never run.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("rbd-process-")
            .tempdir()
            .expect("a temporary directory can be made");
        let network = Chance::new(Chance::seed()).below(250 * 250);
        let network = [
            u8::try_from(network / 250 + 1).unwrap_or(1),
            u8::try_from(network % 250 + 1).unwrap_or(1),
        ];
        let free = || [free_address(network, 1), free_address(network, 2)];
        let addresses = setup.addresses.unwrap_or_else(free);
        let mut wires = Vec::new();
        let mut seen = addresses;
        if setup.proxied {
            for (node, address) in addresses.into_iter().enumerate() {
                let listen = Ipv4Addr::new(127, network[0], network[1], 3);
                let wire = Proxy::start(listen.into(), address);
                seen[node] = wire.address();
                wires.push(wire);
            }
        }
        let nodes = NAMES.map(|name| Node::new(name, setup.resource, directory.path()));
        for (node, own) in nodes.iter().enumerate() {
            // Each node listens on its own address and knows the wire to the other.
            let mut known = seen;
            known[node] = addresses[node];
            let text = setup.configuration(node, known, directory.path());
            fs::write(own.config(), text).expect("a fresh directory can be written to");
        }
        let run = run_that_looks_like_nothing();
        let [mut alpha, mut beta] = nodes;
        alpha.run_under(&setup.prefixes[0]);
        beta.run_under(&setup.prefixes[1]);
        let mut pair = Self {
            alpha,
            beta,
            wires,
            addresses,
            ledger: Ledger::new(run, 0, 1),
            bytes: 0,
            setup,
            directory: Some(directory),
        };
        pair.make_disks(run);
        pair
    }

    /// Both nodes up and in sync: alpha's data was declared good and beta got it. Both are
    /// Secondary.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn synced(setup: Setup) -> Self {
        let mut pair = Self::new(setup);
        pair.bring_up();
        pair.alpha.ok("primary --force");
        pair.wait_in_sync();
        pair.alpha.ok("secondary");
        pair
    }

    /// As [`Pair::synced`], with alpha Primary.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn primary(setup: Setup) -> Self {
        let pair = Self::synced(setup);
        pair.alpha.ok("primary");
        pair
    }

    /// Starts the daemons, creates metadata, brings the resource up and waits for the connection.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn bring_up(&mut self) {
        for node in [&mut self.alpha, &mut self.beta] {
            node.start();
            node.ok("create-md");
            node.ok("up");
        }
        for node in [&self.alpha, &self.beta] {
            node.wait_for("connected", |status| status.is_connected());
        }
        self.size_ledger();
    }

    /// Takes the size of volume 0 from alpha's status for the ledger's.
    ///
    /// # Panics
    /// When there is none.
    pub fn size_ledger(&mut self) {
        let size = self.alpha.status().size();
        assert!(size > 0, "the volume has no size");
        self.bytes = size;
        self.new_ledger(size / 512, WRITERS);
    }

    /// The size of volume 0.
    #[must_use]
    pub fn data_size(&self) -> u64 {
        self.bytes
    }

    /// Gives so many clients a part of volume 0 each. Nothing may have been written yet.
    pub fn share_ledger_among(&mut self, writers: u64) {
        self.new_ledger(self.ledger.sectors(), writers);
    }

    /// A ledger of a volume nothing has been written to; recorded where `RBD_HISTORY` says.
    fn new_ledger(&mut self, sectors: u64, writers: u64) {
        let run = self.ledger.run();
        self.ledger = Ledger::new(run, sectors, writers);
        let Some(directory) = std::env::var_os("RBD_HISTORY") else {
            return;
        };
        let path = Path::new(&directory).join(format!("{run:016x}-{sectors}-{writers}.history"));
        match Recorder::create(&path) {
            Ok(recorder) => self.ledger.record(&recorder),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }

    /// Both nodes.
    pub fn nodes(&mut self) -> [&mut Node; 2] {
        [&mut self.alpha, &mut self.beta]
    }

    /// Waits until both nodes say that everything is complete on both.
    ///
    /// # Panics
    /// When they do not in time.
    pub fn wait_in_sync(&self) {
        for node in [&self.alpha, &self.beta] {
            node.wait_for("in sync", |status| status.is_in_sync());
        }
    }

    /// Cuts everything between the nodes and refuses new connections.
    pub fn cut(&self) {
        for wire in &self.wires {
            wire.cut();
        }
    }

    /// Ends a cut.
    pub fn mend(&self) {
        for wire in &self.wires {
            wire.mend();
        }
    }

    /// Starts writing to volume 0 through alpha or beta, by name.
    ///
    /// # Panics
    /// When the node cannot be written to.
    #[must_use]
    pub fn load(&mut self, node: &str, options: LoadOptions) -> Load {
        let socket = self.node(node).nbd_socket();
        let export = format!("{}/0", self.setup.resource);
        let unit = if self.setup.faulty == Some(Opening::Direct) {
            BLOCK / 512
        } else {
            options.unit
        };
        let options = LoadOptions { unit, ..options };
        Load::start(self.ledger.take_shards(), &socket, &export, options)
    }

    /// Reads all of volume 0 through a node: every write that was answered must be there.
    ///
    /// # Panics
    /// When one is not.
    pub fn verify(&mut self, node: &str) {
        let mut client = self.node(node).open();
        let verified = self.ledger.verify(|offset, length| {
            client
                .read(offset, length)
                .map_err(|error| format!("reading at {offset}: {error}"))
        });
        if let Err(error) = verified {
            panic!("read through {node}: {error}");
        }
        // Until the server has closed, the client counts as one.
        drop(client.disconnect());
    }

    /// Compares the data areas of both nodes byte for byte.
    ///
    /// # Panics
    /// When they differ.
    pub fn assert_equal(&self) {
        for volume in 0..self.setup.volumes.len() {
            let length = self.data_bytes(volume);
            let (alpha, beta) = (self.alpha.disk(volume), self.beta.disk(volume));
            match first_difference(&alpha, &beta, length) {
                Ok(None) => {}
                Ok(Some(at)) => panic!("volume {volume} differs between the nodes at byte {at}"),
                Err(error) => panic!("volume {volume} cannot be compared: {error}"),
            }
        }
    }

    /// With both daemons dead, or standing still: every block that differs must be marked on one
    /// of the disks.
    ///
    /// # Panics
    /// When one is not.
    pub fn check_marks(&self) -> Marks {
        for node in [&self.alpha, &self.beta] {
            if !node.is_started() {
                wait_for_last_writes(&node.disk(0));
            }
        }
        let replicas = [&self.alpha, &self.beta].map(|node| Replica::internal(node.disk(0)));
        match check_marks(replicas.each_ref()) {
            Ok(marks) => marks,
            Err(error) => panic!("{error}"),
        }
    }

    /// Stops both daemons in an orderly way, then compares both data areas with each other and
    /// with what the clients were told.
    ///
    /// # Panics
    /// When anything is not as it should be.
    pub fn finish(mut self) {
        for node in self.nodes() {
            node.stop();
        }
        self.assert_equal();
        for path in [self.alpha.disk(0), self.beta.disk(0)] {
            if let Err(error) = self.ledger.verify_file(&path) {
                panic!("{error}");
            }
        }
    }

    /// As [`Pair::finish`], and the power goes before the comparison: an orderly stop leaves
    /// nothing in a cache. Needs disks that can lose it.
    ///
    /// # Panics
    /// When anything is not as it should be.
    pub fn finish_without_power(mut self) {
        for node in self.nodes() {
            node.disks().clear();
            node.disks().release();
            node.stop();
        }
        Node::cut_power(&mut self.nodes(), 0);
        self.finish();
    }

    /// Demotes a node once its clients have gone.
    ///
    /// # Panics
    /// When they do not go, or it is refused.
    pub fn demote(&self, node: &str) {
        let node = if node == "alpha" {
            &self.alpha
        } else {
            &self.beta
        };
        node.wait_for("no clients", |status| status.open_count() == 0);
        node.ok("secondary");
    }

    /// Promotes a node as soon as it can be: a resync it is the target of must end first.
    ///
    /// # Panics
    /// When it cannot be in time.
    pub fn promote(&self, node: &str) {
        let node = if node == "alpha" {
            &self.alpha
        } else {
            &self.beta
        };
        super::wait_until(&format!("{} is promoted", node.name()), || {
            let output = node.verb("primary");
            super::unless(output.code == Some(0), || output.text())
        });
    }

    /// A node by its name.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn node(&mut self, name: &str) -> &mut Node {
        match name {
            "alpha" => &mut self.alpha,
            "beta" => &mut self.beta,
            other => panic!("no node {other}"),
        }
    }

    /// Where everything is.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        let directory = self.directory.as_ref().expect("it lives as long as this");
        directory.path().to_path_buf()
    }

    fn data_bytes(&self, volume: usize) -> u64 {
        match self.setup.volumes[volume] {
            // What lies behind the data differs, as it should.
            Meta::Internal => self.ledger.sectors() * 512,
            Meta::External | Meta::Indexed(_) => {
                self.setup.disk_bytes[0].min(self.setup.disk_bytes[1])
            }
        }
    }

    /// Alpha holds version 0 of every sector, beta stamps of another run.
    fn make_disks(&mut self, run: u64) {
        let images = [run, !run];
        let setup = &self.setup;
        let nodes = [&mut self.alpha, &mut self.beta];
        for (node, (own, run)) in nodes.into_iter().zip(images).enumerate() {
            let disks = setup.disks(own.home());
            // Disks that can fail are files in front of others.
            let media = match setup.faulty {
                None => disks.clone(),
                Some(_) => own.home().join("media"),
            };
            fs::create_dir_all(&media).expect("a fresh directory can be written to");
            for volume in 0..setup.volumes.len() {
                let image = Ledger::initial_image(run, setup.disk_bytes[node]);
                fs::write(disk_file(&media, volume), image).expect("a disk can be written");
                let meta = match setup.volumes[volume] {
                    Meta::Internal => continue,
                    Meta::External => meta_file(&media, Some(volume)),
                    Meta::Indexed(_) => meta_file(&media, None),
                };
                File::options()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(meta)
                    .and_then(|file| file.set_len(META_BYTES))
                    .expect("a metadata file can be made");
            }
            if let Some(opening) = setup.faulty {
                own.power_up(&media, &disks, opening);
            }
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::env::var_os("RBD_KEEP").is_some()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("kept: {}", directory.keep().display());
        }
    }
}

/// An address nobody listens on. Each node has a host address of its own, so that no outgoing
/// connection of anybody takes the port while the node is down.
fn free_address(network: [u8; 2], host: u8) -> SocketAddr {
    let address = IpAddr::from([127, network[0], network[1], host]);
    TcpListener::bind((address, 0))
        .and_then(|listener| listener.local_addr())
        .expect("every host has loopback addresses")
}

/// Two bytes make an ext4 file system, and `create-md` would ask about it: once in 65536 disks
/// chance makes one.
fn run_that_looks_like_nothing() -> u64 {
    let looks_like_ext4 = |run: u64| {
        let image = Ledger::initial_image(run, 4096);
        image[0x438..0x43a] == [0x53, 0xef]
    };
    loop {
        let run = Chance::seed();
        if !looks_like_ext4(run) && !looks_like_ext4(!run) {
            return run;
        }
    }
}

/// Writes that were in flight when a daemon was killed keep the file, and with it the lock.
fn wait_for_last_writes(disk: &Path) {
    let file = File::open(disk).expect("the disk is there");
    super::wait_until("the last writes of a killed daemon end", || {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| error.to_string())
    });
}

/// What a disk that is opened for direct I/O takes at least.
const BLOCK: u64 = 4096;

/// Clients that write to a volume side by side.
const WRITERS: u64 = 2;

/// Room for two slots of fixed size, though sparse.
const META_BYTES: u64 = 288 << 20;
