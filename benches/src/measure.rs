//! Ratios of what was measured in turn.

/// The middle value.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Two things measured in turn, A B A B.
#[derive(Debug, Clone, Default)]
pub struct Pair {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Pair {
    /// Before the first turn.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ours: Vec::new(),
            theirs: Vec::new(),
        }
    }

    /// One turn.
    pub fn add(&mut self, ours: f64, theirs: f64) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }

    /// The middle of the turns' ratios, ours to theirs.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let ratios: Vec<f64> = self
            .ours
            .iter()
            .zip(&self.theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        median(&ratios)
    }

    /// The middle of ours.
    #[must_use]
    pub fn ours(&self) -> f64 {
        median(&self.ours)
    }

    /// The middle of theirs.
    #[must_use]
    pub fn theirs(&self) -> f64 {
        median(&self.theirs)
    }

    /// The ratios' lowest and highest.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let ratios = self.ours.iter().zip(&self.theirs).map(|(a, b)| a / b);
        ratios.fold((f64::INFINITY, 0.0), |(low, high), ratio| {
            (ratio.min(low), ratio.max(high))
        })
    }
}
