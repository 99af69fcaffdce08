//! Values as people write them.

use std::time::Duration;

/// `600ms`, `10s`, `5m`, `1h`; between `min_ms` and `max_ms` milliseconds.
pub(crate) fn duration(text: &str, min_ms: u64, max_ms: u64) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a duration has a unit: ms, s, m or h".to_owned()),
    };
    let millis = number.checked_mul(factor).ok_or_else(|| "it is too long".to_owned())?;
    if millis < min_ms || millis > max_ms {
        return Err(format!("it must be between {min_ms}ms and {max_ms}ms"));
    }
    Ok(Duration::from_millis(millis))
}

/// `64KiB`, `256MiB`, `4GiB`; between `min` and `max` bytes.
pub(crate) fn size(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err("a size has a unit: B, KiB, MiB or GiB".to_owned()),
    };
    let bytes = number.checked_mul(1 << shift).ok_or_else(|| "it is too large".to_owned())?;
    if bytes < min || bytes > max {
        return Err(format!("it must be between {min} and {max} bytes"));
    }
    Ok(bytes)
}

/// A number between `min` and `max`.
pub(crate) fn count(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let number: usize = text.trim().parse().map_err(|_| "it is not a number".to_owned())?;
    if number < min || number > max {
        return Err(format!("it must be {min} to {max}"));
    }
    Ok(number)
}

/// `true` or `false`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| "it is neither true nor false".to_owned())
}

/// `host:port,host:port`.
pub(crate) fn addresses(text: &str) -> Result<Vec<String>, String> {
    let mut addresses = Vec::new();
    for address in text.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        let port = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return Err(format!("{address:?} is not host:port"));
        }
        addresses.push(address.to_owned());
    }
    Ok(addresses)
}

/// `zone=a,host=b`, in order of key.
pub(crate) fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut labels = Vec::new();
    for label in text.split(',').map(str::trim).filter(|label| !label.is_empty()) {
        let (key, value) = label.split_once('=').ok_or_else(|| format!("{label:?} is not key=value"))?;
        labels.push((key.to_owned(), value.to_owned()));
    }
    labels.sort();
    Ok(labels)
}

/// A value of a TOML file as one would write it on the command line.
pub(crate) fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(boolean) => Some(boolean.to_string()),
        toml::Value::Array(values) => {
            let texts: Option<Vec<_>> = values.iter().map(text_of).collect();
            Some(texts?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// How many single characters must change to make one text of the other.
pub(crate) fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut costs: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.chars().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = row + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = costs[column + 1];
            costs[column + 1] = replaced.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[right.len()]
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| "it does not begin with a number".to_owned())?;
    Ok((number, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_units_and_stay_in_range() {
        assert_eq!(duration("600ms", 0, 1_000), Ok(Duration::from_millis(600)));
        assert_eq!(duration(" 2 m", 0, 1_000_000), Ok(Duration::from_secs(120)));
        for wrong in ["600", "ms", "-5s", "1.5s", "5d", "", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(duration(wrong, 0, u64::MAX).is_err(), "{wrong}");
        }
        assert!(duration("2s", 0, 1_000).is_err());
        assert_eq!(size("64MiB", 0, 1 << 40), Ok(64 << 20));
        assert!(size("64MB", 0, 1 << 40).is_err());
        assert!(size("64MiB", 0, 1 << 20).is_err());
    }

    #[test]
    fn addresses_have_host_and_port() {
        assert_eq!(addresses("a:1, [::1]:2"), Ok(vec!["a:1".to_owned(), "[::1]:2".to_owned()]));
        for wrong in ["a", ":1", "a:", "a:b", "a:99999"] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn distance_counts_changes() {
        assert_eq!(distance("drian_timeout", "drain_timeout"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("join", "join"), 0);
    }
}
