//! Linear layers.

use std::{ops::Range, sync::PoisonError};

use cpu_kernels::{CpuLayerNorm, CpuLinear, Epilogue};

use crate::parallel::{ParallelKernels, columns::Columns, scratch::Scratch};

/// The number of rows for each thread from which threads divide the rows of a product. With fewer
/// rows, each thread would read all weights for little work. Threads then divide the columns.
const MIN_ROWS_PER_THREAD: usize = 48;

/// The number of multiplications up to which one thread is faster.
const MAX_UNDIVIDED_MULTIPLICATIONS: usize = 1 << 18;

/// Blocks of columns for each thread. With several, a thread that another process interrupts does
/// not delay the others by its whole share.
const BLOCKS_PER_THREAD: usize = 4;

impl ParallelKernels {
    /// Computes [`CpuLinear::forward`].
    pub(crate) fn linear(&self, linear: &CpuLinear, input: &[f32], out: &mut [f32], epilogue: Epilogue) {
        let (inputs, outputs, threads) = (linear.inputs(), linear.outputs(), self.workers.threads());
        let rows = input.len() / inputs;
        if threads == 1 || rows * inputs * outputs <= MAX_UNDIVIDED_MULTIPLICATIONS {
            linear.forward(input, out, epilogue);
        } else if self.divides_rows(rows) {
            self.each_part(input, inputs, out, outputs, |input, out| linear.forward(input, out, epilogue));
        } else {
            self.linear_by_columns(linear, input, out, epilogue);
        }
    }

    /// Returns whether threads divide the rows of a product.
    pub(super) fn divides_rows(&self, rows: usize) -> bool {
        let threads = self.workers.threads();
        threads > 1 && rows >= MIN_ROWS_PER_THREAD * threads
    }

    /// Calls `work` with each thread's part of the rows of `input` `[rows, inputs]` and `out`
    /// `[rows, outputs]`.
    fn each_part(
        &self,
        input: &[f32],
        inputs: usize,
        out: &mut [f32],
        outputs: usize,
        work: impl Fn(&[f32], &mut [f32]) + Sync,
    ) {
        let rows = (input.len() / inputs).div_ceil(self.workers.threads()).max(1);
        let parts = input.chunks(rows * inputs).zip(out.chunks_mut(rows * outputs));
        self.workers.each(parts, |(input, out)| work(input, out));
    }

    /// Adds the result of a layer to `out`, and normalizes it.
    pub(crate) fn linear_residual(
        &self,
        linear: &CpuLinear,
        norm: &CpuLayerNorm,
        input: &[f32],
        out: &mut [f32],
    ) {
        let (inputs, outputs) = (linear.inputs(), linear.outputs());
        if self.divides_rows(input.len() / inputs) {
            return self.each_part(input, inputs, out, outputs, |input, out| {
                linear.forward(input, out, Epilogue::Add);
                norm.forward_in_place(out);
            });
        }
        self.linear(linear, input, out, Epilogue::Add);
        norm.forward_in_place(out);
    }

    /// Computes the layer `up`, the GELU of its result and the layer `down` from `states` `[rows,
    /// hidden]`. Adds the result to `states`, and normalizes them.
    pub(crate) fn feed_forward(
        &self,
        up: &CpuLinear,
        down: &CpuLinear,
        norm: &CpuLayerNorm,
        states: &mut [f32],
    ) {
        let hidden = up.inputs();
        let rows = states.len() / hidden;
        if self.workers.threads() == 1 || self.divides_rows(rows) {
            let of_part = rows.div_ceil(self.workers.threads()).max(1) * hidden;
            return self.workers.each(states.chunks_mut(of_part), |states| {
                self.scratch.with(|Scratch { rows, inner, .. }| {
                    up.read_input(states, rows);
                    up.forward_gelu(rows, down, inner);
                    down.forward_input(inner, states, Epilogue::Add);
                    norm.forward_in_place(states);
                });
            });
        }
        let mut memory = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = memory.take(rows * up.outputs());
        self.linear(up, states, inner, Epilogue::Gelu);
        self.linear_residual(down, norm, inner, states);
    }

    /// Computes blocks of columns, each into its own memory, and then their places in `out`.
    fn linear_by_columns(&self, linear: &CpuLinear, input: &[f32], out: &mut [f32], epilogue: Epilogue) {
        let mut layer_input = self.layer_input.lock().unwrap_or_else(PoisonError::into_inner);
        linear.read_input(input, &mut layer_input);
        let (outputs, input) = (linear.outputs(), &*layer_input);
        let blocks = || linear.column_blocks(self.workers.threads() * BLOCKS_PER_THREAD);
        let rows = out.len() / outputs;
        if rows == 1 {
            let mut rest = out;
            let parts = blocks().map(|columns| {
                let (part, others) = std::mem::take(&mut rest).split_at_mut(columns.len());
                rest = others;
                (columns, part)
            });
            return self.workers.each(parts, |(columns, out)| {
                linear.forward_input_columns(input, columns, out, epilogue);
            });
        }
        let mut memory = self.column_blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = memory.take(rows * outputs);
        let mut parts = Vec::new();
        let place =
            |columns: &Range<usize>| Columns { first: columns.start, count: columns.len(), width: outputs };
        for columns in blocks() {
            let (part, others) = rest.split_at_mut(rows * columns.len());
            rest = others;
            if epilogue == Epilogue::Add {
                place(&columns).read(out, part);
            }
            parts.push((columns, part));
        }
        self.workers.each(parts.iter_mut(), |(columns, part)| {
            linear.forward_input_columns(input, columns.clone(), part, epilogue);
        });
        for (columns, part) in &parts {
            place(columns).write(part, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use cpu_kernels::NumberFormat;

    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| (((index + seed) * 7_919) % 1_009) as f32 / 504.0 - 1.0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn divided_product_is_bit_identical(
            rows in 1usize..250,
            outputs in 1usize..500,
            threads in 1usize..4,
            add in any::<bool>(),
        ) {
            let inputs = 160;
            let kernels = ParallelKernels::new(threads, NumberFormat::F32).unwrap();
            let linear =
                CpuLinear::new(&numbers(outputs * inputs, 1), &numbers(outputs, 2), inputs).unwrap();
            let input = numbers(rows * inputs, 3);
            let epilogue = if add { Epilogue::Add } else { Epilogue::Gelu };
            let mut expected = numbers(rows * outputs, 4);
            let mut found = expected.clone();
            linear.forward(&input, &mut expected, epilogue);
            kernels.linear(&linear, &input, &mut found, epilogue);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn feed_forward_is_bit_identical_to_its_layers(
            rows in 1usize..250,
            inner in 1usize..300,
            threads in 1usize..4,
            format in prop::sample::select(vec![NumberFormat::F32, NumberFormat::Bf16]),
        ) {
            let hidden = 160;
            let kernels = ParallelKernels::new(threads, format).unwrap();
            let layer = |inputs, outputs, seed| {
                let (weight, bias) = (numbers(outputs * inputs, seed), numbers(outputs, seed + 1));
                CpuLinear::with_format(&weight, &bias, inputs, format).unwrap()
            };
            let (up, down) = (layer(hidden, inner, 1), layer(inner, hidden, 3));
            let input = numbers(rows * hidden, 5);
            let mut of_up = vec![0.0; rows * inner];
            up.forward(&input, &mut of_up, Epilogue::Gelu);
            let norm = CpuLayerNorm::new(numbers(hidden, 6), numbers(hidden, 7), 1e-5);
            let (mut expected, mut found) = (input.clone(), input.clone());
            down.forward(&of_up, &mut expected, Epilogue::Add);
            norm.forward_in_place(&mut expected);
            kernels.feed_forward(&up, &down, &norm, &mut found);
            prop_assert_eq!(found, expected);
        }
    }
}
