"""A vision-language model small enough to be made in a test: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<pad>", "<s>", "</s>", "<image>"]
PAD, START, END, IMAGE = range(4)
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}:{% endif %}"
)


def save_vlm(folder: Path, says: str | None = None, template: str | None = TEMPLATE) -> None:
    """Makes a Llava model with random weights, and saves it with its processor as a repository of the hub holds it.

    Args:
        folder: Where to.
        says: What it answers to everything; None: what its random weights make it say.
        template: Its chat template.
    """
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *([says] if says else [])]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if says:
        tokenizer.add_tokens([says])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )
    model = _model(len(words), width=len(words) + len(words) % 2 if says else 16)
    if says:
        _teach(model, {words.index(":"): words.index(says), words.index(says): END})
    model.save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.LlavaProcessor(
        image_processor=images,
        tokenizer=fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def _model(words: int, width: int) -> transformers.LlavaForConditionalGeneration:
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = transformers.LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
    )
    config = transformers.LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    torch.manual_seed(0)
    return transformers.LlavaForConditionalGeneration(config)


def _teach(model: transformers.LlavaForConditionalGeneration, follows: dict[int, int]) -> None:
    """Makes each word follow another one: a word is a unit vector, and nothing but the last one counts."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "language_model.layers" in name and "norm" not in name:
                parameter.zero_()
        embedding = model.get_input_embeddings().weight
        embedding.copy_(torch.eye(*embedding.shape))
        head = model.get_output_embeddings().weight
        head.zero_()
        for word, following in follows.items():
            head[following, word] = 10.0
