//! What a picture will be, without its decoder: each latent as one pixel, whose colours hang on its channels linearly. The
//! factors are those of ComfyUI (`comfy/latent_formats.py`), which were fitted to pictures and their latents.

use std::vec::Vec;

use super::vae::Planes;

/// Colours of one kind of latents, as a denoiser knows them.
#[derive(Debug)]
pub(super) struct Colours {
    /// Red, green and blue of each channel.
    factors: &'static [[f32; 3]],
    bias: [f32; 3],
}

/// Of Stable Diffusion 1 and 2.
pub(super) static FIRST: Colours = Colours {
    factors: &[
        [0.3512, 0.2297, 0.3227],
        [0.3250, 0.4974, 0.2350],
        [-0.2829, 0.1762, 0.2721],
        [-0.2120, -0.2616, -0.7177],
    ],
    bias: [0.0; 3],
};

/// Of SDXL.
pub(super) static XL: Colours = Colours {
    factors: &[
        [0.3651, 0.4232, 0.4341],
        [-0.2533, -0.0042, 0.1068],
        [0.1076, 0.1111, -0.0362],
        [-0.3165, -0.2492, -0.2188],
    ],
    bias: [0.1084, -0.0175, -0.0011],
};

/// Of Stable Diffusion 3.
pub(super) static THIRD: Colours = Colours {
    factors: &[
        [-0.0922, -0.0175, 0.0749],
        [0.0311, 0.0633, 0.0954],
        [0.1994, 0.0927, 0.0458],
        [0.0856, 0.0339, 0.0902],
        [0.0587, 0.0272, -0.0496],
        [-0.0006, 0.1104, 0.0309],
        [0.0978, 0.0306, 0.0427],
        [-0.0042, 0.1038, 0.1358],
        [-0.0194, 0.0020, 0.0669],
        [-0.0488, 0.0130, -0.0268],
        [0.0922, 0.0988, 0.0951],
        [-0.0278, 0.0524, -0.0542],
        [0.0332, 0.0456, 0.0895],
        [-0.0069, -0.0030, -0.0810],
        [-0.0596, -0.0465, -0.0293],
        [-0.1448, -0.1463, -0.1189],
    ],
    bias: [0.2394, 0.2135, 0.1925],
};

/// Of FLUX.1.
pub(super) static FLUX: Colours = Colours {
    factors: &[
        [-0.0346, 0.0244, 0.0681],
        [0.0034, 0.0210, 0.0687],
        [0.0275, -0.0668, -0.0433],
        [-0.0174, 0.0160, 0.0617],
        [0.0859, 0.0721, 0.0329],
        [0.0004, 0.0383, 0.0115],
        [0.0405, 0.0861, 0.0915],
        [-0.0236, -0.0185, -0.0259],
        [-0.0245, 0.0250, 0.1180],
        [0.1008, 0.0755, -0.0421],
        [-0.0515, 0.0201, 0.0011],
        [0.0428, -0.0012, -0.0036],
        [0.0817, 0.0765, 0.0749],
        [-0.1264, -0.0522, -0.1103],
        [-0.0280, -0.0881, -0.0499],
        [-0.1262, -0.0982, -0.0778],
    ],
    bias: [-0.0329, -0.0718, -0.0851],
};

impl Colours {
    /// A pixel for each latent, -1 to 1; `None` for latents of other channels.
    pub(super) fn of(&self, latents: &[f32], [channels, rows, columns]: [usize; 3]) -> Option<Planes> {
        let plane = rows * columns;
        if channels != self.factors.len() || latents.len() != channels * plane {
            return None;
        }
        let pixel = |colour: usize, at: usize| {
            let sum: f32 = (0..channels).map(|c| latents[c * plane + at] * self.factors[c][colour]).sum();
            (sum + self.bias[colour]).clamp(-1.0, 1.0)
        };
        let values: Vec<f32> =
            (0..3).flat_map(|colour| (0..plane).map(move |at| pixel(colour, at))).collect();
        Some(Planes { values, shape: [3, rows, columns] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_their_channels() {
        // Two latents of four channels: nothing, and the second channel alone.
        let latents = [0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0];
        let shown = XL.of(&latents, [4, 1, 2]).expect("colours");
        assert_eq!(shown.shape, [3, 1, 2]);
        let wanted =
            [0.1084, 0.1084 - 2.0 * 0.2533, -0.0175, -0.0175 - 2.0 * 0.0042, -0.0011, -0.0011 + 2.0 * 0.1068];
        assert!(shown.values.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{shown:?}");
        let bright = XL.of(&[100.0; 8], [4, 1, 2]).expect("colours");
        assert!(bright.values.iter().all(|value| (-1.0..=1.0).contains(value)));
        assert_eq!(XL.of(&[0.0; 16], [16, 1, 1]), None);
    }
}
