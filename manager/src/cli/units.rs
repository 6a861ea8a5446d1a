//! Sizes and times as people write and read them.

/// Bytes from "4096", "64K", "512MiB", "4G".
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("size {text:?}: write bytes, or a number with K, M, G or T (1024-based)");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let power = match unit
        .to_ascii_lowercase()
        .trim_end_matches("ib")
        .trim_end_matches('b')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << power).ok_or_else(bad)
}

/// "4.0 GiB": three digits at most before the unit.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let step = (bytes.ilog2() / 10) as usize;
    let unit = 1u64 << (10 * step);
    let tenths = (u128::from(bytes) * 10 / u128::from(unit)) as u64;
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[step - 1])
}

/// "12.3 µs": three digits.
pub fn show_time(ns: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)];
    let Some((unit, size)) = UNITS.iter().find(|(_, size)| ns >= *size) else {
        return format!("{ns} ns");
    };
    let (whole, thousandths) = (ns / size, ns % size * 1000 / size);
    match whole {
        0..10 => format!("{whole}.{:02} {unit}", thousandths / 10),
        10..100 => format!("{whole}.{} {unit}", thousandths / 100),
        _ => format!("{whole} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65536),
            ("2MiB", 2 << 20),
            ("4g", 4 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "4X", "-1", "99999999999T", "1.5G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_shown_with_three_digits() {
        let shown = [0, 999, 1_000, 12_345, 123_456_789, 4_000_000_000].map(show_time);
        assert_eq!(
            shown,
            ["0 ns", "999 ns", "1.00 µs", "12.3 µs", "123 ms", "4.00 s"]
        );
    }

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        let shown = [0, 1023, 1024, 1536, 4 << 30, u64::MAX].map(show_size);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "4.0 GiB", "15.9 EiB"]
        );
    }
}
