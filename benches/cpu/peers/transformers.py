"""`transformers` as it comes, except that the features of an image are computed once and stored."""

import torch
import transformers

from peers import torch_formats
from sizes import ANSWER_TOKENS


class Peer:
    version = f"transformers {transformers.__version__}, torch {torch.__version__}"

    def __init__(self, folder, images, texts, threads):
        torch.set_num_threads(threads)
        self.dtype = torch_formats.dtype(images, texts)
        model = transformers.BlipForQuestionAnswering.from_pretrained(folder / "model", dtype=self.dtype)
        self.model = model.eval()

    @torch.inference_mode()
    def encode(self, pixels):
        return self.model.vision_model(pixel_values=torch.from_numpy(pixels).to(self.dtype))[0]

    @torch.inference_mode()
    def ask(self, features, token_ids):
        features = features.repeat_interleave(token_ids.shape[1], 0)
        token_ids = torch.from_numpy(token_ids).flatten(0, 1)
        (question,) = self.model.text_encoder(
            input_ids=token_ids,
            attention_mask=torch.ones_like(token_ids),
            encoder_hidden_states=features,
            encoder_attention_mask=torch.ones(features.shape[:-1], dtype=torch.long),
            return_dict=False,
        )[:1]
        answers = self.model.text_decoder.generate(
            input_ids=torch.full((len(token_ids), 1), self.model.decoder_start_token_id),
            eos_token_id=self.model.config.text_config.sep_token_id,
            pad_token_id=self.model.config.text_config.pad_token_id,
            encoder_hidden_states=question,
            encoder_attention_mask=torch.ones_like(token_ids),
            max_new_tokens=ANSWER_TOKENS,
        )
        return answers[:, 1:]
