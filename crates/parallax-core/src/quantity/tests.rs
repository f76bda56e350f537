use proptest::prelude::*;

use super::*;

#[test]
fn cpu_is_read_as_people_write_it() {
    for (text, millis) in [
        ("500m", 500),
        ("1", 1000),
        ("1.5", 1500),
        ("0.25", 250),
        ("2.0000", 2000),
        ("0", 0),
        ("0.001", 1),
    ] {
        assert_eq!(text.parse(), Ok(CpuMillis::new(millis)), "{text}");
    }
}

#[test]
fn memory_is_read_as_people_write_it() {
    for (text, bytes) in [
        ("256Mi", 256 << 20),
        ("1G", 1_000_000_000),
        ("1Gi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("512", 512),
        ("64k", 64_000),
        ("64K", 64_000),
        ("2Ti", 2 << 40),
    ] {
        assert_eq!(text.parse(), Ok(MemoryBytes::new(bytes)), "{text}");
    }
}

#[test]
fn what_is_no_amount_is_refused_with_its_reason() {
    let cpu = |text: &str| text.parse::<CpuMillis>().map(CpuMillis::get);
    let memory = |text: &str| text.parse::<MemoryBytes>().map(MemoryBytes::get);
    for bad in [
        "", "m", "-1", "1.", ".5", "1e3", "0x10", "1,5", "½", "500 m",
    ] {
        assert_eq!(cpu(bad), Err(QuantityError::Cpu(bad.into())), "{bad}");
    }
    for bad in ["", "Mi", "-1Mi", "1.Gi", "1MB", "1mi", "lots", "1 Gi"] {
        assert_eq!(memory(bad), Err(QuantityError::Memory(bad.into())), "{bad}");
    }
    assert_eq!(
        cpu("0.0005"),
        Err(QuantityError::TooFine("0.0005".into(), "1m"))
    );
    assert_eq!(
        memory("0.3Ki"),
        Err(QuantityError::TooFine("0.3Ki".into(), "one byte"))
    );
    assert_eq!(
        memory("99999999999Ti"),
        Err(QuantityError::TooLarge("99999999999Ti".into()))
    );
}

#[test]
fn memory_is_rounded_for_people_and_never_up() {
    let rounded = |bytes: u64| MemoryBytes::new(bytes).rounded();
    assert_eq!(rounded(24_683_656 << 10), "23.5Gi");
    assert_eq!(rounded(256 << 20), "256Mi");
    assert_eq!(rounded((1 << 30) - 1), "1023.9Mi");
    assert_eq!(rounded(0), "0");
    assert_eq!(rounded(1023), "1023");
    assert_eq!(rounded(u64::MAX), "16777215.9Ti");
}

proptest! {
    #[test]
    fn every_amount_survives_being_printed_and_read(n: u64) {
        prop_assert_eq!(CpuMillis::new(n).to_string().parse(), Ok(CpuMillis::new(n)));
        prop_assert_eq!(MemoryBytes::new(n).to_string().parse(), Ok(MemoryBytes::new(n)));
        let json = serde_json::to_string(&MemoryBytes::new(n)).expect("text serialises");
        prop_assert_eq!(serde_json::from_str::<MemoryBytes>(&json).expect("its own output"), MemoryBytes::new(n));
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC{0,60}") {
        // Only that it returns matters here.
        let _ = (text.parse::<CpuMillis>(), text.parse::<MemoryBytes>());
    }
}
