//! Reading forms: what a browser sends, and the points in time that people fill in.
//!
//! Knows fields of forms, not what becomes of a task.

use axum::extract::Request;

use super::super::{
    Http, Pairs, Problem,
    body::{self, MediaType},
};
use crate::task::{ExecTime, Millis, Refusal, WallMillis};

/// The fields of a form.
pub(super) async fn read<B>(request: Request, http: &Http<B>) -> Result<Pairs, Problem> {
    read_most(request, http, http.limits.max_body).await
}

/// The fields of a form of at most `limit` bytes.
pub(super) async fn read_most<B>(
    request: Request,
    http: &Http<B>,
    limit: usize,
) -> Result<Pairs, Problem> {
    MediaType::of(request.headers(), &[MediaType::Form])?;
    let bytes = body::read_most(request, http, limit).await?;
    Pairs::of_form(body::text(&bytes)?)
}

/// When, by the fields `when` (`now`, `in` or `at`), `in`, `exectime` and `offset`. The original's form has `exectime` only;
/// a form that says nothing means as soon as possible.
pub(super) fn when(form: &Pairs, wall: WallMillis) -> Result<ExecTime, Refusal> {
    match form.filled("when") {
        Some("now") => Ok(ExecTime::ASAP),
        Some("in") => {
            let text = form.filled("in").ok_or_else(|| {
                Refusal::invalid("in", "missing: in how long? Such as 90s, 10m, 2h30m or 1d")
            })?;
            let delay = Millis::parse(text).ok_or_else(|| {
                Refusal::invalid("in", "not a length of time: whole numbers with s, m, h or d, such as 90s, 10m, 2h30m or 1d")
            })?;
            ExecTime::after(wall, delay)
        }
        Some("at") => match form.filled("exectime") {
            None => Err(Refusal::invalid("exectime", "missing: at what time?")),
            Some(text) => exectime(text, offset(form)?),
        },
        None => form
            .filled("exectime")
            .map_or(Ok(ExecTime::ASAP), |text| exectime(text, offset(form)?)),
        Some(_) => Err(Refusal::invalid("when", "not one of now, in, at")),
    }
}

/// How many minutes the form's civil times are behind UTC, as JavaScript's `getTimezoneOffset` has it. The script fills it
/// in; without it times are in UTC.
fn offset(form: &Pairs) -> Result<i64, Refusal> {
    const DAY: i64 = 24 * 60;
    match form.filled("offset") {
        None => Ok(0),
        Some(text) => text
            .parse()
            .ok()
            .filter(|minutes: &i64| (-DAY..=DAY).contains(minutes))
            .ok_or_else(|| {
                Refusal::invalid("offset", "not a number of minutes from -1440 to 1440")
            }),
    }
}

/// Unix seconds, or what a browser's field for date and time sends, `offset` minutes behind UTC.
fn exectime(text: &str, offset: i64) -> Result<ExecTime, Refusal> {
    if let Ok(secs) = text.parse() {
        return ExecTime::new(secs);
    }
    let civil = ExecTime::from_civil(text)
        .or_else(|| ExecTime::from_civil(&format!("{text}:00")))
        .ok_or_else(|| {
            Refusal::invalid(
                "exectime",
                "not a number of Unix seconds, and not YYYY-MM-DDTHH:MM or YYYY-MM-DDTHH:MM:SS",
            )
        })?;
    ExecTime::new(civil.get() + offset * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: WallMillis = WallMillis(1_700_000_000_500);

    fn of(form: &str) -> Result<i64, String> {
        match when(&Pairs::parse(form).unwrap(), WALL) {
            Ok(time) => Ok(time.get()),
            Err(Refusal::Invalid { field, .. }) => Err(field),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_time_is_now_or_a_while_from_now_or_in_the_browsers_zone() {
        assert_eq!(of(""), Ok(0));
        assert_eq!(of("when=now&in=5m&exectime=2023-11-14T22:13"), Ok(0));
        assert_eq!(of("when=in&in=1m30s"), Ok(1_700_000_091));
        assert_eq!(
            of("when=at&exectime=2023-11-14T22:13&offset="),
            Ok(1_699_999_980)
        );
        // An hour ahead of UTC, as in Berlin in winter.
        assert_eq!(
            of("when=at&exectime=2023-11-14T23:13&offset=-60"),
            Ok(1_699_999_980)
        );
        assert_eq!(of("exectime=1700000000"), Ok(1_700_000_000));
    }

    #[test]
    fn a_time_that_is_wrong_names_its_field() {
        assert_eq!(of("when=soon"), Err("when".to_owned()));
        assert_eq!(of("when=in&in="), Err("in".to_owned()));
        assert_eq!(of("when=in&in=tomorrow"), Err("in".to_owned()));
        assert_eq!(of("when=at"), Err("exectime".to_owned()));
        assert_eq!(of("when=at&exectime=tomorrow"), Err("exectime".to_owned()));
        assert_eq!(
            of("when=at&exectime=2023-11-14T22:13&offset=9999"),
            Err("offset".to_owned())
        );
        // It has no positive counterpart.
        assert_eq!(
            of("exectime=2023-11-14T22:13&offset=-9223372036854775808"),
            Err("offset".to_owned())
        );
        assert_eq!(
            of("when=at&exectime=9999-12-31T23:59&offset=60"),
            Err("exectime".to_owned())
        );
    }
}
