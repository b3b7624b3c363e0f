//! Lengths: how long symbols last, at which lengths networks are compiled, and in which windows a vocoder goes.

use std::{vec, vec::Vec};

use super::SpeechError;
use crate::manifest::Window;

/// Frames of one text; ten minutes, at 86 a second.
const MOST_FRAMES: usize = 1 << 16;

/// The symbol of each frame. Frames after the last symbol's have none: durations need not be whole, and speech has one frame
/// at least.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alignment {
    pub(super) frames: usize,
    symbols: Vec<usize>,
}

impl Alignment {
    /// Of the logarithms of durations in frames, with the roundings of `synthesise` in Matcha's matcha_tts.py: durations are f32,
    /// and PyTorch adds them up in f64 and keeps the sums in f32.
    pub(super) fn new(log_durations: &[f32], length_scale: f64) -> Result<Alignment, SpeechError> {
        let mut symbols = Vec::new();
        let (mut sum, mut end) = (0.0f64, 0.0f32);
        for (symbol, log) in log_durations.iter().enumerate() {
            sum += f64::from(libm::expf(*log).ceil() * length_scale as f32);
            end = sum as f32;
            if end.is_nan() || end > MOST_FRAMES as f32 {
                return Err(SpeechError::Long { most: MOST_FRAMES });
            }
            // The frames whose number is less than the end.
            symbols.resize(end.ceil() as usize, symbol);
        }
        let frames = (end as usize).max(1);
        symbols.truncate(frames);
        Ok(Alignment { frames, symbols })
    }

    /// What symbols have in each channel, for their frames, and 0 up to `padded` frames. `values`: [channels, `symbols`].
    pub(super) fn spread(&self, values: &[f32], symbols: usize, padded: usize) -> Vec<f64> {
        let mut spread = vec![0.0; values.len() / symbols * padded];
        for (frames, own) in spread.chunks_mut(padded).zip(values.chunks(symbols)) {
            for (frame, &symbol) in frames.iter_mut().zip(&self.symbols) {
                *frame = own[symbol].into();
            }
        }
        spread
    }
}

/// The length of the plan for `length`: multiples of 8 up to 128, then of 16 up to 256 and so on, so that no more than an
/// eighth of a long text is padding, and there are eight plans for all texts that are up to twice as long.
pub(super) fn bucket(length: usize, multiple: usize) -> usize {
    let step = (length.next_power_of_two() / 16).max(8);
    length.next_multiple_of(step.next_multiple_of(multiple))
}

/// A part of speech that a vocoder makes at once, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: usize,
    pub(super) frames: usize,
    /// Those whose samples are kept, within the part.
    pub(super) kept: [usize; 2],
}

/// The parts of so many frames: one, or windows that lie over each other as far as a vocoder hears. The first begins where
/// speech does and the last ends there, so that the ends are as without windows.
pub(super) fn parts(frames: usize, window: Option<Window>) -> Vec<Part> {
    let Some(Window { frames: width, context }) = window.filter(|window| window.frames < frames) else {
        return vec![Part { start: 0, frames, kept: [0, frames] }];
    };
    let (mut parts, mut done) = (Vec::new(), 0usize);
    while done < frames {
        let start = done.saturating_sub(context).min(frames - width);
        let end = if start + width == frames { frames } else { start + width - context };
        parts.push(Part { start, frames: width, kept: [done - start, end - start] });
        done = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_and_then_scaled() {
        let logs = [1.0f32, 2.5, 0.2].map(f32::ln);
        let alignment = Alignment::new(&logs, 1.0).expect("frames");
        assert_eq!((alignment.frames, &alignment.symbols[..]), (5, &[0, 1, 1, 1, 2][..]));
        // Ends at 1.5, 6 and 7.5: frame 7 begins before the end, and is none.
        let alignment = Alignment::new(&logs, 1.5).expect("frames");
        assert_eq!((alignment.frames, &alignment.symbols[..]), (7, &[0, 0, 1, 1, 1, 1, 2][..]));
        let spread = alignment.spread(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 8);
        assert_eq!(spread[..8], [1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 0.0]);
        assert_eq!(spread[8..], [4.0, 4.0, 5.0, 5.0, 5.0, 5.0, 6.0, 0.0]);
        for log in [f32::NAN, f32::INFINITY, 90.0] {
            Alignment::new(&[log], 1.0).expect_err("no length");
        }
    }

    #[test]
    fn few_lengths_serve_all_texts() {
        for length in 1..5000 {
            let found = bucket(length, 4);
            assert!(
                found >= length && found.is_multiple_of(4) && found <= (length + length / 8).max(length + 7),
                "{length}"
            );
        }
        let mut lengths: Vec<_> = (1001..=2000).map(|length| bucket(length, 4)).collect();
        lengths.dedup();
        assert!(lengths.len() <= 10, "{lengths:?}");
    }

    #[test]
    fn windows_keep_every_frame_once_and_far_from_their_ends() {
        for frames in 1..200 {
            let window = Window { frames: 20, context: 6 };
            let mut done = 0;
            for part in parts(frames, Some(window)) {
                let [from, to] = part.kept.map(|at| at + part.start);
                assert_eq!(from, done, "{frames}");
                assert!(part.start == 0 || part.kept[0] >= 6, "{frames}: {part:?}");
                assert!(
                    part.start + part.frames == frames || part.frames - part.kept[1] >= 6,
                    "{frames}: {part:?}"
                );
                done = to;
            }
            assert_eq!(done, frames);
        }
    }
}
