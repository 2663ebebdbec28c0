//! Where to start reading: `earliest`, `latest`, an offset, `-N` for the last N records, or `@` followed by a time.
//!
//! A time is in milliseconds since 1970 (`@1700000000000`), or a date as in RFC 3339, of which the end may be left out:
//! `@2024-01-31`, `@2024-01-31T12:30`, `@2024-01-31T12:30:05.250+01:00`. Without a zone it is UTC.

use kavka::StartPosition;

/// What `--from` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    At(StartPosition),
    /// This many offsets before the end of each partition.
    Last(i64),
}

/// Parses the value of `--from`.
pub(crate) fn parse(text: &str) -> Result<Start, String> {
    if let Some(count) = text.strip_prefix('-').filter(|count| is_number(count)) {
        return count.parse().map(Start::Last).map_err(|_| format!("{text} is beyond every offset"));
    }
    position(text).map(Start::At)
}

fn position(text: &str) -> Result<StartPosition, String> {
    match text {
        "earliest" => return Ok(StartPosition::Earliest),
        "latest" => return Ok(StartPosition::Latest),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        let milliseconds = if is_number(time) { time.parse().ok() } else { date(time) };
        return milliseconds.filter(|milliseconds| *milliseconds >= 0).map(StartPosition::Timestamp).ok_or_else(|| {
            "a time is milliseconds since 1970 or a date: @1700000000000, @2024-01-31, @2024-01-31T12:30:00Z".to_owned()
        });
    }
    let offset = if is_number(text) { text.parse().ok() } else { None };
    offset
        .map(StartPosition::Offset)
        .ok_or_else(|| "give earliest, latest, an offset, -N for the last N, or @ and a time".to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a date, with or without a time of day, into milliseconds since 1970.
fn date(text: &str) -> Option<i64> {
    let (day, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, ""));
    let [year, month, day] = numbers(day, '-')?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=days_in_month).contains(&day) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * 86_400_000;
    if time.is_empty() { Some(midnight) } else { midnight.checked_add(time_of_day(time)?) }
}

/// Parses a time of day, with or without a zone, into milliseconds since midnight UTC.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset_minutes) = match text.find(['Z', 'z', '+', '-']) {
        None => (text, 0),
        Some(at) => {
            let (clock, zone) = text.split_at(at);
            (clock, zone_minutes(zone)?)
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = match clock.matches(':').count() {
        1 => {
            let [hour, minute] = numbers(clock, ':')?;
            [hour, minute, 0]
        }
        _ => numbers(clock, ':')?,
    };
    if hour > 23 || minute > 59 || second > 59 || !is_number(fraction) {
        return None;
    }
    let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + thousandths)
}

/// Parses a zone: how many minutes it is ahead of UTC.
fn zone_minutes(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let [hours, minutes] = numbers(digits, ':')?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

/// Parses exactly `N` numbers of at most four digits.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let number = |part: &str| if is_number(part) && part.len() <= 4 { part.parse().ok() } else { None };
    let numbers: Option<Vec<i64>> = text.split(separator).map(number).collect();
    numbers?.try_into().ok()
}

/// Counts years from the first of March, so that the leap day is the last day of a year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(text: &str) -> i64 {
        match parse(text).unwrap() {
            Start::At(StartPosition::Timestamp(milliseconds)) => milliseconds,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn a_bare_number_is_an_offset() {
        assert_eq!(parse("42").unwrap(), Start::At(StartPosition::Offset(42)));
    }

    #[test]
    fn a_number_behind_a_minus_counts_from_the_end() {
        assert_eq!(parse("-10").unwrap(), Start::Last(10));
        assert_eq!(parse("-0").unwrap(), Start::Last(0));
    }

    #[test]
    fn a_number_behind_an_at_is_a_time_in_milliseconds() {
        assert_eq!(milliseconds("@1700000000000"), 1_700_000_000_000);
    }

    #[test]
    fn a_date_is_a_time_in_utc_unless_it_names_a_zone() {
        assert_eq!(milliseconds("@1970-01-01"), 0);
        assert_eq!(milliseconds("@2023-11-14T22:13:20Z"), 1_700_000_000_000);
        assert_eq!(milliseconds("@2023-11-14 22:13:20"), 1_700_000_000_000);
        assert_eq!(milliseconds("@2023-11-14T23:13:20+01:00"), 1_700_000_000_000);
        assert_eq!(milliseconds("@2023-11-14T17:43:20.25-04:30"), 1_700_000_000_250);
        assert_eq!(milliseconds("@2024-02-29T00:00"), 1_709_164_800_000);
    }

    #[test]
    fn what_is_no_place_to_begin_is_refused() {
        for text in [
            "",
            "first",
            "-",
            "--1",
            "-99999999999999999999",
            "+1",
            "@",
            "@-1",
            "@2023-02-29",
            "@2023-13-01",
            "@2023-1",
            "@1969-12-31",
            "@2023-11-14T24:00",
            "@2023-11-14T12",
            "@2023-11-14T12:00:00+1",
            "@99999999999999999999",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
