//! Prints the manual page of `rbdadm`, made from its command line. The package is built with it.

use std::io::{self, Write};

use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

fn main() -> io::Result<()> {
    let command = rbdadm::command_line();
    let man = Man::new(command.clone()).section("8").title("RBDADM");
    let mut page = Vec::new();
    man.render(&mut page)?;
    for verb in command.get_subcommands() {
        let mut roff = Roff::new();
        let name = verb.get_name();
        roff.control("SH", [format!("COMMAND {name}").as_str()]);
        let about = verb.get_about().map(ToString::to_string);
        roff.text([roman(about.unwrap_or_default())]);
        roff.to_writer(&mut page)?;
        let verb = Man::new(verb.clone());
        verb.render_synopsis_section(&mut page)?;
        verb.render_options_section(&mut page)?;
    }
    io::stdout().write_all(&page)
}
