//! A report that becomes a self-contained HTML page or a Markdown file.

use maud::{DOCTYPE, PreEscaped, html};

use crate::printable;

/// Headings, texts, tables and pictures in order.
#[derive(Clone, Debug)]
pub struct Page {
    /// Title of the whole.
    pub title: String,
    /// What follows it.
    pub blocks: Vec<Block>,
}

/// A part of a [`Page`].
#[derive(Clone, Debug)]
pub enum Block {
    /// A section's heading.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// Paragraphs of a list.
    List(Vec<String>),
    /// A table; the first cell of a row names it.
    Table {
        /// Names of the columns.
        header: Vec<String>,
        /// Cells, as many as columns.
        rows: Vec<Vec<String>>,
    },
    /// A picture.
    Figure {
        /// Its file is NAME.svg beside a Markdown file.
        name: String,
        /// What it shows.
        caption: String,
        /// The picture itself.
        svg: String,
    },
    /// Commands or settings, as they are.
    Code(String),
}

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #d8dee4; padding-bottom: .2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: right; padding: .25rem .8rem; border-bottom: 1px solid #d8dee4; } td { white-space: nowrap; } th { vertical-align: bottom; max-width: 8rem; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; border: 1px solid #d8dee4; border-radius: 6px; } figcaption { color: #57606a; font-size: .92rem; }
pre { background: #f6f8fa; padding: 1rem; border-radius: 6px; overflow-x: auto; font-size: .85rem; white-space: pre-wrap; }
";

impl Page {
    /// One page that needs no other file and no network; control characters are replaced in it, see [`printable()`].
    #[must_use]
    pub fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (self.title) }
                    @for block in &self.blocks {
                        @match block {
                            Block::Heading(text) => h2 { (text) },
                            Block::Text(text) => p { (text) },
                            Block::List(items) => ul { @for item in items { li { (item) } } },
                            Block::Table { header, rows } => div.scroll {
                                table {
                                    thead { tr { @for cell in header { th { (cell) } } } }
                                    tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
                                }
                            },
                            Block::Figure { caption, svg, .. } => figure {
                                img src=(data_uri(svg)) alt=(caption);
                                figcaption { (caption) }
                            },
                            Block::Code(text) => pre { (text) },
                        }
                    }
                }
            }
        };
        printable(&page.into_string()).into_owned()
    }

    /// The same as Markdown, with pictures as files beside it.
    #[must_use]
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = format!("# {}\n", self.title);
        for block in &self.blocks {
            text.push('\n');
            text += &match block {
                Block::Heading(heading) => format!("## {heading}\n"),
                Block::Text(paragraph) => format!("{paragraph}\n"),
                Block::List(items) => items.iter().map(|item| format!("- {item}\n")).collect(),
                Block::Table { header, rows } => {
                    let rule = format!("|---|{}\n", "---:|".repeat(header.len().saturating_sub(1)));
                    let rows: String = rows.iter().map(|cells| row(cells)).collect();
                    row(header) + &rule + &rows
                }
                Block::Figure { name, caption, .. } => format!("![{caption}]({name}.svg)\n\n{caption}\n"),
                Block::Code(code) => format!("```\n{}\n```\n", code.trim_end()),
            };
        }
        text
    }

    /// Pictures with their names.
    pub fn figures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Figure { name, svg, .. } => Some((name.as_str(), svg.as_str())),
            _ => None,
        })
    }
}

/// A picture as its own address. In the page itself the ids of several pictures would clash.
fn data_uri(svg: &str) -> String {
    let mut uri = "data:image/svg+xml,".to_owned();
    for letter in svg.chars() {
        match letter {
            '%' | '#' | '"' | '<' | '>' | '&' | '\n' => uri += &format!("%{:02X}", u32::from(letter)),
            letter => uri.push(letter),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_two_forms() {
        let page = Page {
            title: "A < B".to_owned(),
            blocks: vec![
                Block::Heading("Result".to_owned()),
                Block::Table {
                    header: vec!["name".to_owned(), "x".to_owned()],
                    rows: vec![vec!["a|b".to_owned(), "1".to_owned()]],
                },
                Block::Figure {
                    name: "curve".to_owned(),
                    caption: "By step".to_owned(),
                    svg: "<svg/>".to_owned(),
                },
                Block::Code("asft compare <file>".to_owned()),
                Block::Code("\u{1b}[31m\nred".to_owned()),
            ],
        };
        let html = page.html();
        assert!(html.contains("<h1>A &lt; B</h1>") && html.contains("<td>a|b</td>"), "{html}");
        assert!(html.contains("␛[31m\nred</pre>"), "{html}");
        assert!(
            html.contains("data:image/svg+xml,%3Csvg/%3E") && html.contains("asft compare &lt;file&gt;"),
            "{html}"
        );
        let text = "# A < B\n\n## Result\n\n| name | x |\n|---|---:|\n| a\\|b | 1 |\n\n![By step](curve.svg)\n\nBy step\n\n```\nasft compare <file>\n```\n\n```\n\u{1b}[31m\nred\n```\n";
        assert_eq!(page.markdown(), text);
        assert_eq!(page.figures().collect::<Vec<_>>(), [("curve", "<svg/>")]);
    }
}
