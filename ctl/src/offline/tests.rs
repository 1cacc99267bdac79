//! Creating, wiping and showing metadata on files in a temporary directory.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rbd_protocol::control::{MetaDisk, ResourceConfig, ResourceOptions, VolumeConfig};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use tempfile::TempDir;

use super::ask::ask_on;
use super::{
    Access, Answer, Area, Creator, OfflineError, create, dump, losses, losses_of_wipe, wipe,
};

const MIB: u64 = 1 << 20;

fn disk(directory: &TempDir, name: &str, bytes: u64) -> PathBuf {
    let path = directory.path().join(name);
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn volume(number: u16, disk: &Path, meta_disk: MetaDisk) -> VolumeConfig {
    VolumeConfig {
        number: VolumeNumber(number),
        device: "/dev/drbd0".to_owned(),
        minor: Some(0),
        disk: Some(disk.display().to_string()),
        meta_disk,
        size_limit_bytes: None,
        exports: Vec::new(),
        kernel: rbd_protocol::control::KernelExport::None,
        resync: Vec::new(),
        on_disk_trouble: rbd_protocol::control::DiskTrouble::default(),
        resync_after: None,
    }
}

fn resource(volumes: Vec<VolumeConfig>) -> ResourceConfig {
    ResourceConfig {
        name: "r0".to_owned(),
        defined_at: "rbd.conf:1".to_owned(),
        config_path: "rbd.conf".to_owned(),
        node_name: "alpha".to_owned(),
        node_id: NodeId(0),
        listen: None,
        peers: Vec::new(),
        volumes,
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}

fn create_on(config: &ResourceConfig, index: usize) -> Result<Vec<String>, OfflineError> {
    let volume = &config.volumes[index];
    let area = Area::open(volume, Access::Write)?;
    let layout = area.layout(2, volume.size_limit_bytes)?;
    let creator = Creator {
        resource: config,
        volume: volume.number,
    };
    let lost = losses(&area, &layout, creator)?;
    create(&area, &layout, creator)?;
    Ok(lost)
}

fn dump_of(config: &ResourceConfig, index: usize) -> Result<String, OfflineError> {
    let volume = &config.volumes[index];
    dump(&Area::open(volume, Access::Read)?, config, volume)
}

fn external(path: &Path, index: Option<u32>) -> MetaDisk {
    MetaDisk::External {
        path: path.display().to_string(),
        index,
    }
}

#[test]
fn created_metadata_can_be_read_back_wherever_it_lies() {
    let directory = TempDir::new().unwrap();
    let data = [0, 1, 2, 3].map(|number| disk(&directory, &format!("data{number}"), 8 * MIB));
    let alone = disk(&directory, "alone", MIB);
    let shared = disk(&directory, "shared", 129 * MIB);
    let config = resource(vec![
        volume(0, &data[0], MetaDisk::Internal),
        volume(1, &data[1], external(&alone, None)),
        volume(2, &data[2], external(&shared, Some(0))),
        volume(3, &data[3], external(&shared, Some(1))),
    ]);
    for index in 0..4 {
        assert_eq!(create_on(&config, index).unwrap(), Vec::<String>::new());
    }
    for index in 0..4 {
        let text = dump_of(&config, index).unwrap();
        assert!(text.contains(&format!("\nvolume {index};\n")), "{text}");
        assert!(text.contains("\nmax-peers 2;\n"), "{text}");
    }
}

#[test]
fn only_the_metadata_area_of_the_disk_is_written() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("data");
    let content = vec![0xA5; usize::try_from(2 * MIB).unwrap()];
    std::fs::write(&path, &content).unwrap();
    let config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    let area = Area::open(&config.volumes[0], Access::Write).unwrap();
    let data_bytes = usize::try_from(area.layout(2, None).unwrap().data_bytes()).unwrap();
    drop(area);
    create_on(&config, 0).unwrap();
    let after = std::fs::read(&path).unwrap();
    assert_eq!(after.len(), content.len());
    assert_eq!(after[..data_bytes], content[..data_bytes]);
}

#[test]
fn metadata_already_there_is_named_with_its_owner() {
    let directory = TempDir::new().unwrap();
    let path = disk(&directory, "data", 8 * MIB);
    let mut config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    create_on(&config, 0).unwrap();
    let lost = create_on(&config, 0).unwrap();
    assert!(
        lost[0].starts_with("rbd metadata of this very volume: "),
        "{lost:?}"
    );
    config.name = "other".to_owned();
    let lost = create_on(&config, 0).unwrap();
    let expected = "rbd metadata of ANOTHER volume, r0/0 on node alpha: ";
    assert!(lost[0].starts_with(expected), "{lost:?}");
}

#[test]
fn a_file_system_that_fills_the_disk_is_named_with_what_it_must_be_shrunk_to() {
    let directory = TempDir::new().unwrap();
    let path = disk(&directory, "data", 8 * MIB);
    if !make_ext4(&path, None) {
        eprintln!("skipped: mkfs.ext4 is not installed");
        return;
    }
    let config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    let lost = create_on(&config, 0).unwrap();
    assert!(
        lost[0].starts_with("ext4 of 8 MiB (8388608 bytes): the last "),
        "{lost:?}"
    );
    assert!(
        lost[0].contains("unless it was shrunk to at most "),
        "{lost:?}"
    );
}

#[test]
fn a_file_system_that_leaves_room_is_said_to_stay_intact() {
    let directory = TempDir::new().unwrap();
    let path = disk(&directory, "data", 16 * MIB);
    if !make_ext4(&path, Some("8m")) {
        eprintln!("skipped: mkfs.ext4 is not installed");
        return;
    }
    let config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    let lost = create_on(&config, 0).unwrap();
    assert!(lost[0].contains("stays intact"), "{lost:?}");
    let checked = Command::new("fsck.ext4").args(["-fn"]).arg(&path).output();
    assert!(checked.unwrap().status.success());
}

fn make_ext4(path: &Path, size: Option<&str>) -> bool {
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096"])
        .arg(path)
        .args(size)
        .stderr(Stdio::null())
        .status();
    made.is_ok_and(|status| status.success())
}

#[test]
fn a_missing_file_is_not_created() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("data");
    let config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    let error = create_on(&config, 0).unwrap_err();
    assert!(matches!(error, OfflineError::Missing(_)), "{error}");
    assert_eq!(error.exit_code(), 20);
    assert!(!path.exists());
}

#[test]
fn a_directory_is_no_disk() {
    let directory = TempDir::new().unwrap();
    let config = resource(vec![volume(0, directory.path(), MetaDisk::Internal)]);
    let error = create_on(&config, 0).unwrap_err();
    assert!(matches!(error, OfflineError::NotADisk(_)), "{error}");
}

#[test]
fn a_disk_too_small_is_refused_with_both_sizes() {
    let directory = TempDir::new().unwrap();
    let path = disk(&directory, "data", 8192);
    let config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    let error = create_on(&config, 0).unwrap_err();
    assert_eq!(error.exit_code(), 10);
    assert!(error.to_string().contains("8192 bytes"), "{error}");
}

#[test]
fn a_metadata_device_too_small_is_named() {
    let directory = TempDir::new().unwrap();
    let data = disk(&directory, "data", 8 * MIB);
    let meta = disk(&directory, "meta", 4096);
    let config = resource(vec![volume(0, &data, external(&meta, None))]);
    let error = create_on(&config, 0).unwrap_err();
    assert!(
        error.to_string().starts_with(&meta.display().to_string()),
        "{error}"
    );
    let beyond = resource(vec![volume(0, &data, external(&meta, Some(1)))]);
    let error = create_on(&beyond, 0).unwrap_err();
    assert!(error.to_string().contains("index 1"), "{error}");
}

#[test]
fn external_metadata_on_the_backing_disk_itself_is_refused() {
    let directory = TempDir::new().unwrap();
    let data = disk(&directory, "data", 8 * MIB);
    let link = directory.path().join("link");
    std::fs::hard_link(&data, &link).unwrap();
    for path in [&data, &link] {
        let config = resource(vec![volume(0, &data, external(path, Some(0)))]);
        let error = create_on(&config, 0).unwrap_err();
        assert!(matches!(error, OfflineError::SameDisk(_)), "{error}");
    }
}

#[test]
fn a_disk_somebody_has_locked_is_refused_with_his_name() {
    let directory = TempDir::new().unwrap();
    let path = disk(&directory, "data", 8 * MIB);
    let config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    let held = Area::open(&config.volumes[0], Access::Write).unwrap();
    let error = create_on(&config, 0).unwrap_err();
    assert!(matches!(error, OfflineError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use by "), "{error}");
    drop(held);
    create_on(&config, 0).unwrap();
}

#[test]
fn two_indices_of_one_metadata_device_can_be_worked_on_at_once() {
    let directory = TempDir::new().unwrap();
    let data = [0, 1].map(|number| disk(&directory, &format!("data{number}"), 8 * MIB));
    let shared = disk(&directory, "shared", 256 * MIB);
    let config = resource(vec![
        volume(0, &data[0], external(&shared, Some(0))),
        volume(1, &data[1], external(&shared, Some(1))),
    ]);
    let held = Area::open(&config.volumes[0], Access::Write).unwrap();
    create_on(&config, 1).unwrap();
    drop(held);
}

#[test]
fn wiped_metadata_is_gone_and_cannot_be_wiped_again() {
    let directory = TempDir::new().unwrap();
    let path = disk(&directory, "data", 8 * MIB);
    let config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    create_on(&config, 0).unwrap();
    let area = Area::open(&config.volumes[0], Access::Write).unwrap();
    assert_eq!(losses_of_wipe(&area).unwrap().len(), 1);
    wipe(&area).unwrap();
    assert!(losses_of_wipe(&area).is_err());
    drop(area);
    assert!(dump_of(&config, 0).is_err());
}

#[test]
fn metadata_of_another_resource_is_not_dumped_as_this_one() {
    let directory = TempDir::new().unwrap();
    let path = disk(&directory, "data", 8 * MIB);
    let mut config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    create_on(&config, 0).unwrap();
    config.name = "r1".to_owned();
    let error = dump_of(&config, 0).unwrap_err();
    assert!(matches!(error, OfflineError::Unusable { .. }), "{error}");
}

#[test]
fn a_name_too_long_for_the_metadata_is_refused_before_anything_is_written() {
    let directory = TempDir::new().unwrap();
    let path = disk(&directory, "data", 8 * MIB);
    let mut config = resource(vec![volume(0, &path, MetaDisk::Internal)]);
    config.name = "r".repeat(200);
    let error = create_on(&config, 0).unwrap_err();
    assert!(matches!(error, OfflineError::Name { .. }), "{error}");
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn only_the_whole_word_yes_is_a_yes() {
    let answer = |typed: &str| {
        let mut output = Vec::new();
        let answer = ask_on(&mut typed.as_bytes(), &mut output, "Overwrite?");
        let asked = String::from_utf8(output).unwrap();
        assert_eq!(asked, "Overwrite?\n[need to type 'yes' to confirm] ");
        answer
    };
    assert_eq!(answer("yes\n"), Answer::Yes);
    for other in ["", "\n", "y\n", "YES\n", "yes please\n", "no\n"] {
        assert_eq!(answer(other), Answer::No, "{other:?}");
    }
}

#[test]
fn a_question_nobody_can_see_is_not_answered() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let answer = ask_on(&mut "yes\n".as_bytes(), &mut Closed, "Overwrite?");
    assert_eq!(answer, Answer::Nobody);
}
