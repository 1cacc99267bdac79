//! What each command does, from words on the command line to lines on the terminal.

mod completions;
mod disks;
mod lifecycle;
mod outdate;
mod queries;
mod resolve;
mod shell_status;
mod states;
mod tentative;
mod undo_file;
mod wait;
mod watch;

use crate::arguments::Command;
use crate::session::Session;

/// Carries out one command; failures are in the session.
pub(crate) fn run(session: &mut Session, command: Command) {
    match command {
        Command::CreateMd(options) => disks::create_md(session, &options),
        Command::WipeMd(options) => disks::wipe_md(session, &options),
        Command::DumpMd(options) => disks::dump_md(session, &options.targets),
        Command::Up(options) => lifecycle::up(session, &options.targets),
        Command::Adjust(options) => lifecycle::adjust(session, &options.targets),
        Command::Down(options) => lifecycle::down(session, &options.targets),
        Command::Attach(options) => lifecycle::attach(session, &options.targets),
        Command::Detach(options) => lifecycle::detach(session, &options),
        Command::Connect(options) => lifecycle::connect(session, &options),
        Command::Disconnect(options) => lifecycle::disconnect(session, &options),
        Command::Resolve(options) => resolve::run(session, &options),
        Command::UndoFile(options) => undo_file::run(session, &options),
        Command::Primary(options) => lifecycle::primary(session, &options),
        Command::Secondary(options) => lifecycle::secondary(session, &options),
        Command::Invalidate(options) => lifecycle::invalidate(session, &options),
        Command::InvalidateRemote(options) => lifecycle::invalidate_remote(session, &options),
        Command::Resize(options) => lifecycle::resize(session, &options),
        Command::Verify(options) => lifecycle::verify(session, &options),
        Command::PauseSync(options) => lifecycle::pause_sync(session, &options.targets, true),
        Command::ResumeSync(options) => lifecycle::pause_sync(session, &options.targets, false),
        Command::Outdate(options) => outdate::outdate(session, &options.targets),
        Command::SuspendIo(options) => lifecycle::suspend_io(session, &options.targets),
        Command::ResumeIo(options) => lifecycle::resume_io(session, &options.targets),
        Command::NewCurrentUuid(options) => lifecycle::new_generation(session, &options),
        Command::Status(options) => states::status(session, &options),
        Command::Explain(options) => states::explain(session, &options.targets),
        Command::Role(options) => states::role(session, &options.targets),
        Command::Cstate(options) => states::cstate(session, &options.targets),
        Command::Dstate(options) => states::dstate(session, &options.targets),
        Command::WaitConnect(options) => wait::run(session, &options, wait::Goal::Connected),
        Command::WaitSync(options) => wait::run(session, &options, wait::Goal::InSync),
        Command::Check(options) => crate::check::run(session, &options.targets),
        Command::Dump(options) => queries::dump(session, &options.targets),
        Command::Completions(options) => completions::print(session, options.shell),
        Command::ShNop => queries::nop(session),
        Command::ShStatus(options) => shell_status::run(session, &options.targets),
        Command::ShResources => queries::resources(session),
        Command::ShResource(options) => queries::resource(session, &options.targets),
        Command::ShDev(options) => queries::devices(session, &options.targets),
        Command::ShMinor(options) => queries::minors(session, &options.targets),
        Command::ShLlDev(options) => queries::backing_disks(session, &options.targets),
        Command::ShMdDev(options) => queries::metadata_devices(session, &options.targets),
        Command::ShMdIdx(options) => queries::metadata_indices(session, &options.targets),
        Command::ShIp(options) => queries::addresses(session, &options.targets),
    }
}
