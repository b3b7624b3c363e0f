//! Pictures of samples: contact sheets, images from planes, shaded relief of height maps.
#![forbid(unsafe_code)]

use std::{
    cmp::Ordering,
    io::{self, Write},
};

use image::{
    ExtendedColorType, ImageBuffer, ImageEncoder, Luma, Rgb, RgbImage,
    codecs::png::PngEncoder,
    imageops::{self, FilterType},
};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const PAPER: Rgb<u8> = Rgb([246, 245, 242]);
const FRAME: Rgb<u8> = Rgb([214, 211, 205]);
const INK: Rgb<u8> = Rgb([66, 64, 60]);
const MARGIN: u32 = 16;

/// One picture of a [`contact_sheet`].
#[derive(Clone, Debug)]
pub struct Tile {
    pub pixels: RgbImage,
    /// One line below the picture, may be empty.
    pub label: String,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SheetOptions {
    /// Tiles in a row; a nearly square sheet without it.
    pub columns: Option<u32>,
}

/// All tiles on one sheet, enlarged by a whole factor so that every pixel stays a square.
///
/// A single tile without a label is only enlarged: there is nothing to tell apart.
pub fn contact_sheet(tiles: &[Tile], options: SheetOptions) -> RgbImage {
    let scale = enlargement(tiles);
    if let [Tile { pixels, label }] = tiles
        && label.is_empty()
    {
        return enlarge(pixels, scale);
    }
    let layout = Layout::new(tiles, scale, options);
    let mut sheet = layout.blank();
    for (i, tile) in (0..).zip(tiles) {
        layout.draw(&mut sheet, i, tile);
    }
    sheet
}

/// An image from one plane (grey) or three (red, green, blue), where `range` goes from black to full.
pub fn image_from_planes(
    shape: [usize; 3],
    values: &[f32],
    range: [f32; 2],
) -> Result<RgbImage, PictureError> {
    let [channels, height, width] = shape;
    if !matches!(channels, 1 | 3) {
        return Err(PictureError::Channels { channels });
    }
    let (columns, rows) = size(height, width, values.len(), channels)?;
    let [low, high] = range;
    if low.partial_cmp(&high) != Some(Ordering::Less) {
        return Err(PictureError::Range { low, high });
    }
    let level = |value: f32| ((value - low) / (high - low) * 255.0).round() as u8; // saturates
    let plane = height * width;
    Ok(RgbImage::from_fn(columns, rows, |x, y| {
        let at = y as usize * width + x as usize;
        Rgb([0, 1, 2].map(|channel| level(values[(channel % channels) * plane + at])))
    }))
}

/// A height map in metres as a map: tinted by height, lit from the north-west, with its scale beside it.
///
/// It is shaded at four times its resolution, on heights interpolated smoothly. Values that are not finite are
/// drawn as the lowest.
pub fn relief(heights_m: &[f32], height: usize, width: usize) -> Result<RgbImage, PictureError> {
    let surface = Surface::new(heights_m, height, width)?;
    let map = surface.shaded();
    let mut sheet = blank(map.width() + LEGEND_WIDTH + 3 * MARGIN, map.height() + 2 * MARGIN);
    imageops::replace(&mut sheet, &map, MARGIN.into(), MARGIN.into());
    draw_legend(&mut sheet, 2 * MARGIN + map.width(), map.height(), surface.low, surface.high);
    Ok(sheet)
}

pub fn encode_png(image: &RgbImage, out: &mut dyn Write) -> io::Result<()> {
    // Through memory: the encoder would swallow an error of `out` in the last chunk.
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(image, image.width(), image.height(), ExtendedColorType::Rgb8)
        .map_err(io::Error::other)?;
    out.write_all(&bytes)
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PictureError {
    #[error("{channels} channels are no picture, which has 1 or 3; write the sample to an .npy file instead")]
    Channels { channels: usize },
    #[error(
        "a picture of {height} x {width} pixels with {channels} channels cannot be made of {values} values"
    )]
    Size { height: usize, width: usize, channels: usize, values: usize },
    #[error("the range from {low} to {high} is empty: the first number must be the smaller one")]
    Range { low: f32, high: f32 },
}

/// Columns and rows of a picture that `values` fill exactly.
fn size(height: usize, width: usize, values: usize, channels: usize) -> Result<(u32, u32), PictureError> {
    // A side of a picture fits in 16 bits, so that no arithmetic on enlarged ones overflows 32.
    let side = |length: usize| u16::try_from(length).ok().filter(|&side| side > 0).map(u32::from);
    match (side(width), side(height)) {
        (Some(columns), Some(rows))
            if u64::from(columns) * u64::from(rows) * channels as u64 == values as u64 =>
        {
            Ok((columns, rows))
        }
        _ => Err(PictureError::Size { height, width, channels, values }),
    }
}

fn blank(width: u32, height: u32) -> RgbImage {
    RgbImage::from_pixel(width, height, PAPER)
}

// Contact sheets

const GAP: u32 = 12;
const LABEL_HEIGHT: u32 = 20;

/// The fewer the tiles, the larger: a lone digit of 28 pixels has 280, one of many 112.
fn enlargement(tiles: &[Tile]) -> u32 {
    let wanted = match tiles.len() {
        0..=1 => 280,
        2..=4 => 168,
        5..=100 => 112,
        _ => 56,
    };
    let longest = tiles.iter().map(|tile| tile.pixels.width().max(tile.pixels.height())).max();
    (wanted / longest.unwrap_or(1).max(1)).max(1)
}

fn enlarge(pixels: &RgbImage, scale: u32) -> RgbImage {
    RgbImage::from_fn(pixels.width() * scale, pixels.height() * scale, |x, y| {
        *pixels.get_pixel(x / scale, y / scale)
    })
}

/// Where each tile goes.
struct Layout {
    scale: u32,
    columns: u32,
    rows: u32,
    /// The largest enlarged tile.
    width: u32,
    height: u32,
    label_height: u32,
}

impl Layout {
    fn new(tiles: &[Tile], scale: u32, options: SheetOptions) -> Self {
        let count = (tiles.len() as u32).max(1);
        let columns = options.columns.unwrap_or_else(|| near_square(count)).clamp(1, count);
        let labelled = tiles.iter().any(|tile| !tile.label.is_empty());
        let longest = |side: fn(&RgbImage) -> u32| tiles.iter().map(|tile| side(&tile.pixels)).max();
        Layout {
            scale,
            columns,
            rows: count.div_ceil(columns),
            width: longest(RgbImage::width).unwrap_or(1) * scale,
            height: longest(RgbImage::height).unwrap_or(1) * scale,
            label_height: if labelled { LABEL_HEIGHT } else { 0 },
        }
    }

    fn blank(&self) -> RgbImage {
        let side = |count, length| 2 * MARGIN + count * (length + GAP) - GAP;
        blank(side(self.columns, self.width), side(self.rows, self.height + self.label_height))
    }

    fn draw(&self, sheet: &mut RgbImage, i: u32, tile: &Tile) {
        let left = MARGIN + i % self.columns * (self.width + GAP);
        let top = MARGIN + i / self.columns * (self.height + self.label_height + GAP);
        let pixels = enlarge(&tile.pixels, self.scale);
        let x = left + (self.width - pixels.width()) / 2;
        let y = top + (self.height - pixels.height()) / 2;
        draw_framed(sheet, &pixels, x, y);
        let label = shorten(&tile.label, self.width + GAP / 2);
        let x = (left + self.width / 2).saturating_sub(text_width(&label) / 2);
        draw_text(sheet, &label, x, top + self.height + LABEL_HEIGHT - TEXT_HEIGHT);
    }
}

/// The number of columns that leaves the fewest places empty, between square and 1.6 times as wide.
fn near_square(count: u32) -> u32 {
    let side = f64::from(count).sqrt();
    let most = ((1.6 * side).round() as u32).max(side.ceil() as u32);
    (side.ceil() as u32..=most).min_by_key(|columns| columns * count.div_ceil(*columns)).unwrap_or(1)
}

// Relief

const DETAIL: u32 = 4;
const LEGEND_WIDTH: u32 = 84;
const BAR_WIDTH: u32 = 14;
/// Cells in the smallest of the broad forms, which are shaded with the details: beside rough ground alone, valleys
/// and ridges would not show.
const FORM: u32 = 8;
/// Root mean squares of the exaggerated slopes.
const DETAIL_SLOPE: f32 = 0.24;
const FORM_SLOPE: f32 = 0.42;
/// Terrain's broad forms have a third of the details' slope; fainter ones than this are leftovers of the smoothing.
const LEAST_FORM: f32 = 0.06;
/// Sine of the light's elevation, 45 degrees: how bright a plain is.
const PLAIN: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// From the lowest place to the highest: forest, meadow, dry grass, sand, rock, bare rock, snow.
const TERRAIN: [(f32, [f32; 3]); 8] = [
    (0.00, [38.0, 84.0, 66.0]),
    (0.14, [74.0, 120.0, 78.0]),
    (0.30, [142.0, 164.0, 96.0]),
    (0.45, [213.0, 199.0, 142.0]),
    (0.60, [199.0, 161.0, 108.0]),
    (0.76, [150.0, 110.0, 82.0]),
    (0.90, [196.0, 184.0, 176.0]),
    (1.00, [252.0, 251.0, 249.0]),
];

type Heights = ImageBuffer<Luma<f32>, Vec<f32>>;

/// A height map at the picture's resolution.
struct Surface {
    /// Metres.
    low: f32,
    high: f32,
    /// From 0, which is `low`, to 1.
    fine: Heights,
    /// The same without its small forms.
    broad: Heights,
}

impl Surface {
    fn new(heights_m: &[f32], height: usize, width: usize) -> Result<Self, PictureError> {
        let (columns, rows) = size(height, width, heights_m.len(), 1)?;
        let finite = || heights_m.iter().copied().filter(|metres| metres.is_finite());
        let low = finite().reduce(f32::min).unwrap_or(0.0);
        let high = finite().reduce(f32::max).unwrap_or(0.0);
        let unit = |metres: f32| match (metres - low) / (high - low) {
            unit if metres.is_finite() && unit.is_finite() => unit,
            _ => 0.0,
        };
        let cells =
            Heights::from_fn(columns, rows, |x, y| Luma([unit(heights_m[y as usize * width + x as usize])]));
        let forms =
            imageops::resize(&cells, columns.div_ceil(FORM), rows.div_ceil(FORM), FilterType::Gaussian);
        let enlarge =
            |heights| imageops::resize(heights, columns * DETAIL, rows * DETAIL, FilterType::CatmullRom);
        Ok(Surface { low, high, fine: enlarge(&cells), broad: enlarge(&forms) })
    }

    fn shaded(&self) -> RgbImage {
        let (width, height) = self.fine.dimensions();
        let rough = roughness(&self.fine);
        let fine = DETAIL_SLOPE / rough;
        let broad = FORM_SLOPE / roughness(&self.broad).max(LEAST_FORM * rough);
        RgbImage::from_fn(width, height, |x, y| {
            let (detail, form) = (slope(&self.fine, x, y), slope(&self.broad, x, y));
            lit(tint(self.fine.get_pixel(x, y)[0]), [0, 1].map(|i| fine * detail[i] + broad * form[i]))
        })
    }
}

/// Root mean square of the slopes. They are divided by it, because a cell is steep or flat as it is small or large.
fn roughness(heights: &Heights) -> f32 {
    let (width, height) = heights.dimensions();
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let squares: f64 =
        places.map(|(x, y)| slope(heights, x, y).iter().map(|&s| f64::from(s * s)).sum::<f64>()).sum();
    ((squares / f64::from(width) / f64::from(height)).sqrt() as f32).max(f32::MIN_POSITIVE)
}

/// Central differences towards east and south.
fn slope(heights: &Heights, x: u32, y: u32) -> [f32; 2] {
    let (width, height) = heights.dimensions();
    let at = |x: u32, y: u32| heights.get_pixel(x, y)[0];
    let (west, east) = (x.saturating_sub(1), (x + 1).min(width - 1));
    let (north, south) = (y.saturating_sub(1), (y + 1).min(height - 1));
    [
        (at(east, y) - at(west, y)) / (east - west) as f32,
        (at(x, south) - at(x, north)) / (south - north) as f32,
    ]
}

/// The colour of a height between 0 and 1.
fn tint(unit: f32) -> [f32; 3] {
    let above = TERRAIN.iter().position(|&(height, _)| height >= unit).unwrap_or(TERRAIN.len() - 1).max(1);
    let ((low, from), (high, to)) = (TERRAIN[above - 1], TERRAIN[above]);
    mix(from, to, (unit - low) / (high - low))
}

/// `colour` in the light from the north-west: a plain keeps it, flanks turn to blue shade or towards white.
fn lit(colour: [f32; 3], [east, south]: [f32; 2]) -> Rgb<u8> {
    let light = (0.5 * (east + south) + PLAIN) / (1.0 + east * east + south * south).sqrt();
    let [red, green, blue] = colour;
    let lit = match light.max(0.0) / PLAIN {
        light if light < 1.0 => mix([0.28 * red, 0.31 * green, 0.44 * blue], colour, light),
        light => mix(colour, [255.0, 253.0, 244.0], light - 1.0),
    };
    Rgb(lit.map(|level| level.round() as u8))
}

fn mix(from: [f32; 3], to: [f32; 3], part: f32) -> [f32; 3] {
    [0, 1, 2].map(|i| from[i] + (to[i] - from[i]) * part)
}

/// A bar of the tints, `height` pixels high, with metres beside it.
fn draw_legend(sheet: &mut RgbImage, left: u32, height: u32, low: f32, high: f32) {
    let steps = height.max(2) - 1;
    let bar = RgbImage::from_fn(BAR_WIDTH, height, |_, y| {
        Rgb(tint(1.0 - y as f32 / steps as f32).map(|level| level.round() as u8))
    });
    draw_framed(sheet, &bar, left, MARGIN);
    let decimals = match high - low {
        range if range < 1.0 => 2,
        range if range < 100.0 => 1,
        _ => 0,
    };
    let labels = (height / 90).clamp(1, 4);
    for i in 0..=labels {
        let part = i as f32 / labels as f32;
        let y = MARGIN + (steps as f32 * (1.0 - part)) as u32;
        let x = left + BAR_WIDTH + 1;
        (x..x + 4).for_each(|x| sheet.put_pixel(x, y, INK));
        let metres = format!("{:.decimals$} m", low + (high - low) * part);
        draw_text(sheet, &metres, x + 8, y.saturating_sub(TEXT_HEIGHT / 2));
    }
}

// Drawing

const TEXT: RasterHeight = RasterHeight::Size16;
const TEXT_HEIGHT: u32 = 16;

/// `pixels` at `x`, `y` in a thin frame, which sets white pictures off from the paper.
fn draw_framed(sheet: &mut RgbImage, pixels: &RgbImage, x: u32, y: u32) {
    let frame = RgbImage::from_pixel(pixels.width() + 2, pixels.height() + 2, FRAME);
    imageops::replace(sheet, &frame, i64::from(x) - 1, i64::from(y) - 1);
    imageops::replace(sheet, pixels, x.into(), y.into());
}

fn text_width(text: &str) -> u32 {
    (text.chars().count() * get_raster_width(FontWeight::Regular, TEXT)) as u32
}

/// `text`, or as much of it as `width` pixels hold.
fn shorten(text: &str, width: u32) -> String {
    if text_width(text) <= width {
        return text.into();
    }
    let room = (width / text_width("x")).saturating_sub(2);
    text.chars().take(room as usize).chain("..".chars()).collect()
}

/// What would stand beyond the sheet's edge is left out, what the font lacks is a question mark.
fn draw_text(sheet: &mut RgbImage, text: &str, mut left: u32, top: u32) {
    let glyph = |c| get_raster(c, FontWeight::Regular, TEXT);
    for raster in text.chars().filter_map(|c| glyph(c).or_else(|| glyph('?'))) {
        for (y, row) in (top..).zip(raster.rows()) {
            for (x, &coverage) in (left..).zip(row) {
                if let Some(pixel) = sheet.get_pixel_mut_checked(x, y) {
                    let blend = |i: usize| {
                        let (paper, ink) = (u32::from(pixel[i]), u32::from(INK[i]));
                        ((paper * (255 - u32::from(coverage)) + ink * u32::from(coverage)) / 255) as u8
                    };
                    *pixel = Rgb([0, 1, 2].map(blend));
                }
            }
        }
        left += raster.width() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(width: u32, height: u32, label: &str) -> Tile {
        Tile { pixels: RgbImage::from_pixel(width, height, Rgb([1, 2, 3])), label: label.into() }
    }

    #[test]
    fn sheets_are_nearly_square() {
        let columns = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 25].map(near_square);
        assert_eq!(columns, [1, 2, 3, 2, 3, 3, 4, 4, 3, 5, 4, 4, 5, 5]);
        let sheet = contact_sheet(&vec![tile(28, 28, ""); 16], SheetOptions::default());
        assert_eq!(sheet.dimensions(), (2 * 16 + 4 * 112 + 3 * 12, 2 * 16 + 4 * 112 + 3 * 12));
        let row = contact_sheet(&vec![tile(28, 28, "7"); 6], SheetOptions { columns: Some(6) });
        assert_eq!(row.dimensions(), (2 * 16 + 6 * 112 + 5 * 12, 2 * 16 + 112 + 20));
    }

    #[test]
    fn a_lone_picture_is_only_enlarged() {
        let mut pixels = RgbImage::new(28, 28);
        pixels.put_pixel(27, 0, Rgb([9, 8, 7]));
        let sheet = contact_sheet(&[Tile { pixels, label: String::new() }], SheetOptions::default());
        assert_eq!(sheet.dimensions(), (280, 280));
        assert_eq!((sheet.get_pixel(270, 9), sheet.get_pixel(269, 9)), (&Rgb([9, 8, 7]), &Rgb([0; 3])));
        let large = contact_sheet(&[tile(512, 300, "")], SheetOptions::default());
        assert_eq!(large.dimensions(), (512, 300));
    }

    #[test]
    fn any_label_and_any_size_is_drawn() {
        let long = "Grüße, 数字 ".repeat(100);
        contact_sheet(&[tile(1, 1, &long), tile(40, 3, "x"), tile(0, 0, "")], SheetOptions::default());
        contact_sheet(&[], SheetOptions { columns: Some(0) });
        contact_sheet(&[tile(0, 0, "")], SheetOptions::default());
        assert_eq!(shorten("abcdef", text_width("abcd")), "ab..");
        assert_eq!(shorten("abcd", text_width("abcd")), "abcd");
    }

    #[test]
    fn planes_become_pixels() {
        let grey = image_from_planes([1, 1, 4], &[-1.0, 0.0, 1.0, f32::NAN], [-1.0, 1.0]).unwrap();
        assert_eq!(grey.as_raw()[..], [0, 0, 0, 128, 128, 128, 255, 255, 255, 0, 0, 0]);
        let values = [0.0, 0.2, 0.4, 0.6, -9.0, 9.0];
        let rgb = image_from_planes([3, 1, 2], &values, [0.0, 1.0]).unwrap();
        assert_eq!(rgb.as_raw()[..], [0, 102, 0, 51, 153, 255]);
    }

    #[test]
    fn what_is_no_picture_says_so() {
        let error = |shape, range| image_from_planes(shape, &[0.0; 8], range).unwrap_err().to_string();
        assert_eq!(
            error([2, 2, 2], [0.0, 1.0]),
            "2 channels are no picture, which has 1 or 3; write the sample to an .npy file instead"
        );
        for shape in [[1, 2, 3], [3, 0, 0], [1, usize::MAX, 2], [1, 1 << 20, 1 << 20]] {
            assert!(error(shape, [0.0, 1.0]).ends_with("cannot be made of 8 values"), "{shape:?}");
        }
        assert!(error([1, 2, 4], [1.0, 1.0]).starts_with("the range from 1 to 1 is empty"));
        assert!(error([1, 2, 4], [f32::NAN, 1.0]).starts_with("the range from NaN to 1 is empty"));
        assert!(relief(&[0.0; 8], 3, 3).is_err());
    }

    #[test]
    fn relief_is_lit_from_the_north_west() {
        let cone: Vec<f32> =
            (0..64).map(|i| 9.0 - ((i % 8) as f32 - 3.5).hypot((i / 8) as f32 - 3.5)).collect();
        let map = Surface::new(&cone, 8, 8).unwrap().shaded();
        let light = |x, y| map.get_pixel(x, y).0.iter().map(|&level| u32::from(level)).sum::<u32>();
        assert!(light(8, 8) > light(23, 23) + 100, "{} {}", light(8, 8), light(23, 23));
        assert!(light(8, 23).abs_diff(light(23, 8)) < 8);
    }

    #[test]
    fn any_heights_are_drawn() {
        for height in [0.0, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN, 1e-45] {
            assert_eq!(relief(&[height, 0.0, -3.0, 1.0], 2, 2).unwrap().dimensions(), (8 + 84 + 48, 8 + 32));
        }
        let plain = Surface::new(&[5.0; 12], 3, 4).unwrap();
        assert_eq!((plain.low, plain.high), (5.0, 5.0));
        assert!(plain.shaded().pixels().all(|&pixel| pixel == Rgb([38, 84, 66])));
    }

    #[test]
    fn tints_follow_the_ramp() {
        for (height, colour) in TERRAIN {
            assert_eq!(tint(height), colour);
        }
        assert_eq!(tint(0.07), mix(TERRAIN[0].1, TERRAIN[1].1, 0.5));
    }

    #[test]
    fn png_is_written_and_errors_are_passed_on() {
        let picture = RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8, y as u8, 200]));
        let mut bytes = Vec::new();
        encode_png(&picture, &mut bytes).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().into_rgb8(), picture);
        let mut full = [0; 20];
        let error = encode_png(&picture, &mut &mut full[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
