//! How long a client waits: what takes long is answered, with how far it has come, while somebody listens.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// How long a client waits for an answer to be of use to it, `longest` at the most: three quarters of the time that its request
/// names.
pub(super) fn time_of(metadata: &MetadataMap, longest: Duration) -> Duration {
    let named = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout_from);
    named.map_or(longest, |time| longest.min(time / 4 * 3))
}

/// The value of gRPC's header: up to eight digits and a unit.
fn timeout_from(text: &str) -> Option<Duration> {
    let (at, unit) = text.char_indices().next_back()?;
    let digits = &text[..at];
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3_600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn time(text: &str) -> Duration {
        let mut metadata = MetadataMap::new();
        if let Ok(value) = text.parse() {
            metadata.insert("grpc-timeout", value);
        }
        time_of(&metadata, LONGEST)
    }

    #[test]
    fn a_client_is_answered_while_it_waits() {
        assert_eq!(time_of(&MetadataMap::new(), LONGEST), LONGEST);
        let cases = [("3S", 2_250), ("400m", 300), ("2999999u", 2_249), ("99999999n", 74), ("4M", 60_000)];
        for (text, millis) in cases {
            assert_eq!(time(text).as_millis(), millis, "{text}");
        }
        for nonsense in ["", "S", "3", "3X", "-3S", "+3S", "123456789S", "3.5S", "3ü"] {
            assert_eq!(time(nonsense), LONGEST, "{nonsense}");
        }
    }
}
