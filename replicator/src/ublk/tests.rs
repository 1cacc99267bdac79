//! What is told to the kernel, byte by byte. The numbers are those of `linux/ublk_cmd.h`.

use super::abi::{
    ControlCommand, Descriptor, DeviceInfo, Kind, Numbering, Order, Parameters, QueueCommand,
    STATE_QUIESCED,
};

#[test]
fn orders_are_numbered_as_the_header_numbers_them() {
    let ioctl = |order: Order| order.number(Numbering::Ioctl);
    assert_eq!(ioctl(Order::DeviceInfo), 0x8020_7502);
    assert_eq!(ioctl(Order::Add), 0xc020_7504);
    assert_eq!(ioctl(Order::Delete), 0xc020_7505);
    assert_eq!(ioctl(Order::Start), 0xc020_7506);
    assert_eq!(ioctl(Order::Stop), 0xc020_7507);
    assert_eq!(ioctl(Order::SetParameters), 0xc020_7508);
    assert_eq!(ioctl(Order::StartRecovery), 0xc020_7510);
    assert_eq!(ioctl(Order::EndRecovery), 0xc020_7511);
    assert_eq!(ioctl(Order::Features), 0x8020_7513);
    assert_eq!(ioctl(Order::DeleteSoon), 0x8020_7514);
    assert_eq!(ioctl(Order::UpdateSize), 0xc020_7515);
    assert_eq!(Order::Add.number(Numbering::Plain), 4);
}

#[test]
fn requests_are_fetched_by_the_headers_numbers() {
    assert_eq!(Numbering::Ioctl.fetch(), 0xc010_7520);
    assert_eq!(Numbering::Ioctl.commit_and_fetch(), 0xc010_7521);
    assert_eq!(Numbering::Plain.fetch(), 0x20);
    assert_eq!(Numbering::Plain.commit_and_fetch(), 0x21);
}

#[test]
fn an_order_is_laid_out_as_the_header_lays_it_out() {
    let command = ControlCommand {
        device: 0x0403_0201,
        address: 0x1817_1615_1413_1211,
        length: 0x0807,
        data: 0x2827_2625_2423_2221,
    };
    let mut expected = [0; 80];
    expected[..4].copy_from_slice(&0x0403_0201_u32.to_ne_bytes());
    expected[4..6].copy_from_slice(&[0xff, 0xff]);
    expected[6..8].copy_from_slice(&0x0807_u16.to_ne_bytes());
    expected[8..16].copy_from_slice(&0x1817_1615_1413_1211_u64.to_ne_bytes());
    expected[16..24].copy_from_slice(&0x2827_2625_2423_2221_u64.to_ne_bytes());
    assert_eq!(command.encode(), expected);
}

#[test]
fn a_description_comes_back_as_it_was_told() {
    let info = DeviceInfo {
        queues: 1,
        depth: 128,
        state: STATE_QUIESCED,
        payload_bytes: 512 << 10,
        device: 7,
        server: 4711,
        flags: 0x58,
        owner: 0x0123_4567_89ab_cdef,
    };
    let bytes = info.encode();
    assert_eq!(bytes[0..2], 1_u16.to_ne_bytes());
    assert_eq!(bytes[2..4], 128_u16.to_ne_bytes());
    assert_eq!(bytes[4..6], 2_u16.to_ne_bytes());
    assert_eq!(bytes[8..12], (512_u32 << 10).to_ne_bytes());
    assert_eq!(bytes[12..16], 7_u32.to_ne_bytes());
    assert_eq!(bytes[16..20], 4711_i32.to_ne_bytes());
    assert_eq!(bytes[24..32], 0x58_u64.to_ne_bytes());
    assert_eq!(bytes[32..40], 0x0123_4567_89ab_cdef_u64.to_ne_bytes());
    assert_eq!(bytes[40..], [0; 24]);
    assert_eq!(DeviceInfo::decode(&bytes), info);
}

#[test]
fn a_device_tells_its_size_its_blocks_its_cache_and_that_it_discards() {
    let parameters = Parameters {
        size_bytes: 3 << 30,
        block_bytes: 512,
        payload_bytes: 512 << 10,
    };
    let bytes = parameters.encode();
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 60, "length");
    assert_eq!(word(4), 3, "basic and discard");
    assert_eq!(word(8), 1 << 2 | 1 << 3, "volatile cache, FUA");
    assert_eq!(bytes[12..16], [9, 12, 12, 12], "block sizes");
    assert_eq!(word(16), 1024, "sectors of a request");
    assert_eq!(word(20), 0, "no chunks");
    assert_eq!(bytes[24..32], (6_u64 << 20).to_ne_bytes(), "sectors");
    assert_eq!(bytes[32..40], [0; 8], "no boundary");
    assert_eq!(word(40), 0, "discards begin anywhere");
    assert_eq!(word(44), 4096, "discards of pages");
    assert_eq!(word(48), 1 << 17, "sectors of a discard");
    assert_eq!(word(52), 1 << 17, "sectors of a zeroing");
    assert_eq!(bytes[56..60], [1_u16.to_ne_bytes(), [0, 0]].concat());
}

#[test]
fn large_blocks_are_told_as_such() {
    let parameters = Parameters {
        size_bytes: 1 << 30,
        block_bytes: 4096,
        payload_bytes: 512 << 10,
    };
    assert_eq!(parameters.encode()[12..16], [12, 12, 12, 12]);
}

#[test]
fn a_request_is_read_as_the_kernel_writes_it() {
    let descriptor = |word: u32| {
        let mut bytes = [0xee; Descriptor::BYTES];
        bytes[..4].copy_from_slice(&word.to_ne_bytes());
        bytes[4..8].copy_from_slice(&8_u32.to_ne_bytes());
        bytes[8..16].copy_from_slice(&100_u64.to_ne_bytes());
        Descriptor::decode(&bytes)
    };
    let fua = 1 << 13;
    let keep = 1 << 15;
    assert_eq!(descriptor(0).kind, Kind::Read);
    assert_eq!(descriptor(0).offset, 51_200);
    assert_eq!(descriptor(0).length, 4096);
    assert_eq!(descriptor(1).kind, Kind::Write { fua: false });
    assert_eq!(descriptor(1 | fua).kind, Kind::Write { fua: true });
    assert_eq!(descriptor(2).kind, Kind::Flush);
    assert_eq!(descriptor(3 | fua).kind, Kind::Discard { fua: true });
    let zeroes = |fua, keep| Kind::WriteZeroes { fua, keep };
    assert_eq!(descriptor(5).kind, zeroes(false, false));
    assert_eq!(descriptor(5 | keep).kind, zeroes(false, true));
    assert_eq!(descriptor(5 | fua).kind, zeroes(true, false));
    assert_eq!(descriptor(15).kind, Kind::Unknown(15));
    let metadata = 1 << 11;
    assert_eq!(descriptor(1 | metadata).kind, Kind::Write { fua: false });
}

#[test]
fn a_queue_command_is_laid_out_as_the_header_lays_it_out() {
    let command = QueueCommand {
        queue: 0x0201,
        tag: 0x0403,
        result: -5,
        address: 0x1817_1615_1413_1211,
    };
    let mut expected = Vec::new();
    expected.extend(0x0201_u16.to_ne_bytes());
    expected.extend(0x0403_u16.to_ne_bytes());
    expected.extend((-5_i32).to_ne_bytes());
    expected.extend(0x1817_1615_1413_1211_u64.to_ne_bytes());
    assert_eq!(command.encode().to_vec(), expected);
}
