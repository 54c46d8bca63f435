//! Company never changes what is searched, drawn or ranked, and who goes away is worked for no longer.

use std::cell::{Cell, RefCell};

use proptest::prelude::*;

use crate::{
    Dtype, Generation, ImageInput, RowAnswer, RowError, RowInput, RowOutput, RowSink, RowTask, Sampling,
    tests::{
        generation::goldens::{Ask, GenerationGoldens, PLAIN_SAMPLING, ask_alone, ask_together, drawn},
        golden_files::{Golden, golden, goldens, key},
    },
};

/// Rows of every kind: greedy, searched, drawn and ranked.
pub(super) fn asks<'a>(golden: &'a Golden) -> Vec<Ask<'a>> {
    let expected = GenerationGoldens::of(golden);
    let samplings = [
        PLAIN_SAMPLING,
        Sampling { temperature: 0.6, top_k: 20, top_p: 1.0, seed: 2 },
        Sampling { temperature: 1.4, top_k: 0, top_p: 0.8, seed: 3 },
    ];
    let greedy = golden.cases.iter().map(|case| Ask::question(case, RowTask::GREEDY));
    let drawn = golden.cases.iter().flat_map(|case| {
        (1..).zip(samplings).map(move |(count, sampling)| {
            let options = Generation { repetition_penalty: 1.2, min_length: 3, ..drawn(sampling, count) };
            Ask::question(case, RowTask::Generate(options))
        })
    });
    let searched = expected.answers.iter().map(|expected| expected.ask(golden));
    let ranked = expected.rankings.iter().map(|expected| expected.ask(golden));
    greedy.chain(drawn).chain(searched).chain(ranked).collect()
}

pub(super) fn assert_same(together: &RowOutput, alone: &RowOutput) -> Result<(), TestCaseError> {
    match (together, alone) {
        (RowOutput::Generated(together), RowOutput::Generated(alone)) => {
            prop_assert_eq!(together.len(), alone.len());
            for (together, alone) in together.iter().zip(alone) {
                prop_assert_eq!(&together.token_ids, &alone.token_ids);
                prop_assert!((together.score - alone.score).abs() < 1e-3);
            }
        }
        (RowOutput::Ranked(together), RowOutput::Ranked(alone)) => {
            prop_assert_eq!(together.len(), alone.len());
            for (together, alone) in together.iter().zip(alone) {
                prop_assert_eq!(together.candidate, alone.candidate);
                prop_assert!((together.score - alone.score).abs() < 1e-3);
            }
        }
        other => prop_assert!(false, "{other:?}"),
    }
    Ok(())
}

#[test]
fn company_never_changes_what_is_searched_drawn_or_ranked() {
    for (offset, golden) in goldens().into_iter().enumerate() {
        let mut model = golden.model(Dtype::F32);
        // Another third of them for each checkpoint.
        let asks: Vec<Ask<'_>> = asks(&golden).into_iter().skip(offset % 3).step_by(3).collect();
        let alone: Vec<RowOutput> = asks.iter().map(|ask| ask_alone(&mut model, ask)).collect();
        let model = RefCell::new(model);
        let picks = prop::collection::vec(0..asks.len(), 2..=40);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(6));
        let outcome = runner.run(&picks, |picks| {
            let picked: Vec<Ask<'_>> = picks.iter().map(|&pick| asks[pick].clone()).collect();
            let together = ask_together(&mut model.borrow_mut(), &picked, Vec::new());
            for (outcome, &pick) in together.outcomes.iter().zip(&picks) {
                assert_same(&outcome.as_ref().unwrap().as_ref().unwrap().output, &alone[pick])?;
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{}: {outcome:?}", golden.name);
    }
}

#[test]
fn more_beams_than_are_decoded_together_change_nothing() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let options = Generation { num_beams: 16, num_sequences: 2, ..Generation::GREEDY };
    let asks: Vec<Ask<'_>> = (0..40)
        .map(|row| Ask::question(&golden.cases[row % golden.cases.len()], RowTask::Generate(options)))
        .collect();
    let together = ask_together(&mut model, &asks, Vec::new());
    for (outcome, ask) in together.outcomes.iter().zip(&asks).step_by(7) {
        let alone = ask_alone(&mut model, ask);
        assert_same(&outcome.as_ref().unwrap().as_ref().unwrap().output, &alone).unwrap();
    }
}

#[test]
fn a_cancelled_search_is_not_reported_and_the_others_are_as_ever() {
    let golden = golden("fifty_by_ten");
    let mut model = golden.model(Dtype::F32);
    let asks: Vec<Ask<'_>> = asks(&golden).into_iter().step_by(11).collect();
    let alone: Vec<RowOutput> = asks.iter().map(|ask| ask_alone(&mut model, ask)).collect();
    for cancelled in 0..asks.len() {
        let together = ask_together(&mut model, &asks, vec![cancelled]);
        for (row, outcome) in together.outcomes.iter().enumerate() {
            match outcome {
                None => assert_eq!(row, cancelled),
                Some(outcome) => assert_same(&outcome.as_ref().unwrap().output, &alone[row]).unwrap(),
            }
        }
    }
}

/// A caller who goes away when asked the `patience`-th time whether he still waits.
#[derive(Default)]
struct Impatient {
    patience: usize,
    asked: Cell<usize>,
    finished: usize,
    tokens: Vec<i64>,
}

impl RowSink for Impatient {
    fn finish(&mut self, _row: usize, _outcome: Result<RowAnswer, RowError>) {
        self.finished += 1;
    }

    fn is_cancelled(&self, _row: usize) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get() > self.patience
    }

    fn token(&mut self, _row: usize, index: usize, token: i64) {
        assert_eq!(index, self.tokens.len());
        self.tokens.push(token);
    }
}

#[test]
fn a_search_ends_when_its_caller_goes_away_between_two_steps() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let case = &golden.cases[0];
    let image = ImageInput { digest: key(&case.pixels), pixels: &case.pixels };
    let long = Generation { min_length: 12, ..Generation::GREEDY };
    let mut run = |options: Generation, patience| {
        let task = RowTask::Generate(options);
        let row = RowInput { image: Some(0), token_ids: &case.input_ids, task: &task };
        let mut caller = Impatient { patience, ..Impatient::default() };
        model.run(&[image], &[row], &mut caller).unwrap();
        caller
    };
    let beams = Generation { num_beams: 3, ..long };
    let reported = Generation { report_tokens: true, sampling: Some(PLAIN_SAMPLING), ..long };
    assert_eq!((run(beams, usize::MAX).finished, run(reported, usize::MAX).finished), (1, 1));
    let everything = run(reported, usize::MAX).tokens;
    assert!(everything.len() > 6);
    // Asked before the batch, before the pass, and after each step.
    for steps in 1..4 {
        let gone = run(reported, 1 + steps);
        assert_eq!((gone.finished, &gone.tokens[..]), (0, &everything[..steps]));
        assert_eq!(run(beams, 1 + steps).finished, 0);
    }
}

#[test]
fn tokens_of_a_single_draw_are_reported_as_they_are_chosen() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let reported = |options: Generation| RowTask::Generate(Generation { report_tokens: true, ..options });
    let asks = [
        reported(drawn(PLAIN_SAMPLING, 1)),
        reported(drawn(PLAIN_SAMPLING, 2)),
        reported(Generation { min_length: 6, ..Generation::GREEDY }),
        reported(Generation { num_beams: 2, ..Generation::GREEDY }),
    ];
    let asks = asks.map(|task| Ask::question(&golden.cases[3], task));
    let together = ask_together(&mut model, &asks, Vec::new());
    for (row, is_reported) in [true, false, true, false].into_iter().enumerate() {
        let tokens = together.tokens.iter().filter(|(of, ..)| *of == row);
        let expected = together.sequence(row).token_ids;
        let expected = expected.iter().enumerate().map(|(index, &token)| (row, index, token));
        let expected: Vec<_> = expected.filter(|_| is_reported).collect();
        assert_eq!(tokens.copied().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn decode_steps_are_those_of_all_ways_together() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let expected = GenerationGoldens::of(&golden);
    let case = &golden.cases[1];
    let (searched, ranked) = (expected.answers[0].ask(&golden), expected.rankings[0].ask(&golden));
    let asks = [Ask::question(case, RowTask::GREEDY), searched, ranked];
    let alone: Vec<u32> = asks
        .iter()
        .map(|ask| ask_together(&mut model, std::slice::from_ref(ask), Vec::new()).steps)
        .collect();
    assert!(alone.iter().all(|&steps| steps > 0));
    assert_eq!(ask_together(&mut model, &asks, Vec::new()).steps, alone.iter().sum::<u32>());
}
