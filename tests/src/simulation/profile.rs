//! What may happen in a run: drawn from the seed, within the limits of a named profile.

use super::faults::{Class, Fault};
use super::fencing::Model;
use super::guard::Guard;
use super::random::Random;
use rbd_protocol::control::Fencing;
use rbd_protocol::policy::{
    ResyncConflict, SplitPolicies, WithOnePrimary, WithTwoPrimaries, WithoutPrimary,
};

/// Which faults and commands a run consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// No faults at all: clients, and commands at leisure.
    Calm,
    /// Everything below, each class in about half of the seeds.
    Swarm,
    /// Links that are cut, stall or damage what they carry, and partitions.
    Network,
    /// Crashes and power losses only.
    Power,
    /// Disks that return errors, fill up, hang, crawl or vanish, and crashes.
    Disk,
    /// Everything, but rarely, over a long time.
    Sparse,
    /// Everything, with fencing instead of an operator who knows everything.
    Fencing,
    /// The same with a fence handler that lies now and then: something must be found.
    FencingLies,
    /// Operators who look at nothing, while links are cut and machines crash.
    Operator,
    /// Crashes aimed at resyncs, handshakes and promotions, and disks that are set back.
    Recovery,
    /// No faults, but operators who promote whatever they like while both nodes are connected.
    Rivals,
    /// Verifies, and bits that flip on the disk of the Secondary while links are cut; or verifies
    /// while anything else goes wrong, which must find nothing.
    Scrub,
    /// Disks that are enlarged, and volumes that grow, while links are cut and machines crash.
    Growth,
    /// The same, with metadata at the end of most disks, which moves when they grow.
    Moves,
    /// Both nodes are Primary at once, with clients on both, while links are cut and machines
    /// crash; fencing decides who goes on.
    Dual,
    /// The same, each time for a while only, by a node that is moved to: then one of the two is
    /// demoted by itself.
    Migration,
    /// The same, and disks fail, are taken away and given back, compared and enlarged as well.
    DualFaults,
    /// Resources with two volumes: links are cut, machines crash, and disks fail, mostly one.
    Volumes,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Calm,
        Self::Network,
        Self::Power,
        Self::Disk,
        Self::Swarm,
        Self::Sparse,
        Self::Fencing,
        Self::FencingLies,
        Self::Operator,
        Self::Recovery,
        Self::Rivals,
        Self::Scrub,
        Self::Growth,
        Self::Moves,
        Self::Dual,
        Self::Migration,
        Self::DualFaults,
        Self::Volumes,
    ];

    /// Those in which nothing may be found: where no fences lie.
    pub fn without_findings() -> impl Iterator<Item = Self> {
        let is_honest = |profile: &Self| *profile != Self::FencingLies;
        Self::ALL.into_iter().filter(is_honest)
    }

    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Swarm => "swarm",
            Self::Network => "network",
            Self::Power => "power",
            Self::Disk => "disk",
            Self::Sparse => "sparse",
            Self::Fencing => "fencing",
            Self::FencingLies => "fencing-lies",
            Self::Operator => "operator",
            Self::Recovery => "recovery",
            Self::Rivals => "rivals",
            Self::Scrub => "scrub",
            Self::Growth => "growth",
            Self::Moves => "moves",
            Self::Dual => "dual",
            Self::Migration => "migration",
            Self::DualFaults => "dual-faults",
            Self::Volumes => "volumes",
        }
    }

    /// How many in a hundred of its seeds have faults of this class.
    fn chance(self, class: Class) -> u64 {
        match (self, class) {
            (Self::Scrub, Class::Scrub) => 100,
            (Self::Scrub, Class::Network) => 50,
            (Self::DualFaults, Class::Careless) => 0,
            (Self::DualFaults, Class::Disk) => 80,
            (Self::DualFaults, Class::Clock) => 20,
            (Self::DualFaults, _) => 40,
            (_, Class::Scrub) | (Self::Scrub, _) => 0,
            (Self::Growth | Self::Moves, Class::Growth) => 100,
            (
                Self::Growth | Self::Moves,
                Class::Network | Class::Power | Class::Command | Class::Role,
            ) => 50,
            (_, Class::Growth) | (Self::Growth | Self::Moves, _) => 0,
            (Self::Calm | Self::Rivals, Class::Role)
            | (Self::Network, Class::Network | Class::Role)
            | (Self::Power, Class::Power | Class::Role)
            | (Self::Disk, Class::Disk | Class::Role) => 100,
            (Self::Operator, Class::Careless | Class::Role | Class::Command) => 100,
            (Self::Operator, Class::Power | Class::Network) => 60,
            (Self::Recovery, Class::Power | Class::Role) => 100,
            (Self::Recovery, Class::Network | Class::Command) => 30,
            (Self::Dual | Self::Migration, Class::Network | Class::Power | Class::Role) => 60,
            (Self::Dual | Self::Migration, Class::Clock | Class::Command) => 20,
            (Self::Volumes, Class::Clock) => 20,
            (Self::Operator, _) | (_, Class::Careless) => 0,
            (Self::Volumes, _) => 60,
            (Self::Disk, Class::Power | Class::Network) | (Self::Network, Class::Clock) => 30,
            (Self::Disk, Class::Command) => 60,
            (Self::Swarm | Self::Sparse, Class::Disk) => 30,
            (Self::Swarm | Self::Sparse, _) => 50,
            (Self::Fencing | Self::FencingLies, Class::Disk) => 0,
            (Self::Fencing | Self::FencingLies, _) => 70,
            _ => 0,
        }
    }
}

/// What is inside of disks that grow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inside {
    /// Metadata is at the end of each disk, and moves when that grows.
    pub(super) moves: bool,
    /// What is new of a disk is the same on both, but for metadata that was there, and the operator
    /// says so when a volume grows.
    pub(super) clean: bool,
}

/// How often what happens, and how large everything is. Weights count against each other.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// How many volumes the resource has.
    pub(super) volumes: usize,
    pub(super) size_bytes: u64,
    /// How large volume and disks may become.
    pub(super) most_bytes: u64,
    pub(super) inside: Inside,
    pub(super) skip_initial_sync: bool,
    /// Clients and faults do not wait for the first synchronisation to end.
    pub(super) early: bool,
    pub(super) clients: u64,
    pub(super) hot_blocks: u64,
    pub(super) reads_percent: u64,
    pub(super) flush_percent: u64,
    pub(super) fua_percent: u64,
    pub(super) zero_percent: u64,
    pub(super) overlap_percent: u64,
    /// So many requests in a thousand are given up by their clients before they are answered.
    pub(super) give_up_permille: u64,
    pub(super) think_us: u64,
    pub(super) disk_us: (u64, u64),
    pub(super) net_us: (u64, u64),
    pub(super) watch_ms: u64,
    /// Nodes are promoted whoever is Primary, but only while both are connected: no fencing is
    /// needed to keep them apart (G1).
    pub(super) heedless: bool,
    pub(super) connect_ms: u32,
    pub(super) ping_ms: (u32, u32),
    pub(super) hot_region_limit: u32,
    /// Errors of the only disk are passed on to clients.
    pub(super) pass_on: bool,
    /// Writing metadata makes data durable too: both are on one device with one cache.
    pub(super) internal_metadata: bool,
    /// Everything crosses the network as bytes, in pieces.
    pub(super) bytes: bool,
    /// What a link that is gone still held may be handed over late.
    pub(super) ghosts: bool,
    /// How fast each node's clock runs, in thousandths.
    pub(super) clock_permille: [u64; 2],
    /// Faults are aimed at resyncs, handshakes and promotions, and disks are set back.
    pub(super) aimed: bool,
    /// How often a client asks a node that is no Primary when there is none.
    pub(super) stray_percent: u64,
    /// How often a client asks for what lies about the end of a region or of a bitmap's page.
    pub(super) edge_percent: u64,
    /// Operators who look at nothing.
    pub(super) careless: bool,
    /// Both nodes may be Primary at once, and are as often as possible.
    pub(super) dual: bool,
    /// For so many milliseconds each time; 0 if for good.
    pub(super) migration_ms: u32,
    /// Bits flip unseen, and copies are compared.
    pub(super) scrubs: bool,
    /// Two operators promote both nodes at about the same time.
    pub(super) rivals: bool,
    /// Administrators come with errands when something has gone wrong.
    pub(super) errands: bool,
    /// A resync compares before it copies (`csums-alg`).
    pub(super) compares: bool,
    pub(super) fault_every_ms: u64,
    pub(super) duration_ms: u64,
    pub(super) faults: Vec<(Fault, u64)>,
    pub(super) fencing: Option<Model>,
    /// What must be done before a resync overwrites anything.
    pub(super) guard: Option<Guard>,
    /// What ends a split brain without a person, as the first node reads it.
    pub(super) split: SplitPolicies,
    pub(super) resync_conflict: ResyncConflict,
}

impl Options {
    pub(super) fn draw(profile: Profile, random: &mut Random) -> Self {
        let sizes = [64 << 12, 512 << 12, 4096 << 12, 20 << 20];
        // Either bits flip and links are cut, or anything else goes wrong.
        let mixed = profile == Profile::Scrub && random.percent(40);
        let classes = draw_classes(profile, mixed, random);
        let has = |class| classes.contains(&class);
        let mut options = Self {
            faults: draw_faults(&classes, random),
            volumes: if profile == Profile::Volumes { 2 } else { 1 },
            size_bytes: random.pick(&sizes).unwrap_or(1 << 20),
            most_bytes: 0,
            inside: Inside::default(),
            skip_initial_sync: random.percent(60),
            early: random.percent(75),
            clients: random.between(1, 8),
            hot_blocks: random.magnitude(1, 64),
            reads_percent: random.pick(&[5, 20, 50]).unwrap_or(20),
            flush_percent: random.pick(&[0, 2, 10, 30]).unwrap_or(2),
            fua_percent: random.pick(&[0, 5, 30]).unwrap_or(5),
            zero_percent: random.pick(&[0, 5, 20]).unwrap_or(5),
            overlap_percent: random.pick(&[0, 20, 100]).unwrap_or(20),
            give_up_permille: random.pick(&[0, 0, 5, 50]).unwrap_or(0),
            think_us: random.magnitude(100, 200_000),
            disk_us: (random.magnitude(5, 500), random.magnitude(500, 50_000)),
            net_us: (random.magnitude(5, 500), random.magnitude(500, 50_000)),
            // An operator who is slow lets a crashed Primary come back before anyone takes over.
            watch_ms: random.pick(&[20, 100, 100, 1_000, 5_000]).unwrap_or(100),
            heedless: profile == Profile::Rivals,
            connect_ms: 100,
            ping_ms: (500, 700),
            // Without disturbing what is drawn after it.
            pass_on: random.clone().percent(25),
            hot_region_limit: random.pick(&[0, 1, 2, 100]).unwrap_or(1),
            internal_metadata: random.percent(30),
            bytes: has(Class::Network) && random.percent(25),
            ghosts: has(Class::Network) && random.percent(50),
            clock_permille: [1_000; 2],
            aimed: profile == Profile::Recovery,
            stray_percent: stray_percent(profile),
            edge_percent: 0,
            careless: has(Class::Careless),
            dual: matches!(
                profile,
                Profile::Dual | Profile::DualFaults | Profile::Migration
            ),
            migration_ms: 0,
            scrubs: false,
            rivals: classes.iter().all(|class| *class == Class::Role),
            errands: has(Class::Command),
            compares: has_resyncs(profile) && random.percent(40),
            fault_every_ms: random.magnitude(5, 3_000),
            duration_ms: random.magnitude(2_000, 60_000),
            fencing: draw_fencing(profile, random),
            guard: draw_guard(profile, &mut random.clone()),
            split: SplitPolicies::default(),
            resync_conflict: ResyncConflict::default(),
        };
        if options.careless && random.percent(50) {
            options.split = draw_policies(random);
            options.resync_conflict = random.pick(ResyncConflict::ALL).unwrap_or_default();
        }
        // Two fresh copies that are both promoted by force have nothing in common.
        options.early &= !options.skip_initial_sync && !options.careless;
        if has(Class::Clock) {
            options.clock_permille = [random.between(900, 1_100), random.between(900, 1_100)];
        }
        if profile == Profile::Sparse {
            options.draw_sparse(random);
            return options;
        }
        if options.heedless {
            options.faults = vec![(Fault::SwitchOver, 1)];
            options.ping_ms = (30_000, 60_000); // no jump of a clock is to cost the link
        }
        match profile {
            Profile::Recovery => options.draw_recovery(random),
            Profile::Growth | Profile::Moves => options.draw_growth(profile, random),
            Profile::Scrub => options.scrub(mixed),
            Profile::Dual | Profile::DualFaults => options.draw_dual(&classes, random),
            Profile::Migration => options.draw_migration(&classes, random),
            _ => {}
        }
        options.most_bytes = options.most_bytes.max(options.size_bytes);
        options.limit_duration();
        options
    }

    /// About as many events whatever the pace.
    fn limit_duration(&mut self) {
        let busy = self.clients * self.duration_ms * 1_000 / (self.think_us + self.disk_us.1);
        if busy > 5_000 {
            self.duration_ms = (self.duration_ms * 5_000 / busy).max(1_000);
        }
    }
}

impl Options {
    /// Days in which little happens.
    fn draw_sparse(&mut self, random: &mut Random) {
        self.most_bytes = self.size_bytes;
        self.watch_ms = 20_000;
        self.ping_ms = (30_000, 700);
        self.think_us = random.magnitude(5_000_000, 60_000_000);
        self.fault_every_ms = random.magnitude(20_000, 600_000);
        self.duration_ms = random.magnitude(3_600_000, 40_000_000);
    }

    /// Mostly few places, which both nodes write at once; perhaps verifies and growth.
    fn draw_dual(&mut self, classes: &[Class], random: &mut Random) {
        if random.clone().percent(30) {
            self.ping_ms = (10_000, 500); // a loss that nobody notices by itself in time (G1)
        }
        self.clients = random.between(2, 12);
        self.hot_blocks = random.magnitude(1, 16);
        self.overlap_percent = random.pick(&[20, 100, 100]).unwrap_or(100);
        self.rivals = false;
        self.faults.retain(|(fault, _)| *fault != Fault::Rot);
        if classes.contains(&Class::Scrub) {
            self.scrub(true);
        }
        if classes.contains(&Class::Growth) {
            self.draw_growth(Profile::Growth, random);
        }
    }

    fn draw_migration(&mut self, classes: &[Class], random: &mut Random) {
        self.draw_dual(classes, random);
        let ms = random.magnitude(100, 20_000);
        self.migration_ms = u32::try_from(ms).unwrap_or(1);
    }

    /// Verifies, and bits that flip unless other things go wrong as well.
    fn scrub(&mut self, mixed: bool) {
        self.scrubs = true;
        let scrubs = |fault| matches!(fault, Fault::Rot | Fault::Verify);
        self.faults.retain(|(fault, _)| !scrubs(*fault));
        self.faults.push((Fault::Verify, 4));
        if !mixed {
            self.faults.push((Fault::Rot, 8));
            self.early = false;
        }
    }

    /// Room for the disks to be enlarged, and often clients at the ends of regions.
    fn draw_growth(&mut self, profile: Profile, random: &mut Random) {
        self.most_bytes = self.size_bytes * random.between(2, 4);
        self.faults.retain(|(fault, _)| *fault != Fault::Enlarge);
        self.faults.push((Fault::Enlarge, random.magnitude(2, 16)));
        self.edge_percent = random.pick(&[0, 10, 40]).unwrap_or(0);
        if profile != Profile::Moves {
            return;
        }
        // Without disturbing what is drawn after it.
        let mut other = Random::of(random.clone().next(), MOVES, 0);
        self.inside.moves = other.percent(60);
        let is_replaced = self
            .faults
            .iter()
            .any(|(one, _)| *one == Fault::DiskReplaced);
        self.inside.clean = other.percent(30) && !is_replaced;
    }

    /// Long resyncs, some of them of everything, on disks with more than one page of bitmap.
    fn draw_recovery(&mut self, random: &mut Random) {
        self.skip_initial_sync = random.percent(40);
        self.early = !self.skip_initial_sync && random.percent(75);
        self.edge_percent = random.pick(&[0, 10, 40]).unwrap_or(0);
        if random.percent(10) {
            self.size_bytes = 140 << 20;
        }
        if random.percent(40) {
            self.disk_us = (1_000, random.magnitude(50_000, 400_000));
        }
        if random.percent(60) {
            self.faults.push((Fault::SetBack, 8));
        }
    }
}

/// The stream of chance that decides where metadata is.
const MOVES: u64 = 7;

/// How often clients ask a node that is no Primary. Other profiles draw as they did before.
fn stray_percent(profile: Profile) -> u64 {
    let asked = matches!(profile, Profile::Calm | Profile::Rivals | Profile::Recovery);
    u64::from(asked) * 20
}

/// Where resyncs are many, some compare first. Other profiles draw as they did before.
fn has_resyncs(profile: Profile) -> bool {
    use Profile::{Disk, DualFaults, Network, Operator, Power, Recovery, Swarm, Volumes};
    matches!(
        profile,
        Swarm | Network | Power | Disk | Operator | Recovery | DualFaults | Volumes
    )
}

/// The kinds of faults there are. Other profiles draw as before there were the last two.
fn draw_classes(profile: Profile, mixed: bool, random: &mut Random) -> Vec<Class> {
    let known = |class: &Class| match class {
        Class::Scrub => matches!(profile, Profile::Scrub | Profile::DualFaults),
        Class::Growth => matches!(
            profile,
            Profile::Growth | Profile::Moves | Profile::DualFaults
        ),
        _ => true,
    };
    let of = |class| match class {
        Class::Careless | Class::Scrub | Class::Growth => profile,
        _ if mixed => Profile::Swarm,
        _ => profile,
    };
    Class::ALL
        .into_iter()
        .filter(known)
        .filter(|class| random.percent(of(*class).chance(*class)))
        .collect()
}

fn draw_policies(random: &mut Random) -> SplitPolicies {
    SplitPolicies {
        without_primary: random.pick(WithoutPrimary::ALL).unwrap_or_default(),
        with_one_primary: random.pick(WithOnePrimary::ALL).unwrap_or_default(),
        with_two_primaries: random.pick(WithTwoPrimaries::ALL).unwrap_or_default(),
        always: random.percent(50),
    }
}

/// Without disturbing what else is drawn, and independently of what is drawn next.
fn draw_guard(profile: Profile, random: &mut Random) -> Option<Guard> {
    for _ in 0..8 {
        random.next();
    }
    let is_calm = matches!(profile, Profile::Calm | Profile::Rivals | Profile::Scrub);
    (!is_calm && random.percent(25)).then(|| Guard::draw(random))
}

fn draw_faults(classes: &[Class], random: &mut Random) -> Vec<(Fault, u64)> {
    let mut faults = Vec::new();
    for (fault, class) in Fault::ALL {
        if classes.contains(&class) && random.percent(60) {
            faults.push((fault, random.magnitude(1, 16)));
        }
    }
    faults
}

fn draw_fencing(profile: Profile, random: &mut Random) -> Option<Model> {
    let lies = profile == Profile::FencingLies;
    let is_fenced = matches!(
        profile,
        Profile::Fencing | Profile::Dual | Profile::DualFaults | Profile::Migration
    );
    (lies || is_fenced).then(|| Model {
        policy: Fencing::ResourceAndStonith,
        fails_percent: random.pick(&[0, 10, 50]).unwrap_or(0),
        mute_percent: random.pick(&[0, 10, 50]).unwrap_or(0),
        lies_percent: if lies { 50 } else { 0 },
        stonith_percent: random.pick(&[0, 50, 100]).unwrap_or(0),
        rivals_percent: random.pick(&[0, 5, 30]).unwrap_or(0),
        most_us: random.magnitude(1_000, 10_000_000),
    })
}
