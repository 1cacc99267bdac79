//! Every 512-byte sector as a register: which values a client may see, given what it was told.
//!
//! Each write of a sector gets the next index, and what it writes names sector and index, so what
//! is read tells which write it was. A sector keeps a range `lo..=hi` of indices that may be seen:
//! an acknowledgement raises `lo`, so does a read (a value once returned never reverts), an
//! invocation raises `hi`. A flush or FUA write raises `floor`: what not even the loss of every
//! cache may take back. Writes in flight at the same time are in no known order; then `lo` is only
//! raised to the oldest of them. What nobody has written may be anything, but not one thing now and
//! another later.

/// What write number `index` of the sector leaves in it.
#[must_use]
pub fn stamp(sector: u64, index: u32) -> u64 {
    ((sector + 1) << 32) | u64::from(index)
}

/// What may be in the sector of a disk nobody has written yet; different on each node.
#[must_use]
pub fn garbage(sector: u64, node: u8) -> u64 {
    ((sector + 1) << 32) | u64::from(GARBAGE) | u64::from(node)
}

const GARBAGE: u32 = 1 << 31;

/// What tells the data of one volume from that of another: both begin with a sector 0.
const VOLUME: u64 = 1 << 20;

#[derive(Clone, Debug, Default)]
struct Register {
    sector: u64,
    /// What it is called in what is written to it.
    name: u64,
    /// Its place in the list of those with something unflushed, plus one; 0 when it is not in it.
    listed: u32,
    issued: u32,
    lo: u32,
    floor: u32,
    /// Indices that wrote zeroes; 0 stands for the initial content.
    zeroes: Vec<u32>,
    /// By index, less one: the oldest write that was outstanding when this one was invoked.
    oldest: Vec<u32>,
    outstanding: Vec<u32>,
    /// What a client has read that nobody had written.
    initial: Option<u64>,
    /// Nobody waits for them any more, but they may still happen.
    lingering: Vec<u32>,
}

/// All sectors of a volume, as clients know them.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    /// What its first sector is called in what is written to it.
    first: u64,
    /// Per sector its place in `registers`, plus one; 0 for one nobody has touched.
    places: Vec<u32>,
    /// In the order in which they were touched first.
    registers: Vec<Register>,
    /// Places of those with lingering writes.
    lingerers: Vec<usize>,
    /// Places of those of which not everything that is sure has been flushed.
    unflushed: Vec<u32>,
}

impl Registers {
    /// Those of a resource's volume with this number.
    #[must_use]
    pub fn of_volume(number: u64) -> Self {
        Self {
            first: number * VOLUME,
            ..Self::default()
        }
    }

    /// What write number `index` of the sector leaves in it.
    #[must_use]
    pub fn stamp(&self, sector: u64, index: u32) -> u64 {
        stamp(self.first + sector, index)
    }

    /// What may be in the sector of a disk nobody has written yet; different on each node.
    #[must_use]
    pub fn garbage(volume: u64, sector: u64, node: u8) -> u64 {
        garbage(volume * VOLUME + sector, node)
    }

    /// A client is about to write the sector, or to zero it. Returns the write's index.
    pub fn write_invoked(&mut self, sector: u64, zero: bool) -> u32 {
        let register = self.touch(sector);
        register.issued += 1;
        let index = register.issued;
        register.outstanding.push(index);
        let known = register.outstanding.iter().chain(&register.lingering);
        let oldest = known.copied().min().unwrap_or(index);
        register.oldest.push(oldest);
        if zero {
            register.zeroes.push(index);
        }
        index
    }

    /// Whether a write of the sector is outstanding.
    #[must_use]
    pub fn is_being_written(&self, sector: u64) -> bool {
        self.look(sector)
            .is_some_and(|register| !register.outstanding.is_empty())
    }

    /// The write was acknowledged.
    pub fn write_acknowledged(&mut self, sector: u64, index: u32, fua: bool) {
        let Some(place) = self.place(sector) else {
            return;
        };
        let Some(register) = self.registers.get_mut(place) else {
            return;
        };
        register.outstanding.retain(|other| *other != index);
        let sure = register.sure(index);
        register.lo = register.lo.max(sure);
        if fua {
            register.floor = register.floor.max(sure);
        }
        self.note(place);
    }

    /// The newest index of the sector that certainly happened when this one has.
    #[must_use]
    pub fn certain(&self, sector: u64, index: u32) -> u32 {
        self.look(sector).map_or(0, |register| register.sure(index))
    }

    /// Whether a disk with this value in the sector has this write, or a newer one.
    ///
    /// # Errors
    /// Says what it has instead.
    pub fn reaches(&self, sector: u64, value: u64, index: u32) -> Result<(), String> {
        self.allows(sector, value, |_| index)
    }

    /// The write failed, or its client will never hear of it: it may or may not have happened.
    pub fn write_abandoned(&mut self, sector: u64, index: u32) {
        let place = self.place(sector);
        if let Some(register) = place.and_then(|place| self.registers.get_mut(place)) {
            register.outstanding.retain(|other| *other != index);
        }
    }

    /// Nobody waits for the write any more, and it may happen at any time from now on, before or
    /// after others: until it is known that it has or never will.
    pub fn write_lingers(&mut self, sector: u64, index: u32) {
        self.write_abandoned(sector, index);
        let Some(place) = self.place(sector) else {
            return;
        };
        if let Some(register) = self.registers.get_mut(place)
            && !register.lingering.contains(&index)
        {
            register.lingering.push(index);
            self.lingerers.push(place);
        }
    }

    /// Whatever lingered until now has happened, or never will.
    pub fn forget_lingering(&mut self) {
        for place in std::mem::take(&mut self.lingerers) {
            if let Some(register) = self.registers.get_mut(place) {
                register.lingering.clear();
            }
        }
    }

    /// The oldest index a read invoked now may return.
    #[must_use]
    pub fn read_invoked(&self, sector: u64) -> u32 {
        self.look(sector).map_or(0, |register| register.lo)
    }

    /// The read returned `value`; `oldest` is what `read_invoked` said.
    ///
    /// # Errors
    /// When no order of the writes explains it.
    pub fn read_returned(&mut self, sector: u64, oldest: u32, value: u64) -> Result<(), String> {
        let register = self.touch(sector);
        let index = register.explain(sector, value, oldest)?;
        if index == 0 && register.zeroes.is_empty() {
            let before = *register.initial.get_or_insert(value);
            if before != value {
                return Err(format!(
                    "sector {sector}: {value:#x}; it was {before:#x}, and nobody has written it"
                ));
            }
        }
        let sure = register.sure(index);
        if sure > register.lo {
            register.lo = sure;
            if let Some(place) = self.place(sector) {
                self.note(place);
            }
        }
        Ok(())
    }

    /// What a flush invoked now will make durable when it is acknowledged.
    #[must_use]
    pub fn flush_invoked(&self) -> Vec<(u64, u32)> {
        self.unflushed
            .iter()
            .filter_map(|place| self.registers.get(index(*place)))
            .map(|register| (register.sector, register.lo))
            .collect()
    }

    /// The flush was acknowledged.
    pub fn flush_acknowledged(&mut self, covered: &[(u64, u32)]) {
        for (sector, index) in covered {
            let Some(place) = self.place(*sector) else {
                continue;
            };
            if let Some(register) = self.registers.get_mut(place) {
                register.floor = register.floor.max(*index);
            }
            self.note(place);
        }
    }

    /// Every copy that had all acknowledged writes has lost its cache: what was not flushed may be
    /// gone.
    pub fn caches_lost(&mut self) {
        for place in std::mem::take(&mut self.unflushed) {
            if let Some(register) = self.registers.get_mut(index(place)) {
                register.lo = register.floor;
                register.listed = 0;
            }
        }
    }

    /// Of several histories one has been chosen, whose content this is: from here on nothing older
    /// than that counts. Nothing of it is known to be durable. Nobody may be writing.
    pub fn begin_anew(&mut self, mut content: impl FnMut(u64) -> u64) {
        for place in 0..self.registers.len() {
            let Some(register) = self.registers.get_mut(place) else {
                continue;
            };
            let sector = register.sector;
            register.lo = register.explain(sector, content(sector), 0).unwrap_or(0);
            register.floor = 0;
            register.initial = None;
            self.note(place);
        }
    }

    /// Whether a disk with this value in the sector has what was acknowledged of it.
    ///
    /// # Errors
    /// Says what it has instead.
    pub fn holds(&self, sector: u64, value: u64) -> Result<(), String> {
        self.allows(sector, value, |register| register.lo)
    }

    /// Whether a disk that is left with this value has what was made durable of the sector.
    ///
    /// # Errors
    /// Says what it has instead.
    pub fn keeps(&self, sector: u64, value: u64) -> Result<(), String> {
        self.allows(sector, value, |register| register.floor)
    }

    fn allows(
        &self,
        sector: u64,
        value: u64,
        oldest: impl Fn(&Register) -> u32,
    ) -> Result<(), String> {
        let Some(register) = self.look(sector) else {
            return Ok(());
        };
        match oldest(register) {
            0 => Ok(()),
            oldest => register.explain(sector, value, oldest).map(drop),
        }
    }

    /// Whether a disk with this content holds everything that was acknowledged.
    ///
    /// # Errors
    /// Names the first sector that does not.
    pub fn is_current(&self, mut content: impl FnMut(u64) -> u64) -> Result<(), String> {
        for register in self.registers.iter().filter(|register| register.lo > 0) {
            register.explain(register.sector, content(register.sector), register.lo)?;
        }
        Ok(())
    }

    /// Acknowledged and abandoned writes so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.registers
            .iter()
            .map(|register| u64::from(register.issued))
            .sum()
    }

    fn place(&self, sector: u64) -> Option<usize> {
        index(*self.places.get(usize::try_from(sector).ok()?)?).checked_sub(1)
    }

    fn look(&self, sector: u64) -> Option<&Register> {
        self.registers.get(self.place(sector)?)
    }

    fn touch(&mut self, sector: u64) -> &mut Register {
        let at = usize::try_from(sector).expect("a simulated volume is small");
        if at >= self.places.len() {
            self.places.resize((at + 1).next_power_of_two(), 0);
        }
        let name = self.first + sector;
        let place = self.places.get_mut(at).expect("there is room now");
        if *place == 0 {
            self.registers.push(Register {
                sector,
                name,
                ..Register::default()
            });
            *place = number(self.registers.len());
        }
        let place = index(*place) - 1;
        self.registers.get_mut(place).expect("its place was noted")
    }

    /// Lists the register, or takes it off the list.
    fn note(&mut self, place: usize) {
        let Some(register) = self.registers.get_mut(place) else {
            return;
        };
        let wanted = register.lo > register.floor;
        if wanted && register.listed == 0 {
            self.unflushed.push(number(place));
            register.listed = number(self.unflushed.len());
        } else if !wanted && register.listed > 0 {
            let at = std::mem::take(&mut register.listed);
            self.unflushed.swap_remove(index(at) - 1);
            if let Some(moved) = self.unflushed.get(index(at) - 1)
                && let Some(register) = self.registers.get_mut(index(*moved))
            {
                register.listed = at;
            }
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("an index fits")
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a simulated volume is small")
}

impl Register {
    /// The newest index that certainly happened when this one has.
    fn sure(&self, index: u32) -> u32 {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        at.checked_sub(1)
            .and_then(|at| self.oldest.get(at).copied())
            .unwrap_or(0)
    }

    /// Which write left this value, none older than `oldest`.
    fn explain(&self, sector: u64, value: u64, oldest: u32) -> Result<u32, String> {
        let hi = self.issued;
        if value == 0 {
            return std::iter::once(&0)
                .chain(&self.zeroes)
                .copied()
                .find(|index| *index >= oldest)
                .ok_or_else(|| format!("sector {sector}: zeroes, allowed are {oldest}..={hi}"));
        }
        if value >> 32 != self.name + 1 {
            let from = (value >> 32).saturating_sub(1);
            return Err(format!("sector {sector}: holds data of sector {from}"));
        }
        let low = u32::try_from(value & 0xFFFF_FFFF).unwrap_or(u32::MAX);
        let index = if low & GARBAGE == 0 { low } else { 0 };
        if index < oldest || index > hi {
            return Err(format!(
                "sector {sector}: write {index}, allowed are {oldest}..={hi} (floor {})",
                self.floor
            ));
        }
        Ok(index)
    }
}
