//! Many questions: means over all of them and over each type.

use std::{collections::BTreeMap, fmt};

/// A running mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    /// Questions that were counted.
    pub questions: u32,
}

impl Mean {
    fn add(&mut self, accuracy: f64) {
        self.sum += accuracy;
        self.questions += 1;
    }

    /// Of the accuracies, in percent; 0 of none.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.questions == 0 { 0.0 } else { 100.0 * self.sum / f64::from(self.questions) }
    }
}

/// Accuracies of questions, over all and by the two types that annotations give to each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Over all questions.
    pub overall: Mean,
    /// By what the answer is: `yes/no`, `number`, `other`.
    pub by_answer_type: BTreeMap<String, Mean>,
    /// By how the question begins, such as `how many`.
    pub by_question_type: BTreeMap<String, Mean>,
}

impl Tally {
    /// Counts one question.
    pub fn add(&mut self, accuracy: f64, answer_type: &str, question_type: &str) {
        self.overall.add(accuracy);
        self.by_answer_type.entry(answer_type.to_owned()).or_default().add(accuracy);
        self.by_question_type.entry(question_type.to_owned()).or_default().add(accuracy);
    }
}

/// A table for people: a line for each type, with its questions and its accuracy in percent.
impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<34} {:>9} {:>10}", "", "questions", "accuracy")?;
        let mut row = |name: &str, mean: &Mean| {
            writeln!(formatter, "{name:<34} {:>9} {:>9.2}%", mean.questions, mean.percent())
        };
        row("overall", &self.overall)?;
        for (kind, means) in [("answer", &self.by_answer_type), ("question", &self.by_question_type)] {
            for (name, mean) in means {
                row(&format!("{kind} type: {name}"), mean)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_mean_of_its_own_beside_the_mean_of_all() {
        let mut tally = Tally::default();
        tally.add(1.0, "yes/no", "is there");
        tally.add(0.3, "number", "how many");
        tally.add(0.6, "number", "how many");
        assert_eq!((tally.overall.questions, tally.by_answer_type["number"].questions), (3, 2));
        assert!((tally.overall.percent() - 190.0 / 3.0).abs() < 1e-9);
        assert!((tally.by_answer_type["number"].percent() - 45.0).abs() < 1e-9);
        assert!((tally.by_question_type["is there"].percent() - 100.0).abs() < 1e-9);
        let table = tally.to_string();
        assert!(table.contains("answer type: number                        2     45.00%"), "{table}");
    }

    #[test]
    fn no_question_is_no_accuracy() {
        assert!(Tally::default().overall.percent().abs() < f64::EPSILON);
    }
}
