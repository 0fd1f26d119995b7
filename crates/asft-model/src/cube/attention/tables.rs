//! Who works on which part of a stream, as numbers that kernels read.

use std::{cmp::Reverse, ops::Range};

use crate::{AttentionLayout, Span};

/// Numbers of a row of [`query_tiles`] and of the visits in [`KeyTiles`].
pub const STRETCH: usize = 5;
/// Numbers of a key tile.
pub const KEY_TILE: usize = 4;

/// Some queries of a span and what they see: `[first, end, prefix start, prefix length, own start]`, all but the
/// length places in the stream.
type Stretch = [u32; STRETCH];

fn stretch(queries: Range<usize>, span: &Span) -> Stretch {
    [queries.start, queries.end, span.prefix.start, span.prefix.len(), span.own.start]
        .map(|number| u32::try_from(number).expect("a stream has fewer than 2³² tokens"))
}

/// All queries by at most `size` of a span at once, those that see most keys first, so that none is late.
pub fn query_tiles(layout: &AttentionLayout, size: usize) -> Vec<Stretch> {
    let mut tiles: Vec<Stretch> = layout
        .spans()
        .iter()
        .flat_map(|span| {
            let starts = span.own.clone().step_by(size);
            starts.map(move |start| stretch(start..span.own.end.min(start + size), span))
        })
        .collect();
    tiles.sort_by_key(|[_, end, _, prefix, own]| Reverse(prefix + end - own));
    tiles
}

/// All keys by `size` at once, whatever their spans, and who sees them.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyTiles {
    /// `[first key, end, first visit, end]`.
    pub tiles: Vec<[u32; KEY_TILE]>,
    /// Queries that see keys of a tile, the tiles' one behind the other. Not every query sees all the keys.
    pub visits: Vec<Stretch>,
}

impl KeyTiles {
    /// The tiles of a stream and their visits.
    pub fn new(layout: &AttentionLayout, size: usize) -> Self {
        let tokens = layout.tokens();
        let mut by_tile: Vec<Vec<Stretch>> = vec![vec![]; tokens.div_ceil(size)];
        for span in layout.spans() {
            let (prefix, own) = (touched(&span.prefix, size), touched(&span.own, size));
            for tile in prefix.clone() {
                by_tile[tile].push(stretch(span.own.clone(), span));
            }
            for tile in own.filter(|tile| !prefix.contains(tile)) {
                // Queries before the tile see none of it.
                let first = span.own.start.max(tile * size);
                by_tile[tile].push(stretch(first..span.own.end, span));
            }
        }
        let (mut tiles, mut visits) = (vec![], vec![]);
        for (tile, queries) in by_tile.into_iter().enumerate() {
            let keys = [tile * size, tokens.min((tile + 1) * size)];
            let first = visits.len();
            visits.extend(queries);
            tiles.push([keys[0], keys[1], first, visits.len()].map(|number| number as u32));
        }
        Self { tiles, visits }
    }
}

/// Tiles that hold some of `range`.
fn touched(range: &Range<usize>, size: usize) -> Range<usize> {
    match range.is_empty() {
        true => 0..0,
        false => range.start / size..range.end.div_ceil(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> AttentionLayout {
        let span = |prefix, own| Span { prefix, own };
        // A pair whose answers lie behind a prompt of 3, and a span that looks back into the middle of both.
        AttentionLayout::new(vec![span(0..0, 0..7), span(0..3, 7..12), span(5..9, 12..13)])
    }

    /// Whether the query sees the key, by the layout itself.
    fn sees(layout: &AttentionLayout, query: usize, key: usize) -> bool {
        let span = layout.spans().iter().find(|span| span.own.contains(&query)).unwrap();
        span.prefix.contains(&key) || (span.own.start..=query).contains(&key)
    }

    #[test]
    fn queries_are_in_one_tile_each_and_the_longest_come_first() {
        let tiles = query_tiles(&layout(), 4);
        assert_eq!(
            tiles,
            [[11, 12, 0, 3, 7], [4, 7, 0, 0, 0], [7, 11, 0, 3, 7], [12, 13, 5, 4, 12], [0, 4, 0, 0, 0]]
        );
    }

    #[test]
    fn every_key_is_visited_by_those_that_see_it() {
        for size in [1, 2, 4, 16] {
            let layout = layout();
            let KeyTiles { tiles, visits } = KeyTiles::new(&layout, size);
            let mut end = 0;
            for [first, last, from, to] in tiles {
                assert_eq!(first, end);
                end = last;
                for key in first..last {
                    let visitors: Vec<u32> = visits[from as usize..to as usize]
                        .iter()
                        .flat_map(|visit| visit[0]..visit[1])
                        .collect();
                    for query in 0..layout.tokens() {
                        let visited = visitors.iter().filter(|visitor| **visitor == query as u32).count();
                        let seen = sees(&layout, query, key as usize);
                        assert!(visited == 1 || (visited == 0 && !seen), "{key} by {query}: {visited}");
                    }
                }
            }
            assert_eq!(end as usize, layout.tokens());
        }
    }
}
