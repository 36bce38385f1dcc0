//! [`Temper`]: what a seed makes of a world: its settings, how crowded its disk is, and what goes wrong how often.

use super::chance::Chance;
use crate::{
    engine::{Durability, Settings},
    queue::Limits,
    task::Millis,
};

#[derive(Debug, Clone)]
pub(super) struct Temper {
    pub(super) settings: Settings,
    /// Bytes that the disk has.
    pub(super) capacity: Option<u64>,
    /// Of a hundred lives, in how many an operation fails.
    pub(super) troubled: u64,
    /// Whether files are dropped and removed by hand.
    pub(super) by_hand: bool,
    /// Whether a byte rots now and then.
    pub(super) rots: bool,
    /// Of a hundred ends of a life, how many are power cuts.
    pub(super) power_cuts: u64,
    /// How eager clients, time, and each hand are.
    pub(super) eager: [u64; 8],
    /// The largest payload, in bytes.
    pub(super) largest: u64,
    /// Whether most payloads are large: then segments fill.
    pub(super) heavy: bool,
    pub(super) turns: u64,
    pub(super) lives: u64,
}

/// So many bytes of payloads in worlds that limit them: met by some ten of their tasks.
const MAX_SPOOL: u64 = 20_000;

impl Temper {
    /// A world where nothing goes wrong by itself, and files are written at once.
    pub(super) fn calm() -> Self {
        Self {
            settings: Settings {
                spool_delay: Millis(0),
                segment_bytes: 64 << 10,
                ..Settings::default()
            },
            capacity: None,
            troubled: 0,
            by_hand: false,
            rots: false,
            power_cuts: 0,
            eager: [1; 8],
            largest: 20,
            heavy: false,
            turns: 0,
            lives: 0,
        }
    }

    pub(super) fn new(chance: &mut Chance) -> Self {
        let settings = Settings {
            durability: Durability::Sync,
            spool_delay: Millis(chance.pick(&[0, 100, 100, 5000, 60_000])),
            payload_cache: chance.pick(&[0, 0, 200, 1 << 20]),
            checkpoint_bytes: chance.pick(&[512, 4096, 4096, 32 << 10, 1 << 20]),
            segment_bytes: 64 << 10,
            max_pending_files: chance.pick(&[3, 20, 100_000, 100_000]),
            retain_done: Millis(chance.pick(&[0, 0, 0, 60_000])),
            max_waiting: 20_000,
            max_waiting_bytes: u64::MAX,
            max_workers: 10_000,
            max_spool: None,
            limits: Limits {
                max_queues: 12,
                ..Limits::default()
            },
        };
        let full = chance.percent(25);
        let mut temper = Self {
            settings,
            capacity: full.then(|| 140_000 + chance.below(200_000)),
            troubled: chance.pick(&[0, 0, 40, 90]),
            by_hand: chance.percent(40),
            rots: chance.percent(25),
            power_cuts: chance.pick(&[0, 50, 80, 100]),
            eager: std::array::from_fn(|_| chance.pick(&[1, 3, 10])),
            largest: if full {
                chance.pick(&[20, 2000, 12_000, 12_000])
            } else {
                chance.pick(&[20, 20, 2000, 12_000])
            },
            heavy: chance.percent(25),
            turns: 40 + chance.below(160),
            lives: 2 + chance.below(4),
        };
        if temper.turns.is_multiple_of(4) {
            // Fewer than there are names: queues give their places to one another.
            temper.settings.limits.max_queues = 2;
        }
        if temper.largest == 2000 {
            temper.settings.max_spool = Some(MAX_SPOOL);
        }
        if chance.one_in(8) {
            // Without syncs only the page cache is promised, which a killed program leaves whole.
            temper.settings.durability = Durability::None;
            temper.power_cuts = 0;
            temper.troubled = 0;
        }
        temper
    }
}
