//! What was asked for and what came back: a phase counts only when nothing was lost, doubled or made up.

use std::{cell::RefCell, rc::Rc};

use anyhow::bail;

/// Bytes of a payload, quotes of JSON not counted.
pub const PAYLOAD: usize = 100;

/// The account of one phase, shared by its connections.
#[derive(Debug, Clone, Default)]
pub struct Account(Rc<RefCell<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    /// How many tasks may still be submitted.
    left: u64,
    /// How many payloads were made.
    made: u64,
    submitted: Vec<u128>,
    claimed: Vec<u128>,
    completed: u64,
}

impl Account {
    /// For a phase that submits up to `left` tasks.
    #[must_use]
    pub fn of(left: u64) -> Self {
        let account = Self::default();
        account.0.borrow_mut().left = left;
        account
    }

    /// Allows `more` submits.
    pub fn allow(&self, more: u64) {
        self.0.borrow_mut().left += more;
    }

    /// Takes one submit from those allowed; gives the number of its payload.
    #[must_use]
    pub fn take(&self) -> Option<u64> {
        let mut sums = self.0.borrow_mut();
        sums.left = sums.left.checked_sub(1)?;
        sums.made += 1;
        Some(sums.made)
    }

    /// A task was taken under this id.
    pub fn submitted(&self, id: u128) {
        self.0.borrow_mut().submitted.push(id);
    }

    /// A task was handed out.
    pub fn claimed(&self, id: u128) {
        self.0.borrow_mut().claimed.push(id);
    }

    /// So many tasks were completed.
    pub fn completed(&self, count: u64) {
        self.0.borrow_mut().completed += count;
    }

    /// How many tasks were taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.0.borrow().submitted.len() as u64
    }

    /// Holds submitted ids against each other: `count` of them, none twice.
    pub fn check_submitted(&self, count: u64) -> anyhow::Result<()> {
        let mut sums = self.0.borrow_mut();
        unique("submitted", &mut sums.submitted)?;
        if sums.submitted.len() as u64 != count {
            bail!("{} tasks submitted, not {count}", sums.submitted.len());
        }
        Ok(())
    }

    /// Holds claims against submits: each task came out once, and was completed.
    pub fn check_drained(&self) -> anyhow::Result<()> {
        let mut sums = self.0.borrow_mut();
        let sums = &mut *sums;
        unique("submitted", &mut sums.submitted)?;
        unique("claimed", &mut sums.claimed)?;
        if sums.submitted != sums.claimed {
            bail!(
                "{} tasks submitted, {} claimed: not the same ones",
                sums.submitted.len(),
                sums.claimed.len()
            );
        }
        check_count("completed", sums.completed, sums.claimed.len() as u64)
    }

    /// Holds claims against each other, where the tasks were submitted by other means.
    pub fn check_claimed(&self, count: u64) -> anyhow::Result<()> {
        let mut sums = self.0.borrow_mut();
        unique("claimed", &mut sums.claimed)?;
        check_count("claimed", sums.claimed.len() as u64, count)?;
        check_count("completed", sums.completed, count)
    }
}

fn check_count(what: &str, found: u64, wanted: u64) -> anyhow::Result<()> {
    if found != wanted {
        bail!("{found} tasks {what}, not {wanted}");
    }
    Ok(())
}

fn unique(what: &str, ids: &mut [u128]) -> anyhow::Result<()> {
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => bail!("{:032x} was {what} twice", pair[0]),
        None => Ok(()),
    }
}

/// Writes the payload with this number: [`PAYLOAD`] plain characters, none like another.
pub fn write_payload(number: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"task ");
    for shift in (0..16).rev() {
        out.push(b"0123456789abcdef"[(number >> (shift * 4)) as usize & 15]);
    }
    out.resize(start + PAYLOAD, b'.');
}

/// The number of a payload.
pub fn read_payload(text: &[u8]) -> anyhow::Result<u128> {
    let digits = text
        .get(5..21)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    match digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()) {
        Some(number) if text.len() == PAYLOAD => Ok(number),
        _ => bail!("not the payload of a bench: {}", text.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(submitted: &[u128], claimed: &[u128], completed: u64) -> Account {
        let account = Account::default();
        for id in submitted {
            account.submitted(*id);
        }
        for id in claimed {
            account.claimed(*id);
        }
        account.completed(completed);
        account
    }

    #[test]
    fn what_was_lost_doubled_or_made_up_is_found() {
        assert!(account(&[1, 2, 3], &[3, 1, 2], 3).check_drained().is_ok());
        assert!(account(&[1, 2, 3], &[3, 1], 2).check_drained().is_err());
        assert!(account(&[1, 2], &[2, 2], 2).check_drained().is_err());
        assert!(account(&[1, 1], &[1, 1], 2).check_drained().is_err());
        assert!(account(&[1, 2], &[1, 3], 2).check_drained().is_err());
        assert!(account(&[1, 2], &[1, 2], 1).check_drained().is_err());
        assert!(account(&[1, 2], &[], 0).check_submitted(3).is_err());
        assert!(account(&[], &[1, 2], 2).check_claimed(2).is_ok());
        assert!(account(&[], &[1, 2], 2).check_claimed(3).is_err());
    }

    #[test]
    fn a_payload_tells_its_number() {
        let mut text = Vec::new();
        write_payload(0xabc_def0, &mut text);
        assert_eq!(text.len(), PAYLOAD);
        assert_eq!(read_payload(&text).unwrap(), 0xabc_def0);
        assert!(read_payload(&text[1..]).is_err());
    }
}
