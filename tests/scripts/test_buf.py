"""The checks of the contract detect what they are for."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASED = ROOT / "proto/released.binpb"
# The field of Answer, which is unlike that of Caption by the comment in front of it.
MARGIN = """the lead of the score over the second best score. For sampling, it is 0.
  float margin = 5;
"""


class Buf(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        shutil.copy(ROOT / "buf.yaml", self.root)
        shutil.copytree(ROOT / "proto", self.root / "proto")

    def change(self, old, new, file="proto/blip/v1/blip.proto"):
        text = (self.root / file).read_text()
        self.assertEqual(text.count(old), 1)
        (self.root / file).write_text(text.replace(old, new))

    def buf(self, command, *arguments):
        """Runs buf on the changed contract. Returns its output, which is empty on success."""
        result = subprocess.run(
            [ROOT / "scripts/buf.sh", command, self.root, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(result.returncode != 0, bool(result.stdout), result.stderr)
        return result.stdout

    def breaking(self):
        return self.buf("breaking", "--against", RELEASED)

    def test_contract_passes_both_checks(self):
        self.assertEqual(self.buf("lint"), "")
        self.assertEqual(self.breaking(), "")

    def test_removed_field_breaks_the_contract(self):
        self.change(MARGIN, "")
        self.assertIn('field "5" with name "margin" on message "Answer"', self.breaking())

    def test_changed_number_breaks_the_contract(self):
        self.change(MARGIN, MARGIN.replace("5", "55"))
        self.assertIn('"margin" on message "Answer"', self.breaking())

    def test_new_field_breaks_nothing(self):
        self.change(MARGIN, f"{MARGIN}  float added = 99;\n")
        self.assertEqual(self.breaking(), "")

    def test_name_against_the_rules_is_reported(self):
        self.change("message UnloadModelResponse {}", "message UnloadModelResponse { bool isGone = 1; }")
        self.assertIn("isGone", self.buf("lint"))

    def test_contracts_of_others_are_not_checked(self):
        file = "proto/inference/open_inference_grpc.proto"
        self.change("message ServerLiveRequest {}", "message serverLiveRequest {}", file)
        self.change("ServerLive(ServerLiveRequest)", "ServerLive(serverLiveRequest)", file)
        self.assertEqual(self.buf("lint"), "")


if __name__ == "__main__":
    unittest.main()
