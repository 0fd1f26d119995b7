//! The number formats a GGUF tensor can be stored in.

macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $name:literal, $block:literal values in $bytes:literal bytes;)*) => {
        /// How the values of a tensor are stored: plain numbers, or blocks with shared scales.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are ggml's, without the underscores Rust does not like")]
        pub enum GgmlType { $($variant),* }

        impl GgmlType {
            /// Every known type.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The type of a stored id; `None` for unknown and withdrawn ids.
            pub fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }

            /// The stored id.
            pub fn id(self) -> u32 {
                match self { $(Self::$variant => $id),* }
            }

            /// ggml's name of the type.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Values in one block, 1 for plain numbers.
            pub fn block_size(self) -> u64 {
                match self { $(Self::$variant => $block),* }
            }

            /// Bytes of one block.
            pub fn block_bytes(self) -> u64 {
                match self { $(Self::$variant => $bytes),* }
            }
        }
    };
}

// Ids and sizes: `GGMLQuantizationType` and `GGML_QUANT_SIZES` of the gguf package 0.19.0.
ggml_types! {
    F32 = 0, "F32", 1 values in 4 bytes;
    F16 = 1, "F16", 1 values in 2 bytes;
    Q4_0 = 2, "Q4_0", 32 values in 18 bytes;
    Q4_1 = 3, "Q4_1", 32 values in 20 bytes;
    Q5_0 = 6, "Q5_0", 32 values in 22 bytes;
    Q5_1 = 7, "Q5_1", 32 values in 24 bytes;
    Q8_0 = 8, "Q8_0", 32 values in 34 bytes;
    Q8_1 = 9, "Q8_1", 32 values in 40 bytes;
    Q2K = 10, "Q2_K", 256 values in 84 bytes;
    Q3K = 11, "Q3_K", 256 values in 110 bytes;
    Q4K = 12, "Q4_K", 256 values in 144 bytes;
    Q5K = 13, "Q5_K", 256 values in 176 bytes;
    Q6K = 14, "Q6_K", 256 values in 210 bytes;
    Q8K = 15, "Q8_K", 256 values in 292 bytes;
    IQ2XXS = 16, "IQ2_XXS", 256 values in 66 bytes;
    IQ2XS = 17, "IQ2_XS", 256 values in 74 bytes;
    IQ3XXS = 18, "IQ3_XXS", 256 values in 98 bytes;
    IQ1S = 19, "IQ1_S", 256 values in 50 bytes;
    IQ4NL = 20, "IQ4_NL", 32 values in 18 bytes;
    IQ3S = 21, "IQ3_S", 256 values in 110 bytes;
    IQ2S = 22, "IQ2_S", 256 values in 82 bytes;
    IQ4XS = 23, "IQ4_XS", 256 values in 136 bytes;
    I8 = 24, "I8", 1 values in 1 bytes;
    I16 = 25, "I16", 1 values in 2 bytes;
    I32 = 26, "I32", 1 values in 4 bytes;
    I64 = 27, "I64", 1 values in 8 bytes;
    F64 = 28, "F64", 1 values in 8 bytes;
    IQ1M = 29, "IQ1_M", 256 values in 56 bytes;
    BF16 = 30, "BF16", 1 values in 2 bytes;
    TQ1_0 = 34, "TQ1_0", 256 values in 54 bytes;
    TQ2_0 = 35, "TQ2_0", 256 values in 66 bytes;
    MXFP4 = 39, "MXFP4", 32 values in 17 bytes;
    NVFP4 = 40, "NVFP4", 64 values in 36 bytes;
    Q1_0 = 41, "Q1_0", 128 values in 18 bytes;
}
