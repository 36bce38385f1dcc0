//! Segments and checkpoints against literal bytes, laid out as the tables in the docs say, with a checksum computed here:
//! what was written years ago must be read.

use std::{path::Path, sync::Arc};

use super::*;
use crate::task::{Record, TaskId, Tick};

/// CRC32C bit by bit: polynomial 0x1EDC6F41, reflected.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

fn segment() -> Vec<u8> {
    let mut rest = Vec::new();
    rest.extend([1, 0, 0, 0, 0, 0, 0, 0]); // its number
    rest.extend([7; 16]); // boot id
    rest.extend([0x0a, 0, 0, 0, 0, 0, 0, 0]); // boot clock
    rest.extend([1, 0, 0, 0, 0, 0, 0, 0]); // first seq
    rest.extend([0; 8]);
    let mut bytes = b"wqjournl".to_vec();
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(crc(&rest));
    bytes.extend(rest);
    bytes
}

fn frame() -> Vec<u8> {
    let len = [17, 0, 0, 0];
    let mut rest = Vec::new();
    rest.extend([1, 0, 0, 0, 0, 0, 0, 0]); // seq
    rest.extend([0; 8]); // durable before it
    rest.extend([1, 0, 0, 0]); // units
    rest.extend([0; 4]);
    rest.push(5); // released
    rest.extend([9; 16]);
    let summed = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &len, &rest].concat();
    [&len[..], &crc(&summed), &rest].concat()
}

fn checkpoint_bytes() -> Vec<u8> {
    let mut rest = Vec::new();
    rest.extend([4, 0, 0, 0, 0, 0, 0, 0]); // cut
    rest.extend([7; 16]); // boot id
    rest.extend([0x0a, 0, 0, 0, 0, 0, 0, 0]); // boot clock
    rest.extend([1, 0, 0, 0, 0, 0, 0, 0]); // there is a last id
    rest.extend([3; 16]);
    rest.extend([3, 0, 0, 0, 0, 0, 0, 0]); // bytes of records
    rest.extend([11, 0, 1]); // all is paused
    let mut bytes = b"wqchckpt".to_vec();
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(crc(&rest));
    bytes.extend(rest);
    bytes
}

fn boot() -> Boot {
    Boot {
        id: [7; 16],
        tick: Tick(10),
    }
}

fn released() -> Record {
    Record::Released {
        id: TaskId::from_bytes([9; 16]),
    }
}

fn told(disk: &MemoryDisk) -> Vec<Found> {
    let mut told = Vec::new();
    recover(disk, &boot(), &mut |found| told.push(found)).unwrap();
    told.retain(|found| !matches!(found, Found::Progress { .. }));
    told
}

#[test]
fn the_checksum_is_that_of_rfc_3720() {
    assert_eq!(crc(b"123456789"), 0xe306_9283_u32.to_le_bytes());
}

#[test]
fn a_segment_is_written_and_read_as_the_docs_say() {
    let literal = [segment(), frame()].concat();
    let disk = Arc::new(MemoryDisk::new());
    let start = recover(&*disk, &boot(), &mut |_| {}).unwrap();
    let mut ledger = Ledger::new(&start, LedgerSettings::default());
    let mut journal = Journal::new(Arc::clone(&disk), start.boot);
    let new = ledger.wants_segment().unwrap();
    let bytes = journal.make_segment(&new).unwrap();
    ledger.segment_made(new.number, bytes);
    ledger.append(&[released()]);
    journal.write(&ledger.seal().unwrap()).unwrap();
    let path = Path::new("journal/00000000000000000001.wal");
    assert_eq!(&disk.bytes(path)[..literal.len()], literal);

    let disk = MemoryDisk::new();
    disk.set_bytes(path, literal);
    assert_eq!(told(&disk), [Found::Tail(Seq(1), released())]);
}

#[test]
fn a_checkpoint_is_written_and_read_as_the_docs_say() {
    let disk = Arc::new(MemoryDisk::new());
    let paused = Record::Paused {
        queue: None,
        on: true,
    };
    let records = Pieces::from_iter([&paused]);
    let cp = Checkpoint {
        cut: Seq(4),
        last_id: Some(TaskId::from_bytes([3; 16])),
        records,
        delete: Vec::new(),
    };
    Journal::new(Arc::clone(&disk), boot())
        .checkpoint(&cp)
        .unwrap();
    let path = Path::new("journal/00000000000000000004.checkpoint");
    assert_eq!(disk.bytes(path), checkpoint_bytes());

    let disk = MemoryDisk::new();
    disk.set_bytes(path, checkpoint_bytes());
    let id = TaskId::from_bytes([3; 16]);
    assert_eq!(told(&disk), [Found::LastId(id), Found::Checkpoint(paused)]);
}
