//! One connection of a small NBD server around the codec, for tests: blocking, a vector as disk.
//!
//! It answers requests strictly in order and keeps every request it decoded, so that a test can
//! see what a client really asked for.

use std::io::{self, Cursor, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use rbd_protocol::nbd::{
    BlockSizes, Errno, ExportInfo, Exports, Extent, Features, Handshake, Lookup, Policy, Request,
    RequestKind, Session, SessionError, Step,
};

/// The granularity in which the server looks for zeroes.
const STATUS_UNIT: usize = 4096;
/// Why `r1/0` cannot be had.
pub(crate) const REFUSAL: &str = "r1 is Secondary on this node; alpha is Primary";

/// What all connections to one server share.
pub(crate) struct Disk {
    pub(crate) info: ExportInfo,
    pub(crate) policy: Policy,
    data: Mutex<Vec<u8>>,
    seen: Mutex<Vec<Request>>,
}

impl Disk {
    /// The export `r0/0` (also `r0` and the default one) with everything offered.
    pub(crate) fn new(data: Vec<u8>, block_sizes: BlockSizes) -> Self {
        let info = ExportInfo {
            name: "r0/0".into(),
            description: "volume 0 of r0".into(),
            size: data.len() as u64,
            features: Features {
                trim: true,
                write_zeroes: true,
                fast_zero: true,
                multi_conn: true,
                ..Features::default()
            },
            block_sizes,
        };
        Self {
            info,
            policy: Policy::default(),
            data: Mutex::new(data),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.data.lock().unwrap().clone()
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests of this kind came with these flags.
    pub(crate) fn count(&self, kind: RequestKind, flags: u16) -> usize {
        let seen = self.seen.lock().unwrap();
        let wanted = |request: &&Request| request.kind == kind && request.flags.0 == flags;
        seen.iter().filter(wanted).count()
    }

    /// Serves one connection until the client leaves.
    pub(crate) fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        let Some((session, early)) = self.negotiate(&mut stream)? else {
            return Ok(());
        };
        let mut reader = Cursor::new(early).chain(stream.try_clone()?);
        loop {
            let mut header = vec![0; session.request_header_len()];
            reader.read_exact(&mut header)?;
            let request = match session.decode(&header) {
                Ok(request) => request,
                Err(error) => return close_with(&session, error, &mut stream),
            };
            self.seen.lock().unwrap().push(request);
            let mut payload = vec![0; request.payload_len() as usize];
            reader.read_exact(&mut payload)?;
            if request.kind == RequestKind::Disconnect {
                return Ok(());
            }
            let mut reply = Vec::new();
            match session.check(&request) {
                Ok(()) => self.perform(&session, &request, &payload, &mut reply),
                Err(refusal) => {
                    session.encode_error(request.cookie, refusal.errno, &refusal, &mut reply);
                }
            }
            stream.write_all(&reply)?;
        }
    }

    /// Negotiates in small portions; returns the session and what was read beyond negotiation.
    fn negotiate(&self, stream: &mut UnixStream) -> io::Result<Option<(Session, Vec<u8>)>> {
        let mut handshake = Handshake::new(self.policy);
        let mut portion = [0; 61];
        let mut arrived = 0;
        loop {
            let mut out = Vec::new();
            let step = handshake.feed(&portion[..arrived], self, &mut out);
            stream.write_all(&out)?;
            match step.map_err(io::Error::other)? {
                (used, Step::More) => assert_eq!(used, arrived),
                (used, Step::Serve(session)) => {
                    return Ok(Some((session, portion[used..arrived].to_vec())));
                }
                (_, Step::Close) => return Ok(None),
            }
            arrived = stream.read(&mut portion)?;
            if arrived == 0 {
                return Ok(None);
            }
        }
    }

    fn perform(&self, session: &Session, request: &Request, payload: &[u8], reply: &mut Vec<u8>) {
        let mut data = self.data.lock().unwrap();
        let start = usize::try_from(request.range.offset).unwrap();
        let place = start..start + request.range.length as usize;
        match request.kind {
            RequestKind::Read => {
                reply.extend_from_slice(session.encode_read(request).as_bytes());
                reply.extend_from_slice(&data[place]);
                return;
            }
            RequestKind::BlockStatus => {
                let extents: Vec<Extent> = data[place].chunks(STATUS_UNIT).map(extent).collect();
                return session.encode_block_status(request, &extents, reply);
            }
            RequestKind::Write => data[place].copy_from_slice(payload),
            RequestKind::WriteZeroes if request.flags.fast_zero() => {
                let message = "zeroing here is as slow as writing";
                return session.encode_error(request.cookie, Errno::NotSupported, &message, reply);
            }
            RequestKind::Trim | RequestKind::WriteZeroes => data[place].fill(0),
            RequestKind::Flush => {}
            RequestKind::Disconnect | RequestKind::Cache | RequestKind::Unknown(_) => {
                unreachable!("a request that passed its check: {request:?}")
            }
        }
        reply.extend_from_slice(session.encode_done(request).as_bytes());
    }
}

impl Exports for Disk {
    fn lookup(&self, name: &str) -> Lookup {
        match name {
            "" | "r0" | "r0/0" => Lookup::Serve(self.info.clone()),
            "r1/0" => Lookup::Refuse(REFUSAL.into()),
            _ => Lookup::Unknown,
        }
    }

    fn list(&self) -> Vec<(String, String)> {
        let primary = (self.info.name.clone(), self.info.description.clone());
        vec![primary, ("r1/0".into(), String::new())]
    }
}

fn extent(unit: &[u8]) -> Extent {
    let is_zero = unit.iter().all(|byte| *byte == 0);
    Extent {
        length: unit.len() as u64,
        is_hole: is_zero,
        is_zero,
    }
}

fn close_with(session: &Session, error: SessionError, stream: &mut UnixStream) -> io::Result<()> {
    let mut reply = Vec::new();
    if let SessionError::PayloadTooLong { cookie, .. } = error {
        session.encode_error(cookie, Errno::Invalid, &error, &mut reply);
    }
    stream.write_all(&reply)
}
