//! The bytes of records, with nothing around them: what a journal's frame holds once its checksum is right. What is read is
//! written back to something that reads the same; what is not read is refused with a reason.

use workqueue::task::{decode_records, encode_record};

use crate::{
    corpus, image,
    mutate::Mutator,
    run::{Subject, Target, fuzz},
    text,
};

struct Records;

impl Subject for Records {
    /// The records of the journals in the corpus, by frame and all of them.
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = corpus::of("records");
        for journal in corpus::of("journal") {
            for (path, bytes) in image::read(&journal).files {
                seeds.extend(image::records(&path, &bytes));
            }
        }
        seeds
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        mutator.change(&mut bytes, pool, &[]);
        bytes
    }

    fn handle(&mut self, input: &[u8]) -> String {
        let records = match decode_records(input) {
            Ok(records) => records,
            Err(error) => {
                text::plain(&error.to_string());
                return error.to_string();
            }
        };
        let mut written = Vec::with_capacity(input.len());
        let mut kinds = String::new();
        for record in &records {
            encode_record(record, &mut written);
            // Its name, and which of its fields are there.
            let told = format!("{record:?}");
            kinds.extend(told.split(|letter: char| !letter.is_alphabetic()).next());
            kinds.extend(["+", &told.matches("Some").count().to_string(), " "]);
            if kinds.len() > 60 {
                kinds.truncate(60);
            }
        }
        // Not the same bytes for certain: a varint may have been written longer than need be.
        assert!(written.len() <= input.len(), "{records:?}");
        assert_eq!(decode_records(&written).as_ref(), Ok(&records));
        kinds
    }
}

#[test]
fn what_is_read_as_records_is_written_back() {
    let target = Target {
        name: "records",
        inputs: 25_000,
        // A record of 9 bytes is some 100 in memory, three times over while the list of them grows, and it is read twice here.
        per_byte: 128,
        besides: 32 << 10,
        longest: 16 << 10,
    };
    fuzz(&target, Records);
}
