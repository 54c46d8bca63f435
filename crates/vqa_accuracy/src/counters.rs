//! Accuracy averaged over questions: overall and by type.

use std::{collections::BTreeMap, fmt};

/// A running mean of accuracies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunningMean {
    sum: f64,
    /// Number of questions.
    pub questions: u32,
}

impl RunningMean {
    fn add(&mut self, accuracy: f64) {
        self.sum += accuracy;
        self.questions += 1;
    }

    /// Returns the mean accuracy in percent, or 0 without questions.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.questions == 0 { 0.0 } else { 100.0 * self.sum / f64::from(self.questions) }
    }
}

/// Mean accuracies over all questions and by the two types in the annotations of the data set.
///
/// Its text form is a table with the number of questions and the accuracy of each type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccuracyCounters {
    /// All questions.
    pub overall: RunningMean,
    /// By the type of the answer: `yes/no`, `number`, `other`.
    pub by_answer_type: BTreeMap<String, RunningMean>,
    /// By the first words of the question, such as `how many`.
    pub by_question_type: BTreeMap<String, RunningMean>,
}

impl AccuracyCounters {
    /// Adds the accuracy of one question.
    pub fn add(&mut self, accuracy: f64, answer_type: &str, question_type: &str) {
        self.overall.add(accuracy);
        self.by_answer_type.entry(answer_type.to_owned()).or_default().add(accuracy);
        self.by_question_type.entry(question_type.to_owned()).or_default().add(accuracy);
    }
}

impl fmt::Display for AccuracyCounters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<34} {:>9} {:>10}", "", "questions", "accuracy")?;
        let mut row = |name: &str, mean: &RunningMean| {
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
    fn means_are_separate_for_each_type() {
        let mut counters = AccuracyCounters::default();
        counters.add(1.0, "yes/no", "what is");
        counters.add(0.3, "number", "how many");
        counters.add(0.6, "number", "how many");
        assert_eq!((counters.overall.questions, counters.by_answer_type["number"].questions), (3, 2));
        assert!((counters.overall.percent() - 190.0 / 3.0).abs() < 1e-9);
        assert!((counters.by_answer_type["number"].percent() - 45.0).abs() < 1e-9);
        assert!((counters.by_question_type["what is"].percent() - 100.0).abs() < 1e-9);
        let table = counters.to_string();
        assert!(table.contains("answer type: number                        2     45.00%"), "{table}");
    }

    #[test]
    fn mean_without_questions_is_zero() {
        assert!(AccuracyCounters::default().overall.percent().abs() < f64::EPSILON);
    }
}
