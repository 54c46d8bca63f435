//! Where the model looked: an attention map for each row that requests one.
//!
//! `HeldAnswers` holds the answers of these rows while their batch runs. Then `Explainer` computes
//! their maps in separate passes, and reports them. A batch without such rows does not come here.

pub(crate) mod explainer;
pub(crate) mod held_answers;
