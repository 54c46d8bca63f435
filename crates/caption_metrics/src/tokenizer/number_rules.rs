//! Numbers, fractions, telephone numbers and currencies.

use crate::tokenizer::{
    patterns::digit,
    rule::{Form, Rule},
};

pub(crate) fn number_rules() -> Vec<Rule> {
    let digit = digit();
    let telephone = concat!(
        r"(?:\([0-9]{2,3}\)[ \x{A0}]?|(?:\+\+?)?(?:[0-9]{2,4}[- \x{A0}])?[0-9]{2,4}[- \x{A0}])",
        r"[0-9]{3,4}[- \x{A0}]?[0-9]{3,5}",
    );
    let fraction = r"(?:[0-9]{1,4}[- \x{A0}])?[0-9]{1,4}(?:\\?/|\x{2044})[0-9]{1,4}";
    vec![
        Rule::new(format!(r"[+-]?(?:{digit}+|{digit}*(?:[.:,\x{{AD}}\x{{66B}}\x{{66C}}]{digit}+)+)")),
        Rule::new(fraction).form(Form::Joined),
        Rule::new(telephone).form(Form::Joined),
        Rule::new("¼").form(Form::Fixed("1/4")),
        Rule::new("½").form(Form::Fixed("1/2")),
        Rule::new("¾").form(Form::Fixed("3/4")),
        Rule::new("⅓").form(Form::Fixed("1/3")),
        Rule::new("⅔").form(Form::Fixed("2/3")),
        Rule::new(r"[A-Z]*\$|#"),
        Rule::new(r"[\x{80}\x{A4}\x{20A0}\x{20AC}]").form(Form::Fixed("$")),
        Rule::new("¢").form(Form::Fixed("cents")),
        Rule::new("£").form(Form::Fixed("#")),
    ]
}
