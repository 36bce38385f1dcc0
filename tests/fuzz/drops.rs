//! Dropped files: a name and a content. An input is the name, a line's end, and the content.
//!
//! What is taken as a task is journalled, written to a file, and read again from both: it stays the same task.

use std::sync::Arc;

use workqueue::task::{
    FileName, NewTask, PayloadLimits, QueueName, Record, Submitted, TaskFile, TaskId, WallMillis,
    decode_records, encode_record, read_dropped, read_dropped_text,
};

use crate::{
    corpus, json,
    mutate::Mutator,
    run::{Subject, Target, fuzz},
    text,
};

const WALL: WallMillis = WallMillis(1_800_000_000_000);
const LIMITS: PayloadLimits = PayloadLimits::bytes(8 << 10);

struct Drops;

impl Subject for Drops {
    fn seeds(&self) -> Vec<Vec<u8>> {
        corpus::of("drops")
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        if mutator.chance.one_in(6) {
            mutator.change(&mut bytes, pool, &json::WORDS);
            return bytes;
        }
        let mut content = bytes.split_off(at);
        if mutator.chance.one_in(2) {
            json::change(mutator, &mut content);
        } else {
            mutator.change(&mut content, pool, &json::WORDS);
        }
        bytes.extend(content);
        bytes
    }

    fn handle(&mut self, input: &[u8]) -> String {
        let at = input.iter().position(|byte| *byte == b'\n');
        let (name, content) = input.split_at(at.unwrap_or(input.len()));
        let content = content.get(1..).unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        let folder = QueueName::parse("folder").expect("a name");
        let canonical = FileName::parse(&name);
        let read = if name.ends_with(".txt") {
            read_dropped_text(content, &folder, LIMITS)
        } else {
            read_dropped(content, &folder, canonical, WALL, LIMITS)
        };
        match read {
            Ok(task) => {
                comes_back(task);
                format!("taken {}", canonical.is_some())
            }
            Err(refusal) => {
                text::plain(&refusal.to_string());
                refusal.to_string()
            }
        }
    }
}

fn comes_back(task: NewTask) {
    assert!(task.payload.len() <= LIMITS.max_payload);
    let id = task.id.unwrap_or(TaskId::from_bytes([7; 16]));
    let file = TaskFile {
        payload: task.payload.clone(),
        priority: task.priority,
        exectime: task.exectime,
        id,
        options: task.options.clone(),
        attempts: None,
        last_error: None,
        result: None,
        completed_at: None,
    };
    let name = FileName {
        exectime: task.exectime,
        priority: task.priority,
        id,
    };
    let bytes = file.to_json().expect("a task has a file");
    let task = NewTask {
        id: Some(id),
        ..task
    };
    let again = read_dropped(&bytes, &task.queue, Some(name), WALL, LIMITS);
    assert_eq!(
        again.as_ref(),
        Ok(&task),
        "{}",
        String::from_utf8_lossy(&bytes)
    );

    let record = Record::Submitted(Arc::new(Submitted {
        id,
        made_here: false,
        queue: task.queue,
        priority: task.priority,
        exectime: task.exectime,
        options: task.options,
        payload: task.payload,
        source: None,
        past: None,
    }));
    let mut bytes = Vec::new();
    encode_record(&record, &mut bytes);
    assert_eq!(decode_records(&bytes), Ok(vec![record]));
}

#[test]
fn a_dropped_file_is_a_task_that_comes_back_or_is_refused_with_a_reason() {
    let target = Target {
        name: "drops",
        inputs: 25_000,
        per_byte: 24,
        besides: 32 << 10,
        longest: 16 << 10,
    };
    fuzz(&target, Drops);
}
