//! What was probably meant by a name that is not there.

/// How alike two names must be, from 0 to 1: a letter wrong, missing or swapped in a short name, two in a longer one.
const ALIKE: f64 = 0.8;

/// The one of `known` that is most like `name`, if one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter(|one| *one != name)
        .map(|one| (strsim::jaro_winkler(name, one), one))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        let known = ["default", "emails", "reports"];
        assert_eq!(nearest("emial", known), Some("emails"));
        assert_eq!(nearest("defualt", known), Some("default"));
        assert_eq!(nearest("images", known), None);
        assert_eq!(nearest("emails", known), None);
    }
}
