//! The addresses in a header field such as `To:`, without the names around them.

use crate::envelope::Address;

/// The addresses of a list, in order: `Tom <tom@example.net>, "Doe, J." <j@example.org>, a@b.example (home)`. What is no
/// address is passed over. Groups are looked into.
pub(super) fn addresses(value: &[u8]) -> Vec<Address> {
    let text = String::from_utf8_lossy(value);
    let mut found = Vec::new();
    // What stands outside of angle brackets, and what stands in them.
    let (mut plain, mut angle) = (String::new(), None::<String>);
    let (mut quoted, mut in_angle, mut comment) = (false, false, 0_usize);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if comment > 0 {
            match c {
                '(' => comment += 1,
                ')' => comment -= 1,
                '\\' => _ = chars.next(),
                _ => {}
            }
            continue;
        }
        match c {
            '(' if !quoted => comment = 1,
            ',' | ';' if !quoted && !in_angle => take(&mut plain, &mut angle, &mut found),
            // The name of a group goes.
            ':' if !quoted && !in_angle && !plain.contains('@') => plain.clear(),
            '<' if !quoted => (in_angle, angle) = (true, Some(String::new())),
            '>' if !quoted => in_angle = false,
            _ => {
                quoted ^= c == '"';
                let into = if in_angle { angle.get_or_insert_default() } else { &mut plain };
                into.push(c);
                if c == '\\' {
                    into.extend(chars.next());
                }
            }
        }
    }
    take(&mut plain, &mut angle, &mut found);
    found
}

fn take(plain: &mut String, angle: &mut Option<String>, found: &mut Vec<Address>) {
    let text = angle.take().unwrap_or_else(|| std::mem::take(plain));
    plain.clear();
    if let Ok(address) = text.trim().parse::<Address>()
        && !found.contains(&address)
    {
        found.push(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_comments_quotes_and_groups_are_no_addresses() {
        let of = |text: &str| addresses(text.as_bytes()).iter().map(Address::to_string).collect::<Vec<_>>();
        assert_eq!(of("Tom <tom@example.net>, a@b.example"), ["tom@example.net", "a@b.example"]);
        assert_eq!(of(r#""Doe, J. <x@y>" <j@example.org> (at (his) home, z@z)"#), ["j@example.org"]);
        assert_eq!(
            of("friends: a@b.example, Bo <b@b.example>;, c@b.example"),
            ["a@b.example", "b@b.example", "c@b.example"]
        );
        assert_eq!(of(r#""john smith"@example.com"#), ["\"john smith\"@example.com"]);
        assert_eq!(of("undisclosed recipients:;"), [""; 0]);
        assert_eq!(of("<>"), [""; 0]);
        assert_eq!(of("a@b.example, <a@b.example>"), ["a@b.example"]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes: Vec<u8>) {
            addresses(&bytes);
        }
    }
}
