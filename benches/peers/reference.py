"""The model of every peer: BlipForQuestionAnswering of transformers.

Images are scaled by Pillow's bicubic filter, as in the library's processor. The processor's
conversions through nested lists are omitted, because they would only slow the peers.
"""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, BlipForQuestionAnswering


class Reference:
    """The model of a checkpoint folder, on some threads of the CPU."""

    def __init__(self, folder, threads):
        torch.set_num_threads(threads)
        self.model = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        settings = json.loads((Path(folder) / "preprocessor_config.json").read_text())
        self.side = self.model.config.vision_config.image_size
        self.mean = np.array(settings["image_mean"], dtype=np.float32)
        self.deviation = np.array(settings["image_std"], dtype=np.float32)

    def pixels(self, file):
        """Returns the normalized pixels of an image file."""
        image = (
            Image.open(io.BytesIO(file))
            .convert("RGB")
            .resize((self.side, self.side), Image.Resampling.BICUBIC)
        )
        scaled = (np.asarray(image, dtype=np.float32) / 255 - self.mean) / self.deviation
        return torch.from_numpy(scaled).permute(2, 0, 1)

    @torch.inference_mode()
    def answer(self, rows):
        """Returns the answers to rows of (image file, question)."""
        pixels = torch.stack([self.pixels(file) for file, _ in rows])
        tokens = self.tokenizer([question for _, question in rows], padding=True, return_tensors="pt")
        ids = self.model.generate(
            pixel_values=pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        )
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)
