//! Products with the tile instructions of AMX.
//!
//! The compiler has no stable functions for them, so they are written in assembly. It does not use
//! the tile registers itself.
#![expect(unsafe_code, reason = "executes instructions whose presence was detected")]

use std::{
    arch::{asm, x86_64::__cpuid_count},
    marker::PhantomData,
    sync::OnceLock,
};

use super::layout::{Line, PANEL_COLUMNS, PanelTile, SumRows, TILE_ROWS, Tile, TileFormat};

/// The bits of the processor's features (leaf 7 of `cpuid`, register EDX).
const HAS_BF16: u32 = 1 << 22;
const HAS_TILES: u32 = 1 << 24;
const HAS_INT8: u32 = 1 << 25;

/// Proof that this process may use the tile instructions of a format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amx(());

impl Amx {
    /// Returns `None` if the processor or the operating system lacks the instructions.
    pub(super) fn try_new(format: TileFormat) -> Option<Self> {
        static FEATURES: OnceLock<u32> = OnceLock::new();
        let needed = match format {
            TileFormat::Bf16 => HAS_BF16,
            TileFormat::Int8 => HAS_INT8,
        };
        (FEATURES.get_or_init(usable_features) & needed != 0).then_some(Self(()))
    }

    /// Prepares the tile registers of the current thread, until the result is dropped.
    pub(super) fn prepare(self) -> AmxTiles {
        // SAFETY: an `Amx` proves the instruction. The operand has the size and the layout that the
        // instruction reads.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const TILE_CONFIG, options(nostack, readonly)) };
        AmxTiles(PhantomData)
    }
}

/// Returns the bits of the usable formats.
fn usable_features() -> u32 {
    if __cpuid_count(0, 0).eax < 7 {
        return 0;
    }
    let features = __cpuid_count(7, 0).edx;
    if features & HAS_TILES != 0 && is_permitted() { features } else { 0 }
}

/// Asks the operating system for the tile registers, for all threads of this process.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call has no memory operands. An unknown request is an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row of each register.
    row_bytes: [u16; 16],
    /// Rows of each register.
    rows: [u8; 16],
}

/// Eight registers of 16 rows, a line each.
static TILE_CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Prepared tile registers of the current thread. Only one may exist on a thread at a time.
#[derive(Debug)]
pub(super) struct AmxTiles(PhantomData<*const ()>);

impl Drop for AmxTiles {
    fn drop(&mut self) {
        // SAFETY: `self` comes from `Amx::prepare`.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

/// The loop over the lines of a block: `$first` multiplies one tile of rows, `$second` another one.
macro_rules! multiply {
    ($instruction:literal, $first:ident, $second:ident, $panel:ident, $steps:ident, $next:ident, $lines:ident, $sums:ident, $row_bytes:ident) => {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{first} + {line}]",
            "tileloadd tmm6, [{panel} + {panel_line}]",
            "tileloadd tmm7, [{panel} + {panel_line} + 64]",
            concat!($instruction, " tmm0, tmm4, tmm6"),
            concat!($instruction, " tmm1, tmm4, tmm7"),
            "tileloadd tmm5, [{second} + {line}]",
            concat!($instruction, " tmm2, tmm5, tmm6"),
            concat!($instruction, " tmm3, tmm5, tmm7"),
            "add {first}, 1024", "add {second}, 1024", "add {panel}, 2048",
            "mov {left}, {lines}",
            "3:",
            "prefetcht1 [{next}]",
            "add {next}, 64",
            "dec {left}",
            "jnz 3b",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {sums_row}], tmm0",
            "tilestored [{sums} + {sums_row} + 64], tmm1",
            "tilestored [{second_sums} + {sums_row}], tmm2",
            "tilestored [{second_sums} + {sums_row} + 64], tmm3",
            first = inout(reg) $first.as_ptr() => _,
            second = inout(reg) $second.as_ptr() => _,
            panel = inout(reg) $panel.as_ptr() => _,
            steps = inout(reg) $steps => _,
            next = inout(reg) $next.as_ptr() => _,
            lines = in(reg) $lines,
            left = out(reg) _,
            sums = in(reg) $sums,
            second_sums = in(reg) $sums.wrapping_byte_add(TILE_ROWS * $row_bytes),
            sums_row = in(reg) $row_bytes,
            line = in(reg) 64usize,
            panel_line = in(reg) 128usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
    ($instruction:literal, $first:ident, $panel:ident, $steps:ident, $next:ident, $lines:ident, $sums:ident, $row_bytes:ident) => {
        asm!(
            "tilezero tmm0", "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{first} + {line}]",
            "tileloadd tmm6, [{panel} + {panel_line}]",
            "tileloadd tmm7, [{panel} + {panel_line} + 64]",
            concat!($instruction, " tmm0, tmm4, tmm6"),
            concat!($instruction, " tmm1, tmm4, tmm7"),
            "add {first}, 1024", "add {panel}, 2048",
            "mov {left}, {lines}",
            "3:",
            "prefetcht1 [{next}]",
            "add {next}, 64",
            "dec {left}",
            "jnz 3b",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {sums_row}], tmm0",
            "tilestored [{sums} + {sums_row} + 64], tmm1",
            first = inout(reg) $first.as_ptr() => _,
            panel = inout(reg) $panel.as_ptr() => _,
            steps = inout(reg) $steps => _,
            next = inout(reg) $next.as_ptr() => _,
            lines = in(reg) $lines,
            left = out(reg) _,
            sums = in(reg) $sums,
            sums_row = in(reg) $row_bytes,
            line = in(reg) 64usize,
            panel_line = in(reg) 128usize,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

impl AmxTiles {
    /// Multiplies one or two tiles of rows by a panel. Writes sums in f32 or in integers.
    ///
    /// `first` and `second` have the lines of their rows. `second` may be empty. All have the
    /// length of `panel`, at least 1. `next` is loaded into the second cache meanwhile. `sums` has
    /// room for 16 rows of each tile.
    pub(super) fn multiply(
        &self,
        format: TileFormat,
        [first, second]: [&[Tile]; 2],
        panel: &[PanelTile],
        next: &[PanelTile],
        sums: SumRows<'_>,
    ) {
        const { assert!(TILE_ROWS == 16 && size_of::<Tile>() == 1024 && size_of::<PanelTile>() == 2048) };
        let steps = panel.len().min(first.len());
        let has_second = second.len() >= steps;
        let (rows, SumRows { numbers, stride }) = (if has_second { 2 * TILE_ROWS } else { TILE_ROWS }, sums);
        let has_room = numbers.len() >= (rows - 1) * stride + PANEL_COLUMNS;
        debug_assert!(has_room, "{rows} rows of {stride} in {}", numbers.len());
        if steps == 0 || !has_room {
            return;
        }
        let (sums, row_bytes) = (numbers.as_mut_ptr(), stride * size_of::<f32>());
        // The loop prefetches at least one line in each step.
        let lines = (size_of_val(next) / size_of::<Line>()).div_ceil(steps).max(1);
        // SAFETY: `self` proves prepared registers. The loop reads `steps` tiles of `first` and of
        // `panel`, and of `second` if it has as many. It writes 16 or 32 rows of `sums`. Each is
        // within its slice. A prefetch of any address has no effect but on the cache.
        unsafe {
            match (format, has_second) {
                (TileFormat::Bf16, true) => {
                    multiply!("tdpbf16ps", first, second, panel, steps, next, lines, sums, row_bytes)
                }
                (TileFormat::Int8, true) => {
                    multiply!("tdpbusd", first, second, panel, steps, next, lines, sums, row_bytes)
                }
                (TileFormat::Bf16, false) => {
                    multiply!("tdpbf16ps", first, panel, steps, next, lines, sums, row_bytes)
                }
                (TileFormat::Int8, false) => {
                    multiply!("tdpbusd", first, panel, steps, next, lines, sums, row_bytes)
                }
            }
        }
    }
}
