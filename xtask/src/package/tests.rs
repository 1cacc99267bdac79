//! What is in the package, without building it.

use std::collections::BTreeSet;
use std::fs;

use super::{FILES, control, version};
use crate::workspace;

#[test]
fn every_file_is_there_and_goes_to_a_place_of_its_own() {
    let mut places = BTreeSet::new();
    for (from, to, _) in FILES {
        assert!(workspace::root().join(from).is_file(), "{from}");
        assert!(places.insert(to), "{to} twice");
    }
}

#[test]
fn every_unit_handler_and_script_of_the_cluster_directory_is_packed() {
    let directories = [
        "systemd", "handlers", "fence", "udev", "ocf", "package", "etc",
    ];
    for directory in directories {
        let path = workspace::root().join("cluster").join(directory);
        for entry in fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let file = format!("cluster/{directory}/{name}");
            assert!(FILES.iter().any(|(from, ..)| *from == file), "{file}");
        }
    }
}

#[test]
fn what_is_executable_here_is_so_there() {
    use std::os::unix::fs::PermissionsExt;
    for (from, to, mode) in FILES {
        let metadata = fs::metadata(workspace::root().join(from)).unwrap();
        let is_program = metadata.permissions().mode() & 0o100 != 0;
        assert_eq!(is_program, mode & 0o100 != 0, "{to}");
    }
}

#[test]
fn the_description_has_the_version_of_the_workspace() {
    let manifest = fs::read(workspace::root().join("Cargo.toml")).unwrap();
    let version = version(&manifest).unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let control = control(&version, "amd64", "2.36");
    let expected = format!("Package: rbdd\nVersion: {version}\nArchitecture: amd64\n");
    assert!(control.starts_with(&expected), "{control}");
    let long = control
        .lines()
        .skip_while(|line| !line.starts_with("Description"));
    assert!(long.skip(1).all(|line| line.starts_with(' ')), "{control}");
}
