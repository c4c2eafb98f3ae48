//! Whether a JPEG holds all of its pixels.
//!
//! A decoder makes up what is missing, and takes an end marker for the end wherever it comes. So the Huffman codes of
//! every scan are counted here, without computing a pixel
//! ([ITU-T T.81](https://www.w3.org/Graphics/JPEG/itu-t81.pdf), annexes B, F and G).

use std::ops::Range;

/// Coefficients of a block.
const COEFFICIENTS: usize = 64;

/// The error is what is wrong, as in "is damaged: {error}".
type Result<T> = std::result::Result<T, String>;

/// Checks the JPEG that `bytes` begin with, up to its end-of-image marker. Cameras append other files to it, a film say.
/// One that is coded otherwise than by Huffman's codes, or without its own, is not checked.
///
/// # Errors
/// If coded data of a scan are missing, or the marker. If its size, in samples of all colours, is over `max_samples`.
pub(super) fn check_whole(bytes: &[u8], max_samples: u64) -> Result<()> {
    let mut image = Image::default();
    let mut rest = bytes;
    loop {
        let marker = next_marker(&mut rest)?;
        if marker == 0xd9 {
            break;
        }
        if matches!(marker, 0x00 | 0x01 | 0xd0..=0xd8) {
            continue; // without a segment
        }
        let segment = take_segment(&mut rest)?;
        match marker {
            0xc0..=0xc2 if image.frame.is_some() => return Err("it has two sizes".into()),
            0xc0..=0xc2 => image.frame = Some(Frame::parse(segment, marker == 0xc2, max_samples)?),
            0xc4 => image.take_tables(segment)?,
            0xdd => image.restart_interval = u16_at(segment, 0)?.into(),
            0xda => {
                let scan = image.scan(segment)?;
                let parts = take_coded(&mut rest)?;
                match scan {
                    Some(scan) => image.check_scan(&scan, &parts)?,
                    None => image.frame = None,
                }
            }
            _ => {}
        }
    }
    image.frame.map_or(Ok(()), |frame| frame.check_precision())
}

fn cut() -> String {
    "it ends before its end-of-image marker".into()
}

fn byte(segment: &[u8], at: usize) -> Result<u8> {
    let byte = segment.get(at).copied();
    byte.ok_or_else(|| "a segment of its header is too short".into())
}

fn u16_at(segment: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_be_bytes([
        byte(segment, at)?,
        byte(segment, at + 1)?,
    ]))
}

/// The next marker's second byte. Other bytes before it, and any number of 0xff, are harmless.
fn next_marker(rest: &mut &[u8]) -> Result<u8> {
    let begin = rest.iter().position(|&byte| byte == 0xff).ok_or_else(cut)?;
    let fill = rest[begin..].iter().take_while(|&&byte| byte == 0xff);
    let at = begin + fill.count();
    let marker = *rest.get(at).ok_or_else(cut)?;
    *rest = &rest[at + 1..];
    Ok(marker)
}

/// What follows a marker, without the two bytes of its length, which count themselves.
fn take_segment<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = usize::from(u16_at(rest, 0).map_err(|_| cut())?);
    let segment = rest.get(2..length.max(2)).ok_or_else(cut)?;
    *rest = &rest[length.max(2)..];
    Ok(segment)
}

/// The coded data of a scan, in parts at its restart markers. What is left begins with the marker behind them.
fn take_coded<'a>(rest: &mut &'a [u8]) -> Result<Vec<&'a [u8]>> {
    let coded: &'a [u8] = rest;
    let mut parts = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while let Some(pair) = coded.get(at..at + 2) {
        match (pair[0], pair[1]) {
            (0xff, 0x00) => at += 2, // a byte 0xff of the data
            (0xff, restart @ 0xd0..=0xd7) => {
                if usize::from(restart & 7) != parts.len() % 8 {
                    return Err("its restart markers are out of order".into());
                }
                parts.push(&coded[begin..at]);
                at += 2;
                begin = at;
            }
            (0xff, 0xff) => at += 1,
            (0xff, _) => break,
            _ => at += 1,
        }
    }
    if at + 1 == coded.len() {
        at += 1; // no marker comes
    }
    parts.push(&coded[begin..at]);
    *rest = &coded[at..];
    Ok(parts)
}

/// What the segments before a scan say.
#[derive(Default)]
struct Image {
    frame: Option<Frame>,
    dc_tables: [Option<HuffmanTable>; 4],
    ac_tables: [Option<HuffmanTable>; 4],
    /// Units of a scan between two restart markers; 0 is all of them.
    restart_interval: usize,
}

struct Frame {
    progressive: bool,
    components: Vec<Component>,
    /// How many units of all components the image has across and down.
    units: (usize, usize),
}

/// One colour.
struct Component {
    id: u8,
    /// Blocks of a unit of all components.
    blocks_of_unit: usize,
    /// Blocks that hold pixels, across and down: a scan of this component alone has no others.
    blocks: (usize, usize),
    /// Which coefficients of each block are not zero, one bit each. Of a progressive image: its refinements have a bit
    /// for each of them.
    nonzero: Vec<u64>,
    /// How many low bits of each coefficient are still to come, once it has begun.
    low_bits: [Option<u8>; COEFFICIENTS],
}

struct Scan {
    /// Indices of the frame's components, with the numbers of their tables.
    components: Vec<(usize, usize, usize)>,
    /// The coefficients.
    band: Range<usize>,
    /// Whether the coefficients were begun by an earlier scan.
    refines: bool,
    low_bits: u8,
}

impl Frame {
    fn parse(segment: &[u8], progressive: bool, max_samples: u64) -> Result<Frame> {
        let height = usize::from(u16_at(segment, 1)?);
        let width = usize::from(u16_at(segment, 3)?);
        let count = usize::from(byte(segment, 5)?);
        if (width * height * count) as u64 > max_samples {
            return Err("it has two sizes".into()); // the first one was checked
        }
        let factors = |index| -> Result<(usize, usize)> {
            let factors = byte(segment, 7 + 3 * index)?;
            let (across, down) = (usize::from(factors >> 4), usize::from(factors & 15));
            match (1..=4).contains(&across) && (1..=4).contains(&down) {
                true => Ok((across, down)),
                false => Err(format!("got the sampling factors {across} and {down}")),
            }
        };
        let all = (0..count).map(factors).collect::<Result<Vec<_>>>()?;
        let max_across = all.iter().map(|&(across, _)| across).max().unwrap_or(1);
        let max_down = all.iter().map(|&(_, down)| down).max().unwrap_or(1);
        let mut components = Vec::new();
        for (index, (across, down)) in all.into_iter().enumerate() {
            let blocks = (
                (width * across).div_ceil(max_across).div_ceil(8),
                (height * down).div_ceil(max_down).div_ceil(8),
            );
            let nonzero = match progressive {
                true => vec![0; blocks.0 * blocks.1],
                false => Vec::new(),
            };
            components.push(Component {
                id: byte(segment, 6 + 3 * index)?,
                blocks_of_unit: across * down,
                blocks,
                nonzero,
                low_bits: [None; COEFFICIENTS],
            });
        }
        Ok(Frame {
            progressive,
            components,
            units: (
                width.div_ceil(8 * max_across),
                height.div_ceil(8 * max_down),
            ),
        })
    }

    /// That every component has come, with all bits of each coefficient that was begun.
    fn check_precision(&self) -> Result<()> {
        let lacks = |component: &Component| {
            let begun = component.low_bits.iter().flatten();
            component.low_bits[0].is_none() || begun.copied().any(|bits| bits > 0)
        };
        match self.components.iter().any(lacks) {
            true => Err("scans are missing".into()),
            false => Ok(()),
        }
    }
}

impl Image {
    /// Huffman tables: for each a byte of class and number, 16 numbers of codes by length, and their symbols.
    fn take_tables(&mut self, mut segment: &[u8]) -> Result<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let counts: &[u8; 16] = rest.first_chunk().ok_or("a table of codes is too short")?;
            let symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let symbols = rest.get(16..16 + symbols);
            let symbols = symbols.ok_or("a table of codes is too short")?;
            let tables = match head >> 4 {
                0 => &mut self.dc_tables,
                _ => &mut self.ac_tables,
            };
            let table = tables.get_mut(usize::from(head & 15));
            *table.ok_or("a table of codes has a number over 3")? =
                Some(HuffmanTable::new(counts, symbols));
            segment = &rest[16 + symbols.len()..];
        }
        Ok(())
    }

    /// A scan's header; `None` if it cannot be checked.
    fn scan(&mut self, segment: &[u8]) -> Result<Option<Scan>> {
        let Some(frame) = &self.frame else {
            return Ok(None);
        };
        let count = usize::from(byte(segment, 0)?);
        let mut components = Vec::new();
        for index in 0..count {
            let id = byte(segment, 1 + 2 * index)?;
            let tables = usize::from(byte(segment, 2 + 2 * index)?);
            let known = frame.components.iter().position(|known| known.id == id);
            let component = known.ok_or("a scan is of a colour that there is not")?;
            components.push((component, tables >> 4, tables & 15));
        }
        let band = byte(segment, 1 + 2 * count)?..byte(segment, 2 + 2 * count)?;
        let bits = byte(segment, 3 + 2 * count)?;
        let scan = match frame.progressive {
            false => Scan {
                components,
                band: 0..COEFFICIENTS,
                refines: false,
                low_bits: 0,
            },
            true => Scan {
                components,
                band: band.start.into()..usize::from(band.end) + 1,
                refines: bits >> 4 > 0,
                low_bits: bits & 15,
            },
        };
        let is_ac = scan.band.start > 0;
        if scan.components.is_empty()
            || scan.band.is_empty()
            || scan.band.end > COEFFICIENTS
            || is_ac && scan.components.len() > 1
        {
            return Err("a scan's header is damaged".into());
        }
        let has = |tables: &[Option<_>; 4], at: usize| matches!(tables.get(at), Some(Some(_)));
        let needs_dc = !is_ac && !scan.refines;
        let needs_ac = is_ac || !frame.progressive;
        let mut tables = scan.components.iter();
        let has_all = tables.all(|&(_, dc, ac)| {
            (!needs_dc || has(&self.dc_tables, dc)) && (!needs_ac || has(&self.ac_tables, ac))
        });
        Ok(has_all.then_some(scan))
    }

    /// That a scan has all of its blocks, in `parts` at its restart markers.
    fn check_scan(&mut self, scan: &Scan, parts: &[&[u8]]) -> Result<()> {
        let Some(frame) = &mut self.frame else {
            return Ok(());
        };
        let alone = scan.components.len() == 1;
        let (across, down) = match alone {
            true => frame.components[scan.components[0].0].blocks,
            false => frame.units,
        };
        let units = across * down;
        let interval = match self.restart_interval {
            0 => units,
            interval => interval,
        };
        let mut parts = parts.iter();
        let mut bits = Bits::new(&[]);
        let mut end_of_band = 0;
        for unit in 0..units {
            let missing = || {
                format!(
                    "its coded pixels end, or are no code, after {unit} of {units} blocks of a scan"
                )
            };
            if unit % interval == 0 {
                bits.check_padding()?;
                bits = Bits::new(parts.next().ok_or_else(missing)?);
                end_of_band = 0;
            }
            for &(index, dc, ac) in &scan.components {
                let component = &mut frame.components[index];
                let tables = (
                    self.dc_tables.get(dc).and_then(Option::as_ref),
                    self.ac_tables.get(ac).and_then(Option::as_ref),
                );
                let blocks = match alone {
                    true => 1,
                    false => component.blocks_of_unit,
                };
                for _ in 0..blocks {
                    let skipped = match (frame.progressive, scan.band.start, scan.refines, tables) {
                        (false, _, _, (Some(dc), Some(ac))) => sequential_block(&mut bits, dc, ac),
                        (true, 0, false, (Some(dc), _)) => bits.skip_dc(dc),
                        (true, 0, true, _) => bits.skip(1),
                        (true, _, _, (_, Some(ac))) => {
                            let nonzero = &mut component.nonzero[unit];
                            band(&mut bits, ac, scan, nonzero, &mut end_of_band)
                        }
                        _ => Some(()), // without tables, which `scan` has seen to
                    };
                    skipped.ok_or_else(missing)?;
                }
            }
        }
        bits.check_padding()?;
        for part in parts {
            Bits::new(part).check_padding()?;
        }
        for &(index, ..) in &scan.components {
            // A first scan of DC has no other coefficient, whatever its header says.
            let band = match (frame.progressive, scan.band.start) {
                (true, 0) => 0..1,
                _ => scan.band.clone(),
            };
            frame.components[index].low_bits[band].fill(Some(scan.low_bits));
        }
        Ok(())
    }
}

/// Skips a block of a sequential image; `None` if the data end before, or hold what is no code.
fn sequential_block(bits: &mut Bits, dc: &HuffmanTable, ac: &HuffmanTable) -> Option<()> {
    bits.skip_dc(dc)?;
    let mut at = 1;
    while at < COEFFICIENTS {
        let (zeros, size) = bits.run_and_size(ac)?;
        match (zeros, size) {
            (15, 0) => at += 16,
            (_, 0) => break,
            _ => {
                bits.skip(size)?;
                at += zeros + 1;
            }
        }
    }
    Some(())
}

/// Skips a block's band of coefficients in a scan of a progressive image. `end_of_band` is for how many blocks, from this
/// one on, nothing but refinements comes.
fn band(
    bits: &mut Bits,
    ac: &HuffmanTable,
    scan: &Scan,
    nonzero: &mut u64,
    end_of_band: &mut u32,
) -> Option<()> {
    let end = scan.band.end;
    let mut at = scan.band.start;
    while *end_of_band == 0 && at < end {
        let (mut zeros, size) = bits.run_and_size(ac)?;
        if size == 0 && zeros < 15 {
            *end_of_band = (1 << zeros) + bits.take(zeros)?;
            break;
        }
        bits.skip(size)?;
        // So many that are zero are passed over; of the others comes a bit each.
        while at < end {
            if scan.refines && *nonzero >> at & 1 == 1 {
                bits.skip(1)?;
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            at += 1;
        }
        if size > 0 && at < end {
            *nonzero |= 1 << at;
        }
        at += 1;
    }
    if *end_of_band > 0 {
        let refined = match scan.refines {
            true => (at..end).filter(|at| *nonzero >> at & 1 == 1).count(),
            false => 0,
        };
        bits.skip(refined)?;
        *end_of_band -= 1;
    }
    Some(())
}

/// Codes of 1 to 16 bits, those of one length in the order of their symbols.
struct HuffmanTable {
    /// For each length the first code that is longer, in 16 bits from the left.
    limits: [u32; 16],
    /// For each length what a code's number differs from its symbol's place.
    offsets: [i32; 16],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Self {
        let (mut limits, mut offsets) = ([0; 16], [0; 16]);
        let (mut code, mut place) = (0_u32, 0);
        for (index, &count) in counts.iter().enumerate() {
            offsets[index] = place - code as i32;
            code += u32::from(count);
            place += i32::from(count);
            limits[index] = code << (15 - index);
            code <<= 1;
        }
        HuffmanTable {
            limits,
            offsets,
            symbols: symbols.to_vec(),
        }
    }
}

/// The bits of coded data.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Those read ahead, from the left.
    ahead: u64,
    count: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Bits {
            bytes,
            ahead: 0,
            count: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 56
            && let Some((&byte, rest)) = self.bytes.split_first()
        {
            self.bytes = match byte {
                0xff => rest.get(1..).unwrap_or_default(), // without the zero behind it
                _ => rest,
            };
            self.ahead |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next bits, at most 32; `None` if there are not so many left.
    fn take(&mut self, count: usize) -> Option<u32> {
        if self.count < count {
            self.fill();
        }
        if count == 0 || self.count < count {
            return (count == 0).then_some(0);
        }
        let bits = self.ahead >> (64 - count);
        self.ahead <<= count;
        self.count -= count;
        Some(bits as u32) // at most 32
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        for _ in 0..count / 32 {
            self.take(32)?;
        }
        self.take(count % 32).map(drop)
    }

    /// The symbol of the next code.
    fn symbol(&mut self, table: &HuffmanTable) -> Option<u8> {
        if self.count < 16 {
            self.fill();
        }
        let next = (self.ahead >> 48) as u32; // 16 bits
        let index = table.limits.iter().position(|&limit| next < limit)?;
        self.skip(index + 1)?;
        let place = (next >> (15 - index)) as i32 + table.offsets[index];
        table.symbols.get(usize::try_from(place).ok()?).copied()
    }

    /// That nothing is left but what fills the last byte, or whole bytes of zeros or ones, which are harmless.
    fn check_padding(&mut self) -> Result<()> {
        let _ = self.take(self.count % 8);
        while let Some(byte) = self.take(8) {
            if !matches!(byte, 0 | 0xff) {
                return Err("it has more coded data than pixels".into());
            }
        }
        Ok(())
    }

    /// How many zeros come before the next coefficient, and how many bits it has.
    fn run_and_size(&mut self, ac: &HuffmanTable) -> Option<(usize, usize)> {
        let symbol = usize::from(self.symbol(ac)?);
        Some((symbol >> 4, symbol & 15))
    }

    /// Skips a first coefficient: the code of its size, and so many bits.
    fn skip_dc(&mut self, dc: &HuffmanTable) -> Option<()> {
        let size = self.symbol(dc)?;
        self.skip(size.min(16).into())
    }
}
