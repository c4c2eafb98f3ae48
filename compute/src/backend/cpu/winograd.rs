//! Convolutions of 5 x 5 kernels by Winograd's minimal filtering, F(4 x 4, 5 x 5): in a transformed domain of
//! 8 x 8 points, 16 outputs take 64 multiplications, where the definition takes 400.
//!
//! Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, <https://arxiv.org/abs/1509.09308>. A tile of
//! the input is B'dB, the kernel GgG', and the output A'[(GgG') * (B'dB)]A; the matrices are Cook and Toom's for
//! the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity. Every 1-dimensional transform is written out, so that it
//! takes the zeros and the symmetry of a and -a into account.

use super::LANES;
use super::buffer::{Aligned, Buffer};
use pulp::Simd;
use runboard::data::CHANNELS;

/// Points of the transformed domain along one side.
const POINTS: usize = 8;
/// Outputs of a tile along one side.
pub const TILE: usize = 4;
/// The kernel's side.
pub const KERNEL: usize = 5;
/// Cells that it reaches beyond the image on each side.
pub const BORDER: usize = KERNEL / 2;
/// Points of the transformed domain.
pub const PLANES: usize = POINTS * POINTS;

/// Rows of channels from a tile's points to the next one's: not a power of two, of which the first cache would keep few.
const TILE_ROWS: usize = PLANES + 1;

/// A transform of vectors along one dimension.
trait Transform<const I: usize, const O: usize> {
    fn apply<S: Simd>(simd: S, x: [S::f32s; I]) -> [S::f32s; O];
}

/// B': input of a tile to points.
struct Input;

/// G: a kernel of I cells to points.
struct Kernel;

/// A': points to outputs.
struct Output;

/// The scale of the points in G: 1 over the product of the differences to all other points.
const ONE: f32 = -2.0 / 9.0;
const TWO: f32 = 1.0 / 90.0;
const HALF: f32 = 32.0 / 45.0;

impl Transform<POINTS, POINTS> for Input {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, x: [S::f32s; 8]) -> [S::f32s; 8] {
        let add = |a, b| simd.add_f32s(a, b);
        let sub = |a, b| simd.sub_f32s(a, b);
        let times = |factor: f32, a| simd.mul_f32s(simd.splat_f32s(factor), a);
        let fused = |factor: f32, a, b| simd.mul_add_e_f32s(simd.splat_f32s(factor), a, b);
        let even = fused(-4.25, x[4], add(x[2], x[6]));
        let odd = fused(-4.25, x[3], add(x[1], x[5]));
        let (one, minus_one) = (add(even, odd), sub(even, odd));
        let even = fused(-1.25, x[4], fused(0.25, x[2], x[6]));
        let odd = fused(2.0, x[5], fused(-2.5, x[3], times(0.5, x[1])));
        let (two, minus_two) = (add(even, odd), sub(even, odd));
        let even = fused(-5.0, x[4], fused(4.0, x[2], x[6]));
        let odd = fused(0.5, x[5], fused(-2.5, x[3], times(2.0, x[1])));
        let (half, minus_half) = (add(even, odd), sub(even, odd));
        let zero = fused(5.25, sub(x[4], x[2]), sub(x[0], x[6]));
        let infinity = fused(5.25, sub(x[3], x[5]), sub(x[7], x[1]));
        [
            zero, one, minus_one, two, minus_two, half, minus_half, infinity,
        ]
    }
}

impl<const I: usize> Transform<I, POINTS> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, x: [S::f32s; I]) -> [S::f32s; 8] {
        // scale * (the even powers' part + or - the odd ones'), for a point a and -a
        let mut points = [x[0]; 8];
        points[7] = x[I - 1];
        for (at, a, scale) in [(1, 1f32, ONE), (3, 2.0, TWO), (5, 0.5, HALF)] {
            let mut parts = [
                simd.mul_f32s(simd.splat_f32s(scale), x[0]),
                simd.splat_f32s(0.0),
            ];
            let mut power = scale;
            for j in 1..I {
                power *= a;
                parts[j % 2] = simd.mul_add_e_f32s(simd.splat_f32s(power), x[j], parts[j % 2]);
            }
            points[at] = simd.add_f32s(parts[0], parts[1]);
            points[at + 1] = simd.sub_f32s(parts[0], parts[1]);
        }
        points
    }
}

impl<const O: usize> Transform<POINTS, O> for Output {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, x: [S::f32s; 8]) -> [S::f32s; O] {
        let mut outputs = [simd.splat_f32s(0.0); O];
        let mut powers = [1f32; 3];
        let pairs = [[x[1], x[2]], [x[3], x[4]], [x[5], x[6]]];
        for (k, output) in outputs.iter_mut().enumerate() {
            for (power, [plus, minus]) in powers.iter_mut().zip(&pairs) {
                let part = if k % 2 == 0 {
                    simd.add_f32s(*plus, *minus)
                } else {
                    simd.sub_f32s(*plus, *minus)
                };
                *output = simd.mul_add_e_f32s(simd.splat_f32s(*power), part, *output);
            }
            powers[1] *= 2.0;
            powers[2] *= 0.5;
        }
        outputs[0] = simd.add_f32s(outputs[0], x[0]);
        outputs[O - 1] = simd.add_f32s(outputs[O - 1], x[7]);
        outputs
    }
}

/// Where the vectors of a grid lie: that at (y, x) is at `y * row + x * column`.
#[derive(Clone, Copy)]
struct Grid {
    row: usize,
    column: usize,
}

impl Grid {
    /// A grid of `side` cells a row, of `vectors` a cell.
    fn of(side: usize, vectors: usize) -> Self {
        Grid {
            row: side * vectors,
            column: vectors,
        }
    }
}

/// Transform a grid of vectors along both dimensions. `columns` holds it between them: the caller's, which so
/// is not cleared for each grid.
#[inline(always)]
fn transform_2d<S: Simd, T: Transform<I, O>, const I: usize, const O: usize>(
    simd: S,
    (from, from_grid): (&[S::f32s], Grid),
    (to, to_grid): (&mut [S::f32s], Grid),
    columns: &mut [[S::f32s; I]; O],
) {
    let zero = simd.splat_f32s(0.0);
    for x in 0..I {
        let mut column = [zero; I];
        for (y, cell) in column.iter_mut().enumerate() {
            *cell = from[y * from_grid.row + x * from_grid.column];
        }
        let column = T::apply(simd, column);
        for (row, cell) in columns.iter_mut().zip(&column) {
            row[x] = *cell;
        }
    }
    // By reference: an array that is moved into an iterator is copied.
    for (y, row) in columns.iter().enumerate() {
        for (x, cell) in T::apply(simd, *row).iter().enumerate() {
            to[y * to_grid.row + x * to_grid.column] = *cell;
        }
    }
}

/// The tiles of a group of images: in the transformed domain [`PLANES`] matrices of [tile, channel]. What the tiles are transformed to
/// is [tile, plane, channel], where a tile's points lie together, with some room behind them; what is transformed back, [plane,
/// tile, channel], where a product's results do.
#[derive(Clone, Copy, Debug)]
pub struct WinogradTiles {
    /// Tiles along a side of an image.
    pub side: usize,
    /// Images in a group.
    pub images: usize,
}

impl WinogradTiles {
    /// Tiles of an image.
    pub fn each(&self) -> usize {
        self.side * self.side
    }

    /// Tiles of a group: rows of a matrix.
    pub fn rows(&self) -> usize {
        self.images * self.each()
    }

    /// Cells along a side of an image with the border that the kernel reaches over: what
    /// [`WinogradTiles::inputs`] and [`WinogradTiles::gradients`] read. An odd number, as the first cache keeps few of the rows that
    /// begin a multiple of 4 KB apart.
    pub fn canvas(&self) -> usize {
        (self.outputs_side() + 2 * BORDER) | 1
    }

    /// Values from a tile's points to the next one's, of so many channels.
    pub fn tile_len(width: usize) -> usize {
        TILE_ROWS * width
    }

    /// Values of the points of a group.
    pub fn points_len(&self, width: usize) -> usize {
        self.rows() * Self::tile_len(width)
    }

    /// Cells along a side of an image that is made of whole tiles: what [`WinogradTiles::outputs`] writes.
    pub fn outputs_side(&self) -> usize {
        self.side * TILE
    }

    /// The points of what a convolution reads, for image `image` of the group; `width` is the number of channels.
    #[inline(always)]
    pub fn inputs<S: Simd>(
        &self,
        simd: S,
        width: usize,
        canvas: &[f32],
        image: usize,
        points: &mut [f32],
    ) {
        self.points::<S, Input, POINTS>(simd, 0, width, canvas, image, points);
    }

    /// The points of the gradient by a convolution's output, as a factor of that by its kernel. The canvas has
    /// the same border as that of the inputs.
    #[inline(always)]
    pub fn gradients<S: Simd>(
        &self,
        simd: S,
        width: usize,
        canvas: &[f32],
        image: usize,
        points: &mut [f32],
    ) {
        self.points::<S, Kernel, TILE>(simd, BORDER, width, canvas, image, points);
    }

    /// The points of a canvas's tiles, of `I` x `I` cells that begin `border` cells in.
    #[inline(always)]
    fn points<S: Simd, T: Transform<I, POINTS>, const I: usize>(
        &self,
        simd: S,
        border: usize,
        width: usize,
        canvas: &[f32],
        image: usize,
        points: &mut [f32],
    ) {
        let vectors = width / S::F32_LANES;
        let canvas = S::as_simd_f32s(canvas).0;
        let points = S::as_mut_simd_f32s(points).0;
        let grids = (Grid::of(self.canvas(), vectors), Grid::of(POINTS, vectors));
        let mut columns = Aligned([[simd.splat_f32s(0.0); I]; POINTS]);
        for tile in 0..self.each() {
            let y = tile / self.side * TILE + border;
            let x = tile % self.side * TILE + border;
            let from = &canvas[(y * self.canvas() + x) * vectors..];
            let row = (image * self.each() + tile) * TILE_ROWS;
            let to = &mut points[row * vectors..];
            for vector in 0..vectors {
                transform_2d::<S, T, I, POINTS>(
                    simd,
                    (&from[vector..], grids.0),
                    (&mut to[vector..], grids.1),
                    &mut columns,
                );
            }
        }
    }

    /// The outputs of image `image` of the group: [y, x, channel], [`WinogradTiles::outputs_side`] cells a side.
    #[inline(always)]
    pub fn outputs<S: Simd>(
        &self,
        simd: S,
        width: usize,
        points: &[f32],
        image: usize,
        out: &mut [f32],
    ) {
        let vectors = width / S::F32_LANES;
        let points = S::as_simd_f32s(points).0;
        let out = S::as_mut_simd_f32s(out).0;
        let planes = Grid::of(POINTS, self.rows() * vectors);
        let grids = (planes, Grid::of(self.outputs_side(), vectors));
        let mut columns = Aligned([[simd.splat_f32s(0.0); POINTS]; TILE]);
        for tile in 0..self.each() {
            let (y, x) = (tile / self.side * TILE, tile % self.side * TILE);
            let from = &points[(image * self.each() + tile) * vectors..];
            let to = &mut out[(y * self.outputs_side() + x) * vectors..];
            for vector in 0..vectors {
                transform_2d::<S, Output, POINTS, TILE>(
                    simd,
                    (&from[vector..], grids.0),
                    (&mut to[vector..], grids.1),
                    &mut columns,
                );
            }
        }
    }
}

/// Values of a tile of three channels in the transformed domain: [point, channel].
const TILE_POINTS: usize = PLANES * CHANNELS;

/// The tiles of one image of three channels. A product along so few is not worth a matrix: a tile's outputs are summed up
/// and transformed back in registers.
pub struct ImageTiles {
    /// Tiles along a side of the image.
    side: usize,
    /// The image's cells and then its points: [cell, tile and channel, padded].
    cells: Buffer,
    points: Buffer,
    /// The points as they are multiplied: [tile, point, channel].
    tiles: Vec<[f32; TILE_POINTS]>,
}

impl ImageTiles {
    /// Of images with so many tiles along a side.
    pub fn new(side: usize) -> Self {
        let len = PLANES * Self::width(side);
        ImageTiles {
            side,
            cells: Buffer::zeros(len),
            points: Buffer::stale(len),
            tiles: vec![[0.0; TILE_POINTS]; side * side],
        }
    }

    fn width(side: usize) -> usize {
        (side * side * CHANNELS).next_multiple_of(LANES)
    }

    /// Take an image with its border: [y, x, channel], `row` values a row.
    #[inline(always)]
    pub fn load<S: Simd>(&mut self, simd: S, canvas: &[f32], row: usize) {
        let width = Self::width(self.side);
        for (at, cells) in self.cells.chunks_exact_mut(width).enumerate() {
            let (y, x) = (at / POINTS, at % POINTS);
            let tiles = cells.chunks_exact_mut(self.side * CHANNELS);
            for (tile_y, tiles) in tiles.take(self.side).enumerate() {
                let from = &canvas[(tile_y * TILE + y) * row + x * CHANNELS..];
                let from = from.chunks(TILE * CHANNELS);
                for (to, from) in tiles.chunks_exact_mut(CHANNELS).zip(from) {
                    to.copy_from_slice(&from[..CHANNELS]);
                }
            }
        }
        let vectors = width / S::F32_LANES;
        let grid = Grid::of(POINTS, vectors);
        let cells = S::as_simd_f32s(&self.cells).0;
        let points = S::as_mut_simd_f32s(&mut self.points).0;
        let mut columns = Aligned([[simd.splat_f32s(0.0); POINTS]; POINTS]);
        for vector in 0..vectors {
            transform_2d::<S, Input, POINTS, POINTS>(
                simd,
                (&cells[vector..], grid),
                (&mut points[vector..], grid),
                &mut columns,
            );
        }
        for (point, values) in self.points.chunks_exact(width).enumerate() {
            let tiles = self.tiles.iter_mut().zip(values.chunks_exact(CHANNELS));
            for (tile, values) in tiles {
                tile[point * CHANNELS..][..CHANNELS].copy_from_slice(values);
            }
        }
    }

    /// The outputs of the image that was taken: [y, x, out], of kernels' points [block, point, channel, out], where a block
    /// is of [`LANES`] outs.
    #[inline(always)]
    pub fn convolve<S: Simd>(&self, simd: S, kernels: &[f32], out: &mut [f32]) {
        const BLOCK: usize = TILE_POINTS * LANES;
        let each = LANES / S::F32_LANES;
        let vectors = kernels.len() / BLOCK * each;
        let out = S::as_mut_simd_f32s(out).0;
        let zero = simd.splat_f32s(0.0);
        let mut own = Aligned([zero; TILE_POINTS]);
        let mut rows = Aligned([[[zero; POINTS]; TILE]; 2]);
        let mut outputs = Aligned([[[zero; TILE]; TILE]; 2]);
        let mut row = Aligned([[[zero; POINTS]; TILE]; 1]);
        let mut output = Aligned([[[zero; TILE]; TILE]; 1]);
        for (block, kernels) in kernels.chunks_exact(BLOCK).enumerate() {
            let kernels = S::as_simd_f32s(kernels).0;
            for vector in 0..each {
                let kernels = kernels.iter().skip(vector).step_by(each);
                own.iter_mut().zip(kernels).for_each(|(own, it)| *own = *it);
                let out = &mut out[block * each + vector..];
                // Two at a time, for which a kernel is read once.
                let mut pairs = self.tiles.chunks_exact(2);
                for (pair, tiles) in (&mut pairs).enumerate() {
                    if let [left, right] = tiles {
                        tile_outputs(simd, &own, [left, right], &mut rows, &mut outputs);
                        self.put(&outputs[0], 2 * pair, out, vectors);
                        self.put(&outputs[1], 2 * pair + 1, out, vectors);
                    }
                }
                if let [last] = pairs.remainder() {
                    tile_outputs(simd, &own, [last], &mut row, &mut output);
                    self.put(&output[0], self.tiles.len() - 1, out, vectors);
                }
            }
        }
    }

    /// Put a tile's outputs to their places; between two cells lie `vectors`.
    #[inline(always)]
    fn put<V: Copy>(&self, tile: &[[V; TILE]; TILE], at: usize, out: &mut [V], vectors: usize) {
        let (y, x) = (at / self.side * TILE, at % self.side * TILE);
        for (row, values) in tile.iter().enumerate() {
            let start = ((y + row) * self.side * TILE + x) * vectors;
            let out = &mut out[start..][..(TILE - 1) * vectors + 1];
            for (to, value) in out.iter_mut().step_by(vectors).zip(values) {
                *to = *value;
            }
        }
    }
}

/// The outputs of `N` tiles by a vector of kernels: [tile, y, x]. `rows` holds them in between, as in [`transform_2d`].
#[inline(always)]
fn tile_outputs<S: Simd, const N: usize>(
    simd: S,
    kernels: &[S::f32s; TILE_POINTS],
    tiles: [&[f32; TILE_POINTS]; N],
    rows: &mut [[[S::f32s; POINTS]; TILE]; N],
    outputs: &mut [[[S::f32s; TILE]; TILE]; N],
) {
    let zero = simd.splat_f32s(0.0);
    for x in 0..POINTS {
        let mut columns = [[zero; POINTS]; N];
        for y in 0..POINTS {
            for channel in 0..CHANNELS {
                let at = (y * POINTS + x) * CHANNELS + channel;
                for (column, tile) in columns.iter_mut().zip(tiles) {
                    let value = simd.splat_f32s(tile[at]);
                    column[y] = simd.mul_add_e_f32s(value, kernels[at], column[y]);
                }
            }
        }
        for (rows, column) in rows.iter_mut().zip(&columns) {
            let outputs: [S::f32s; TILE] = Output::apply(simd, *column);
            for (row, output) in rows.iter_mut().zip(&outputs) {
                row[x] = *output;
            }
        }
    }
    for (outputs, rows) in outputs.iter_mut().zip(&*rows) {
        for (outputs, row) in outputs.iter_mut().zip(rows) {
            *outputs = Output::apply(simd, *row);
        }
    }
}

/// Kernels [row, column, value] to their points; `stride` values lie between two points, of which the first begins
/// `points`. The number of values is a multiple of [`super::LANES`].
#[inline(always)]
pub fn kernels_to_points<S: Simd>(simd: S, kernels: &[f32], points: &mut [f32], stride: usize) {
    let vectors = kernels.len() / (KERNEL * KERNEL) / S::F32_LANES;
    let grids = (
        Grid::of(KERNEL, vectors),
        Grid::of(POINTS, stride / S::F32_LANES),
    );
    transform_kernels::<S, Kernel, KERNEL, POINTS>(
        simd,
        vectors,
        (kernels, grids.0),
        (points, grids.1),
    );
}

/// Sums of products of points to the gradient by the kernels, [row, column, value]; `stride` values lie between two points, of
/// which the first begins `points`.
#[inline(always)]
pub fn points_to_kernels<S: Simd>(simd: S, points: &[f32], stride: usize, kernels: &mut [f32]) {
    let vectors = kernels.len() / (KERNEL * KERNEL) / S::F32_LANES;
    let grids = (
        Grid::of(POINTS, stride / S::F32_LANES),
        Grid::of(KERNEL, vectors),
    );
    transform_kernels::<S, Output, POINTS, KERNEL>(
        simd,
        vectors,
        (points, grids.0),
        (kernels, grids.1),
    );
}

#[inline(always)]
fn transform_kernels<S: Simd, T: Transform<I, O>, const I: usize, const O: usize>(
    simd: S,
    vectors: usize,
    (from, from_grid): (&[f32], Grid),
    (to, to_grid): (&mut [f32], Grid),
) {
    let from = S::as_simd_f32s(from).0;
    let to = S::as_mut_simd_f32s(to).0;
    let mut columns = Aligned([[simd.splat_f32s(0.0); I]; O]);
    for vector in 0..vectors {
        transform_2d::<S, T, I, O>(
            simd,
            (&from[vector..], from_grid),
            (&mut to[vector..], to_grid),
            &mut columns,
        );
    }
}
