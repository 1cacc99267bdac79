//! What is in the package, without building it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::files::FILES;
use super::{SCRIPTS, control, header, rpm, version};
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
    let directories = ["systemd", "handlers", "fence", "udev", "ocf", "etc"];
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
fn each_package_has_every_script_of_its_kind() {
    let names = |directory: &str| {
        let entries = fs::read_dir(workspace::root().join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap())
    };
    for name in names("cluster/package") {
        let file = format!("cluster/package/{name}");
        assert!(SCRIPTS.iter().any(|(from, _)| *from == file), "{file}");
    }
    let manifest = fs::read_to_string(workspace::root().join("replicator/Cargo.toml")).unwrap();
    let kinds = [
        ("post", "post_install"),
        ("preun", "pre_uninstall"),
        ("postun", "post_uninstall"),
    ];
    for name in names("cluster/rpm") {
        let kind = kinds.iter().find(|(script, _)| *script == name);
        let (_, kind) = kind.expect("a name that says when it is run");
        let line = format!("{kind}_script = \"../cluster/rpm/{name}\"\n");
        assert!(manifest.contains(&line), "{line}");
    }
}

#[test]
fn an_rpm_has_zsh_completions_where_its_distributions_look() {
    let completions = "/usr/share/zsh/vendor-completions/_rbdadm";
    let there = "/usr/share/zsh/site-functions/_rbdadm";
    assert_eq!(rpm::place_of(completions), there);
    assert_eq!(rpm::place_of("/usr/sbin/rbdd"), "/usr/sbin/rbdd");
}

/// One tag of an RPM's header: its number, its values and how many they are.
type Tag<'a> = (u32, &'a [u8], u32);

fn header_of(tags: &[Tag<'_>]) -> Vec<u8> {
    let mut index = Vec::new();
    let mut store = Vec::new();
    for (tag, values, count) in tags {
        let place = u32::try_from(store.len()).unwrap();
        for word in [*tag, 0, place, *count] {
            index.extend(word.to_be_bytes());
        }
        store.extend_from_slice(values);
    }
    let mut header = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    header.extend(u32::try_from(tags.len()).unwrap().to_be_bytes());
    header.extend(u32::try_from(store.len()).unwrap().to_be_bytes());
    header.extend(index);
    header.extend(store);
    header
}

#[test]
fn the_files_of_an_rpm_are_read_with_their_modes() {
    let mut package = vec![0; 96];
    package.extend(header_of(&[(1000, b"abc", 3)]));
    // The signatures have 35 bytes.
    package.extend([0; 5]);
    let tags: [Tag<'_>; 4] = [
        (1030, &[0x81, 0xed, 0x81, 0xa0], 2),
        (1116, &[0, 0, 0, 1, 0, 0, 0, 0], 2),
        (1117, b"rbdd\0rbd.conf\0", 2),
        (1118, b"/etc/\0/usr/sbin/\0", 2),
    ];
    package.extend(header_of(&tags));
    let files = header::files(&package).unwrap();
    let expected = [("/etc/rbd.conf", 0o640), ("/usr/sbin/rbdd", 0o755)];
    let expected = expected.map(|(name, mode)| (name.to_owned(), mode));
    assert_eq!(files, BTreeMap::from(expected));
    for length in [0, 96, 120, 140, package.len() - 1] {
        assert!(header::files(&package[..length]).is_err(), "{length}");
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
