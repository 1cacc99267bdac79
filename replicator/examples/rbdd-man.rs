//! Prints the manual page of `rbdd`, made from its command line. The package is built with it.

use std::io;

use clap::CommandFactory;
use clap_mangen::Man;
use rbd_replicator::control::Settings;

fn main() -> io::Result<()> {
    let man = Man::new(Settings::command()).section("8").title("RBDD");
    man.render(&mut io::stdout())
}
