//! libFuzzer around the targets; `RBD_FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use rbd_fuzz::Target;

fuzz_target!(|data: &[u8]| -> Corpus {
    let target = target();
    if data.len() > target.longest {
        return Corpus::Reject;
    }
    (target.run)(data);
    Corpus::Keep
});

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("RBD_FUZZ_TARGET").unwrap_or_default();
        rbd_fuzz::find(&name).unwrap_or_else(|| {
            eprintln!("RBD_FUZZ_TARGET must name a target, but is '{name}'");
            std::process::exit(2);
        })
    })
}
