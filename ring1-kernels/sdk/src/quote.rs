//! Bytes that somebody else wrote, made fit for a message or a document.

/// Longest quotation in characters.
const QUOTE_MAX: usize = 40;

/// `text` for an error message: control characters escaped, at most 40 characters and then `...`.
pub fn quote(text: &str) -> String {
    let mut out: String = text.chars().take(QUOTE_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        out.push_str("...");
    }
    out
}

/// `text` for XML content or a double-quoted attribute. Characters that XML 1.0 forbids become U+FFFD.
pub fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_printable() {
        assert_eq!(quote("a\r\u{1b}[31m"), "a\\r\\u{1b}[31m");
        assert_eq!(quote(&"é".repeat(40)), "é".repeat(40));
        assert_eq!(quote(&"x".repeat(41)), format!("{}...", "x".repeat(40)));
    }

    #[test]
    fn xml_text_cannot_become_markup() {
        assert_eq!(xml("</text><script a=\"'&\">"), "&lt;/text&gt;&lt;script a=&quot;&#39;&amp;&quot;&gt;");
        assert_eq!(xml("a\u{0}b\nc"), "a\u{fffd}b c");
    }
}
