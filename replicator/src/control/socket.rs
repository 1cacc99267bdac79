//! The control socket: one request and one reply per conversation.
//!
//! Every conversation has its own deadline and is on its own: garbage in one is answered there and
//! disturbs no other.

use std::rc::Rc;
use std::time::Duration;

use rbd_protocol::control::frame::{self, FrameError};
use rbd_protocol::control::{Refusal, RefusalCode, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::daemon::Daemon;
use super::requests;
use super::unaccepted::Unaccepted;

/// Why a conversation ended before its request was understood.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("no request within {} s", READ_DEADLINE.as_secs())]
    TooLate,
    #[error("only root and uid {owner} may control this daemon, not uid {caller}")]
    Stranger { owner: u32, caller: u32 },
}

/// Holds conversations for as long as the daemon lives.
pub(super) async fn serve(daemon: Rc<Daemon>, listener: UnixListener) {
    let mut conversations = JoinSet::new();
    let mut unaccepted = Unaccepted::of("rbdadm");
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                unaccepted.pause(&error).await;
                continue;
            }
        };
        while conversations.try_join_next().is_some() {}
        if conversations.len() >= CONVERSATION_LIMIT {
            tracing::warn!("control connection closed: {CONVERSATION_LIMIT} are open already");
            continue;
        }
        conversations.spawn_local(converse(Rc::clone(&daemon), stream));
    }
}

async fn converse(daemon: Rc<Daemon>, mut stream: UnixStream) {
    let request = timeout(READ_DEADLINE, read_request(&mut stream)).await;
    let reply = match request.unwrap_or(Err(RequestError::TooLate)) {
        Ok(None) => return,
        Ok(Some(request)) if is_given_up(&daemon, &request, &stream).await => {
            tracing::info!(
                "a request is not carried out: its caller has gone without waiting for it"
            );
            return;
        }
        Ok(Some(request)) => perform(&daemon, request).await,
        Err(error) => {
            tracing::warn!("control connection: {error}");
            Reply::Refused(refusal_for(&error))
        }
    };
    let written = timeout(WRITE_DEADLINE, write_reply(&mut stream, &reply)).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::debug!("nobody waited for the reply");
    }
}

/// What was begun goes on when the caller is told that it takes too long: half an `up` helps
/// nobody.
async fn perform(daemon: &Rc<Daemon>, request: Request) -> Reply {
    let mut deadline = COMMAND_DEADLINE;
    if matches!(request, Request::Promote { .. } | Request::Migrate { .. }) {
        deadline += daemon.surroundings.deadline; // it may have to wait for a handler
    }
    let daemon = Rc::clone(daemon);
    let task = tokio::task::spawn_local(async move { requests::answer(&daemon, request).await });
    match timeout(deadline, task).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => Reply::Refused(Refusal::new(
            RefusalCode::Environment,
            format!("the command failed inside the daemon: {error}"),
            "see the daemon's log",
        )),
        Err(_) => Reply::Refused(Refusal::new(
            RefusalCode::StateTimeout,
            format!(
                "not done after {} s; the daemon goes on with it",
                deadline.as_secs()
            ),
            "rbdadm status",
        )),
    }
}

/// The request; `None` when the caller hung up without a word.
async fn read_request(stream: &mut UnixStream) -> Result<Option<Request>, RequestError> {
    let caller = stream.peer_cred()?.uid();
    let owner = rustix::process::geteuid().as_raw();
    if caller != 0 && caller != owner {
        return Err(RequestError::Stranger { owner, caller });
    }
    let mut header = [0; frame::HEADER_BYTES];
    let first = stream.read(&mut header).await?;
    if first == 0 {
        return Ok(None);
    }
    if let Some(rest) = header.get_mut(first..) {
        stream.read_exact(rest).await?;
    }
    let mut body = vec![0; frame::body_length(&header)?];
    stream.read_exact(&mut body).await?;
    Ok(Some(frame::decode(&body)?))
}

/// Whether nobody waits for a request any more when it could be begun. Who has given up may have
/// done something else instead: a request that this daemon was too slow for is void then.
async fn is_given_up(daemon: &Daemon, request: &Request, stream: &UnixStream) -> bool {
    // One that takes longer than that is answered so when it is carried out.
    let _resumed = timeout(COMMAND_DEADLINE, requests::let_resume(daemon, request)).await;
    has_hung_up(stream)
}

/// Whether the caller has closed the conversation.
fn has_hung_up(stream: &UnixStream) -> bool {
    let mut asked = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec::default();
    rustix::event::poll(&mut asked, Some(&now)).is_ok()
        && asked[0].revents().contains(PollFlags::HUP)
}

async fn write_reply(stream: &mut UnixStream, reply: &Reply) -> std::io::Result<()> {
    let bytes = frame::encode(reply).or_else(|error| {
        frame::encode(&Reply::Refused(Refusal::new(
            RefusalCode::Environment,
            format!("the answer does not fit: {error}"),
            "ask for one resource",
        )))
    });
    stream
        .write_all(&bytes.map_err(std::io::Error::other)?)
        .await?;
    stream.shutdown().await
}

fn refusal_for(error: &RequestError) -> Refusal {
    let help = match error {
        RequestError::Frame(FrameError::Version { .. }) => {
            "use rbdadm and rbdd of the same package; restart rbdd after an upgrade"
        }
        RequestError::Stranger { .. } => "run it as root",
        RequestError::Socket(_) | RequestError::Frame(_) | RequestError::TooLate => "",
    };
    Refusal::new(RefusalCode::Environment, error.to_string(), help)
}

/// How long a caller may take to send its request.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// How long a caller may take to read its reply.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// How long a command may take before its caller is told that it takes longer.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// Callers at once; `rbdadm` makes one conversation at a time.
const CONVERSATION_LIMIT: usize = 64;
