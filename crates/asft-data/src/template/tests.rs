//! Rendering against transformers' goldens, and errors.

use serde_json::json;

use super::*;

fn render(source: &str, date: &str) -> Result<String, TemplateError> {
    let options = RenderOptions {
        date: Some(parse_date(date)?),
        variables: [("n".to_owned(), json!([1, 2.5, null, "x"]))].into(),
    };
    ChatTemplate::new(source, BTreeMap::new())?.render(&[Message::new("user", "hi")], false, &options)
}

#[test]
fn the_date_can_be_set() {
    let cases = [
        ("%d %b %Y", "05 Mar 2024"),
        ("%-d.%-m.%y %e %j %-j", "5.3.24  5 065 65"),
        ("%A %a %B %h %p %I:%M:%S %H %f", "Tuesday Tue March Mar AM 12:00:00 00 000000"),
        (
            "%F %T %D %x %X%z%Z%%%n%t|%c",
            "2024-03-05 00:00:00 03/05/24 03/05/24 00:00:00%\n\t|Tue Mar  5 00:00:00 2024",
        ),
    ];
    for (format, expected) in cases {
        let source = format!("{{{{ strftime_now('{format}') }}}}");
        assert_eq!(render(&source, "2024-03-05").unwrap(), expected, "{format}");
    }
    for text in ["2024-3-05", "2024-13-01", "2023-02-29", "today", "2024-03-05-1", ""] {
        assert!(matches!(parse_date(text), Err(TemplateError::Date { .. })), "{text}");
    }
}

#[test]
fn errors_carry_the_line_or_the_templates_words() {
    let cases = [
        ("a\n{% for %}", "does not compile, line 2"),
        ("a\n{{ messages[9].role }}", "fails at line 2"),
        ("{{ raise_exception('Only \"user\" here') }}", "refuses these messages: Only \"user\" here"),
        ("{{ strftime_now('%Q') }}", "unknown directive `Q`"),
        ("{{ strftime_now('%') }}", "unknown directive its end"),
        ("{{ none | nofilter }}", "nofilter"),
        ("{{ messages | tojson(colour=1) }}", "unknown keyword argument 'colour'"),
    ];
    for (source, message) in cases {
        let error = render(source, "2024-01-01").unwrap_err().to_string();
        assert!(error.contains(message), "{source}: {error}");
    }
}

#[test]
fn variables_and_generation_blocks_render() {
    let cases = [
        ("{{ n | tojson }}", r#"[1, 2.5, null, "x"]"#),
        ("a{% generation %}{{ n[0] }}{% endgeneration %}b", "a1b"),
        ("a {%- generation -%} {{ n[3] }} {%- endgeneration -%} b", "axb"),
        ("{{ '{% generation' }}", "{% generation"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source, "2024-01-01").unwrap(), expected);
    }
}

#[test]
fn choices_are_written_as_text() {
    for (text, choice) in [
        ("model", TemplateChoice::Model),
        ("none", TemplateChoice::None),
        ("chat.jinja", TemplateChoice::File("chat.jinja".into())),
    ] {
        assert_eq!(serde_json::from_value::<TemplateChoice>(json!(text)).unwrap(), choice);
        assert_eq!(serde_json::to_value(&choice).unwrap(), text);
        assert_eq!(text.parse(), Ok(choice));
    }
}
