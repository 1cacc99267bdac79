//! Which files an RPM carries, read from its header: for the comparison with the other package.
//!
//! Nothing is unpacked, and nothing is believed about who has signed it.

use std::collections::BTreeMap;

/// The names of all files, and their modes.
pub(super) fn files(package: &[u8]) -> Result<BTreeMap<String, u32>, String> {
    read(package).ok_or_else(|| "is no RPM, or is cut short".to_owned())
}

fn read(package: &[u8]) -> Option<BTreeMap<String, u32>> {
    let package = package.get(LEAD..)?;
    let (_, length) = Header::read(package)?;
    // What follows the signatures begins at a multiple of eight.
    let (header, _) = Header::read(package.get(length.next_multiple_of(8)..)?)?;
    let directories = header.texts(DIRECTORY_NAMES)?;
    let names = header.texts(BASE_NAMES)?;
    let mut files = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        let directory = header.number(DIRECTORY_INDEXES, place, 4)?;
        let directory = directories.get(usize::try_from(directory).ok()?)?;
        let mode = header.number(FILE_MODES, place, 2)?;
        files.insert(format!("{directory}{name}"), mode & 0o7777);
    }
    Some(files)
}

/// Tags, each with a place in the store.
struct Header<'a> {
    index: &'a [u8],
    store: &'a [u8],
}

impl<'a> Header<'a> {
    /// A header, and how long it is.
    fn read(bytes: &'a [u8]) -> Option<(Self, usize)> {
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let entries = usize::try_from(word(bytes, 8)?).ok()?;
        let stored = usize::try_from(word(bytes, 12)?).ok()?;
        let store = entries.checked_mul(ENTRY)?.checked_add(16)?;
        let end = store.checked_add(stored)?;
        let header = Self {
            index: bytes.get(16..store)?,
            store: bytes.get(store..end)?,
        };
        Some((header, end))
    }

    /// What a tag has, from its place on, and how much of it.
    fn values(&self, tag: u32) -> Option<(&'a [u8], usize)> {
        let mut entries = self.index.chunks_exact(ENTRY);
        let entry = entries.find(|entry| word(entry, 0) == Some(tag))?;
        let place = usize::try_from(word(entry, 8)?).ok()?;
        let count = usize::try_from(word(entry, 12)?).ok()?;
        Some((self.store.get(place..)?, count))
    }

    fn texts(&self, tag: u32) -> Option<Vec<String>> {
        let (values, count) = self.values(tag)?;
        let texts = values.split(|byte| *byte == 0).take(count);
        let texts: Vec<_> = texts
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect();
        (texts.len() == count).then_some(texts)
    }

    fn number(&self, tag: u32, place: usize, width: usize) -> Option<u32> {
        let (values, count) = self.values(tag)?;
        let bytes = values.get(place.checked_mul(width)?..)?.get(..width)?;
        let number = bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        (place < count).then_some(number)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// What is before the signatures says nothing that is still used.
const LEAD: usize = 96;

const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];

/// Tag, type, place, count.
const ENTRY: usize = 16;

const FILE_MODES: u32 = 1030;
const DIRECTORY_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORY_NAMES: u32 = 1118;
