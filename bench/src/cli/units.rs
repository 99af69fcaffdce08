//! Numbers as people write them: `20k`, `1M`, `4KiB`, `60s`.

use std::time::Duration;

/// A count: `500`, `20k`, `1.5M`, `1G`.
pub(super) fn count(text: &str) -> Result<u64, String> {
    scaled(text, &[("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)])
}

/// Bytes: `256`, `4KiB`, `1MiB`, `1kB`.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1024.0), ("MiB", 1024.0 * 1024.0), ("kB", 1e3), ("MB", 1e6), ("B", 1.0), ("", 1.0)];
    scaled(text, &units).and_then(|number| usize::try_from(number).map_err(|error| error.to_string()))
}

/// A time: `500ms`, `60s`, `5m`, `1h`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1e3), ("us", 1.0), ("s", 1e6), ("m", 60e6), ("h", 3_600e6), ("", 1e6)];
    scaled(text, &units).map(Duration::from_micros)
}

/// A rate: a count, perhaps with `/s` behind it.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let number = count(text.strip_suffix("/s").unwrap_or(text))?;
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
    if number == 0 { Err("a rate must be one a second at least".to_owned()) } else { Ok(number as f64) }
}

/// A fraction: `0.001`, or `0.1%`.
pub(super) fn fraction(text: &str) -> Result<f64, String> {
    let (number, divisor) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let number: f64 = number.parse().map_err(|error| format!("{text:?}: {error}"))?;
    let fraction = number / divisor;
    if (0.0..=1.0).contains(&fraction) { Ok(fraction) } else { Err(format!("{text} is not between 0 and 1")) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is checked to be in range")]
fn scaled(text: &str, units: &[(&str, f64)]) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let names: Vec<_> = units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
    let (_, factor) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("{unit:?} is not a unit; known are {}", names.join(", ")))?;
    let number: f64 = digits.parse().map_err(|error| format!("{text:?}: {error}"))?;
    let scaled = (number * factor).round();
    if (0.0..1e15).contains(&scaled) { Ok(scaled as u64) } else { Err(format!("{text} is out of range")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(count("20k"), Ok(20_000));
        assert_eq!(count("1.5M"), Ok(1_500_000));
        assert_eq!(bytes("256"), Ok(256));
        assert_eq!(bytes("4KiB"), Ok(4_096));
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(rate("20k/s"), Ok(20_000.0));
        assert_eq!(fraction("0.1%"), Ok(0.001));
        for text in ["", "k", "1x", "-1", "1e99", "NaN"] {
            count(text).unwrap_err();
        }
        rate("0").unwrap_err();
        fraction("2").unwrap_err();
    }
}
