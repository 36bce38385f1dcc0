//! Sizes in bytes as people write them.

/// Reads `4096`, `64KiB`, `1MiB`, `2GiB`, `3TiB`, `1PiB`, and `kB`, `MB`, `GB`, `TB`, `PB` for powers of ten; `B` alone is bytes.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "PB" => 1_000_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The shortest exact form: `1MiB`, `1000`.
pub(crate) fn show(bytes: u64) -> String {
    let units = [
        (1 << 50, "PiB"),
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    match units
        .iter()
        .find(|(factor, _)| bytes >= *factor && bytes.is_multiple_of(*factor))
    {
        Some((factor, unit)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("12B", 12),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("2 GiB", 2 << 30),
            ("5MB", 5_000_000),
            ("3TiB", 3 << 40),
            ("1PiB", 1 << 50),
            ("2PB", 2_000_000_000_000_000),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1mib", "1MiBs", "99999999999GiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_would_be_written() {
        for text in [
            "0", "1000", "64KiB", "1MiB", "3GiB", "1025KiB", "1TiB", "1PiB",
        ] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}
