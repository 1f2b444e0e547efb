//! A gzip stream of which each chunk is compressed, or only wrapped.
//!
//! Compressing saves a slow network and slows a fast one down. A deflate stream is a row of blocks, and a block may hold its bytes as
//! they are: so whoever writes can decide anew for each chunk. Chunks know nothing of each other and end at whole bytes.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress};

/// No name, no time, no system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty block that is the last.
const LAST: [u8; 2] = [3, 0];
/// The most bytes one block holds as they are.
const LONGEST: usize = 0xffff;

/// How many chunks go as they are after one that does not shrink.
const REST: u32 = 16;

/// The stream as it grows.
pub struct Gzip {
    compress: Compress,
    sum: Crc,
    /// So many chunks are not even tried: the last one that was did not shrink, and its neighbours are rarely better.
    rest: u32,
}

impl Gzip {
    /// A new stream, and its first bytes.
    pub fn new() -> (Self, Vec<u8>) {
        (Self { compress: Compress::new(Compression::fast(), false), sum: Crc::new(), rest: 0 }, HEAD.to_vec())
    }

    /// The bytes for a chunk; `squeeze` says whether to try to compress it.
    pub fn chunk(&mut self, chunk: &[u8], squeeze: bool) -> io::Result<Vec<u8>> {
        self.sum.update(chunk);
        self.rest = self.rest.saturating_sub(1);
        let squeezed = if squeeze && self.rest == 0 { self.squeeze(chunk)? } else { None };
        Ok(squeezed.unwrap_or_else(|| wrap(chunk)))
    }

    /// The last bytes.
    pub fn end(self) -> Vec<u8> {
        [&LAST[..], &self.sum.sum().to_le_bytes(), &self.sum.amount().to_le_bytes()].concat()
    }

    /// The chunk compressed; `None` when that gains nothing.
    fn squeeze(&mut self, chunk: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.compress.reset();
        let mut out = Vec::with_capacity(chunk.len());
        self.compress.compress_vec(chunk, &mut out, FlushCompress::Sync)?;
        // With room left, all of it is out.
        let shrunk = out.len() < out.capacity();
        if !shrunk {
            self.rest = REST;
        }
        Ok(shrunk.then_some(out))
    }
}

fn wrap(chunk: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunk.len() + 5 * chunk.len().div_ceil(LONGEST));
    for block in chunk.chunks(LONGEST) {
        let length = block.len() as u16;
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::bufread::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    fn write(chunks: &[(Vec<u8>, bool)]) -> Vec<u8> {
        let (mut gzip, mut out) = Gzip::new();
        for (chunk, squeeze) in chunks {
            out.extend(gzip.chunk(chunk, *squeeze).unwrap());
        }
        out.extend(gzip.end());
        out
    }

    fn read(stream: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = GzDecoder::new(stream);
        decoder.read_to_end(&mut plain).unwrap();
        assert!(decoder.into_inner().is_empty(), "nothing follows the one member");
        plain
    }

    #[test]
    fn what_compresses_is_small_and_what_does_not_is_hardly_longer() {
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(200_000)
        .collect();
        let text = b"over and over ".repeat(10_000);
        for (content, squeeze, longest) in
            [(&text, true, 2_000), (&text, false, 141_000), (&noise, true, 200_100), (&noise, false, 200_100)]
        {
            let stream = write(&[(content.clone(), squeeze)]);
            assert!(stream.len() < longest, "{} bytes", stream.len());
            assert_eq!(read(&stream), *content);
        }
        assert_eq!(read(&write(&[])), b"");
    }

    proptest! {
        #[test]
        fn any_mixture_reads_back(
            chunks in prop::collection::vec((prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                prop::collection::vec(b'a'..b'c', 0..3000),
                (65_530_usize..65_540, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
            ], any::<bool>()), 0..8),
        ) {
            let content: Vec<u8> = chunks.iter().flat_map(|(chunk, _)| chunk.clone()).collect();
            prop_assert_eq!(read(&write(&chunks)), content);
        }
    }
}
