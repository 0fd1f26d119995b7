//! Who attends to whom in a packed stream.

use std::ops::Range;

use asft_data::Segment;

/// A run of queries that see all of `prefix` and, causally, themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Stream range seen whole; empty where a sequence starts.
    pub prefix: Range<usize>,
    /// Stream range of the queries, which attend to each other causally.
    pub own: Range<usize>,
}

/// The spans of a stream, in stream order, without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionLayout {
    spans: Vec<Span>,
}

impl AttentionLayout {
    /// Pairs as `[prompt | chosen | rejected]`: the chosen answer goes on where the prompt ends, the
    /// rejected one sees the prompt and itself, never the chosen one.
    pub fn of_pairs(segments: &[Segment]) -> Self {
        let spans = segments.iter().flat_map(|segment| {
            let prompt = segment.prompt();
            let preferred =
                Span { prefix: prompt.start..prompt.start, own: prompt.start..segment.chosen().end };
            let dispreferred = Span { prefix: prompt, own: segment.rejected() };
            [preferred, dispreferred]
        });
        Self::new(spans.filter(|span| !span.own.is_empty()).collect())
    }

    /// A layout of `spans`, which must cover the stream in order and look back only.
    pub fn new(spans: Vec<Span>) -> Self {
        let mut end = 0;
        for span in &spans {
            assert_eq!(span.own.start, end, "attention spans must follow each other");
            assert!(span.prefix.end <= span.own.start, "a prefix must lie before its span");
            end = span.own.end;
        }
        Self { spans }
    }

    /// The spans in stream order.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Length of the stream.
    pub fn tokens(&self) -> usize {
        self.spans.last().map_or(0, |span| span.own.end)
    }

    /// Visible (query, key) pairs of one head, the unit in which attention's arithmetic is counted.
    pub fn visible_pairs(&self) -> usize {
        let pairs =
            |span: &Span| span.own.len() * span.prefix.len() + span.own.len() * (span.own.len() + 1) / 2;
        self.spans.iter().map(pairs).sum()
    }
}
