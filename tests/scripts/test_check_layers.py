"""Tests of scripts/check_layers.py on small crates in a temporary folder."""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import check_layers


class CheckLayers(unittest.TestCase):
    def crate(self, **files):
        """Returns the check of a crate whose files are paths with `__` for `/`."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        root = Path(folder.name)
        for name, text in files.items():
            path = root / "crates/x/src" / f"{name.replace('__', '/')}.rs"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check_layers.Crate(root / "crates/x/src", root)

    def assert_problems(self, crate, *parts):
        self.assertEqual(len(crate.problems), len(parts), crate.problems)
        for problem, part in zip(crate.problems, parts):
            self.assertIn(part, problem)

    def test_downward_import_is_accepted(self):
        self.assert_problems(self.crate(lib="mod a;\nmod b;", a="use crate::b::B;", b="pub struct B;"))

    def test_upward_import_is_reported_with_its_line(self):
        crate = self.crate(lib="mod a;\nmod b;", a="pub struct A;", b="\nuse crate::{\n    a::A,\n};")
        self.assert_problems(crate, "crates/x/src/b.rs:3: upward import of crate::a::A: a is listed above b")

    def test_inline_path_is_an_import(self):
        crate = self.crate(lib="mod a;\nmod b;", a="pub fn f() {}", b="fn g() { crate::a::f() }")
        self.assert_problems(crate, "b.rs:1: upward import of crate::a::f")

    def test_path_through_an_imported_module_is_an_import(self):
        crate = self.crate(lib="mod a;\nmod b;", a="pub fn f() {}", b="use crate::a;\nfn g() { a::f() }")
        self.assert_problems(crate, "b.rs:2: upward import of a::f")

    def test_reexport_resolves_to_the_defining_module(self):
        crate = self.crate(
            lib="mod a;\nmod b;\nmod c;\npub use a::A;\npub use c::*;",
            a="pub struct A;",
            b="use crate::A;\nuse crate::C;",
            c="pub struct C;",
        )
        self.assert_problems(crate, "b.rs:1: upward import of crate::A: a is listed above b")

    def test_order_within_a_folder_is_checked(self):
        crate = self.crate(
            lib="mod m;", m__mod="mod a;\nmod b;", m__a="pub struct A;", m__b="use super::a::A;"
        )
        self.assert_problems(crate, "m/b.rs:1: upward import of super::a::A: m::a is listed above m::b")

    def test_item_of_the_parent_is_accepted(self):
        self.assert_problems(self.crate(lib="mod m;", m__mod="mod a;\npub struct M;", m__a="use super::M;"))

    def test_cycle_of_parent_and_child_is_reported(self):
        crate = self.crate(lib="mod m;", m__mod="mod a;\nuse a::A;\npub struct M;", m__a="use super::M;")
        self.assert_problems(crate, "import cycle of 2 files: m/a.rs, m/mod.rs")

    def test_cycle_of_siblings_is_reported_as_cycle_and_upward(self):
        crate = self.crate(lib="mod a;\nmod b;", a="use crate::b::B; struct A;", b="use super::a::A; struct B;")
        self.assert_problems(crate, "upward import", "a.rs:1: import cycle of 2 files: a.rs, b.rs")
        self.assertEqual((crate.upward, crate.cycles), (1, [2]))

    def test_cycle_of_folders_without_a_cycle_of_files_is_reported(self):
        crate = self.crate(
            lib="mod m;\nmod b;",
            m__mod="mod c;\nmod d;",
            m__c="use crate::b::B;",
            m__d="pub struct D;",
            b="use crate::m::d::D;\npub struct B;",
        )
        self.assert_problems(crate, "upward import", "import cycle of 2 modules: b, m")

    def test_test_code_is_exempt(self):
        crate = self.crate(
            lib="mod a;\nmod b;",
            a="pub struct A;",
            b="#[cfg(test)]\nmod tests {\n use crate::a::A;\n}\n#[cfg(all(test, unix))]\nuse crate::a::A;",
        )
        self.assert_problems(crate)
        crate = self.crate(lib="mod a;\nmod b;", a="struct A;", b__mod="mod tests;", b__tests="use crate::a::A;")
        self.assert_problems(crate)

    def test_code_after_a_test_item_is_checked(self):
        crate = self.crate(
            lib="mod a;\nmod b;", a="struct A;", b="#[cfg(test)]\nfn f() { [1; 2]; }\nuse crate::a::A;"
        )
        self.assert_problems(crate, "b.rs:3: upward import")

    def test_comments_and_strings_are_no_imports(self):
        text = "// crate::a::A\n/* crate::a::A */\nconst S: &str = \"crate::a::A\";\nconst C: char = '\"';\n"
        self.assert_problems(self.crate(lib="mod a;\nmod b;", a="pub struct A;", b=text))

    def test_inline_module_resolves_super_to_its_parent(self):
        crate = self.crate(
            lib="mod a;\nmod b;", a="pub struct A;", b="struct B;\nmod c {\n use super::B;\n use super::super::a::A;\n}"
        )
        self.assert_problems(crate, "b.rs:4: upward import of super::super::a::A")

    def test_path_of_another_crate_is_no_import(self):
        text = "use tch::a::A;\nuse ::a::A as X;\nfn f() { A::new(); std::a::b(); }"
        self.assert_problems(self.crate(lib="mod a;\nmod b;", a="pub struct A;", b=text))

    def test_enum_variant_named_like_an_import_is_no_import(self):
        crate = self.crate(
            lib="mod a;\nmod b;\nmod c;",
            a="pub struct Ratio;",
            b="use crate::c::Kind;\nfn f() { Kind::Ratio; }",
            c="pub enum Kind { Ratio }",
        )
        self.assert_problems(crate)

    def test_path_attribute_is_reported(self):
        crate = self.crate(lib="mod a;", a="#[path = \"b.rs\"]\nmod b;")
        self.assert_problems(crate, "a.rs:1: #[path] attribute")

    def test_file_beside_its_folder_is_reported(self):
        crate = self.crate(lib="mod a;", a="mod b;", a__b="")
        self.assert_problems(crate, "a.rs:1: file beside the folder a/")

    def test_folder_of_fourteen_files_is_reported(self):
        files = {f"a{number}": "" for number in range(13)}
        self.assert_problems(self.crate(lib="", **files), "crates/x/src:1: 14 source files in a folder, 13 allowed")

    def test_main_reports_and_exits(self):
        crate = self.crate(lib="mod a;\nmod b;", a="use crate::b::B; struct A;", b="use super::a::A; struct B;")
        self.assertIn("1 upward imports, cycles of files: 2, 2 problems", crate.summary())
        root = ["--root", str(crate.root)]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            self.assertEqual(check_layers.main([*root, "--report"]), 0)
            self.assertEqual(check_layers.main([*root, "x"]), 1)
        self.assertEqual(output.getvalue().splitlines(), [crate.summary(), *crate.problems])


if __name__ == "__main__":
    unittest.main()
