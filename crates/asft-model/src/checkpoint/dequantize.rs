//! GGUF's block formats to f32. Layouts are ggml's: blocks of 32 values with a half-precision scale.

use asft_data::gguf::GgmlType;
use half::{bf16, f16};

/// Values of a whole tensor, whose `bytes` have the length that its type and shape imply.
pub fn dequantize(kind: GgmlType, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let half = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
    Ok(match kind {
        GgmlType::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        GgmlType::F16 => bytes.chunks_exact(2).map(half).collect(),
        GgmlType::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        GgmlType::Q8_0 => blocks(bytes, 34, |block| {
            let scale = half(block);
            std::array::from_fn(|i| scale * f32::from(block[2 + i] as i8))
        }),
        GgmlType::Q4_0 => blocks(bytes, 18, |block| {
            let scale = half(block);
            nibbles(&block[2..]).map(|n| scale * (f32::from(n) - 8.0))
        }),
        GgmlType::Q4_1 => blocks(bytes, 20, |block| {
            let (scale, minimum) = (half(block), half(&block[2..]));
            nibbles(&block[4..]).map(|n| scale * f32::from(n) + minimum)
        }),
        GgmlType::Q5_0 => blocks(bytes, 22, |block| {
            let scale = half(block);
            five_bits(&block[2..]).map(|n| scale * (f32::from(n) - 16.0))
        }),
        GgmlType::Q5_1 => blocks(bytes, 24, |block| {
            let (scale, minimum) = (half(block), half(&block[2..]));
            five_bits(&block[4..]).map(|n| scale * f32::from(n) + minimum)
        }),
        other => {
            return Err(format!(
                "has type {}, which is not supported\nhint: convert the model to F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0",
                other.name()
            ));
        }
    })
}

fn blocks(bytes: &[u8], size: usize, values: impl Fn(&[u8]) -> [f32; 32]) -> Vec<f32> {
    bytes.chunks_exact(size).flat_map(values).collect()
}

/// 16 bytes: low halves are values 0–15, high halves 16–31.
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// 4 bytes of fifth bits, value 0 in the lowest, then 16 bytes as [`nibbles`] reads them.
fn five_bits(bytes: &[u8]) -> [u8; 32] {
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let low = nibbles(&bytes[4..]);
    std::array::from_fn(|i| low[i] | ((high >> i & 1) as u8) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values follow ggml's definitions by hand: scale 0.5, minimum -1.
    #[test]
    fn blocks_of_every_type() {
        let (scale, minimum) = (f16::from_f32(0.5).to_le_bytes(), f16::from_f32(-1.0).to_le_bytes());
        let packed: Vec<u8> = (0..16u8).map(|i| i | (15 - i) << 4).collect();
        let nibble = |i: usize| if i < 16 { i as f32 } else { (31 - i) as f32 };
        let fifth = 0x8000_0001_u32;
        let high = |i: usize| if i == 0 || i == 31 { 16.0 } else { 0.0 };
        let signed: Vec<u8> = (0..32).map(|i| (i as i8 - 16) as u8).collect();
        type Case<'a> = (GgmlType, Vec<&'a [u8]>, &'a dyn Fn(usize) -> f32);
        let fifth = fifth.to_le_bytes();
        let cases: [Case; 5] = [
            (GgmlType::Q8_0, vec![&scale, &signed], &|i| 0.5 * (i as f32 - 16.0)),
            (GgmlType::Q4_0, vec![&scale, &packed], &|i| 0.5 * (nibble(i) - 8.0)),
            (GgmlType::Q4_1, vec![&scale, &minimum, &packed], &|i| 0.5 * nibble(i) - 1.0),
            (GgmlType::Q5_0, vec![&scale, &fifth, &packed], &|i| 0.5 * (nibble(i) + high(i) - 16.0)),
            (GgmlType::Q5_1, vec![&scale, &minimum, &fifth, &packed], &|i| 0.5 * (nibble(i) + high(i)) - 1.0),
        ];
        for (kind, parts, expected) in cases {
            let block = parts.concat();
            let two = [block.clone(), block].concat();
            let wanted: Vec<f32> = (0..64).map(|i| expected(i % 32)).collect();
            assert_eq!(dequantize(kind, &two), Ok(wanted), "{}", kind.name());
        }
    }

    #[test]
    fn an_unsupported_type_is_named() {
        let error = dequantize(GgmlType::Q2K, &[]).unwrap_err();
        assert!(error.contains("Q2_K"), "{error}");
    }
}
