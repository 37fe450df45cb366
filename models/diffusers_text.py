"""The text encoders of diffusers' folders: transformers' CLIPTextModel, alone or with a second one that pools."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archive import blamed
from clip import ACTIVATIONS, TextEncoder, build_text_encoder
from diffusers_folder import Component, Folder, read_json
from state_dict import StateDict, load_strictly

END = 49407  # the number of <|endoftext|> in CLIP's vocabulary
LEGACY_END = 2  # eos_token_id of configs from before it was END; pooling then takes the largest number, which is END
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")


class Padding(nn.Module):
    """Tokens with their padding by the end token replaced by another."""

    def __init__(self, pad: int):
        super().__init__()
        self.pad = pad

    def forward(self, tokens: Tensor) -> Tensor:
        end = (tokens == 49407).long()
        return torch.where(end.cumsum(1) > end, torch.full_like(tokens, self.pad), tokens)


class OneText(nn.Module):
    """Tokens int64 [B, T] to the last hidden states [B, T, W]."""

    def __init__(self, encoder: TextEncoder, pad: int):
        super().__init__()
        self.encoder = encoder
        self.padding = Padding(pad)

    def fact(self) -> dict[str, Any]:
        """The fact `text`."""
        tokens, width = self.encoder.embeddings.position_embedding.weight.shape
        return {"tokens": tokens, "width": width}

    def forward(self, tokens: Tensor) -> Tensor:
        return self.encoder(self.padding(tokens))


class TwoTexts(nn.Module):
    """Stable Diffusion XL (Podell et al. 2023): both encoders' penultimate states side by side [B, T, W1 + W2], then a
    row with the second's pooled state: the projection of the last state at the end token, zeros behind."""

    def __init__(self, encoders: list[TextEncoder], pads: list[int], projection: nn.Linear, end: int):
        super().__init__()
        self.first, self.second = encoders
        self.first_padding, self.second_padding = (Padding(pad) for pad in pads)
        self.projection = projection
        self.end = end

    def fact(self) -> dict[str, Any]:
        (tokens, width), (others, other) = (
            encoder.embeddings.position_embedding.weight.shape for encoder in (self.first, self.second)
        )
        if tokens != others:
            raise ValueError(f"the two text encoders read {tokens} and {others} tokens")
        return {"tokens": tokens, "width": width + other, "rows": tokens + 1, "unconditional": "zeros"}

    def forward(self, tokens: Tensor) -> Tensor:
        first = self.first.penultimate(self.first_padding(tokens))[0]
        tokens = self.second_padding(tokens)
        second, last = self.second.penultimate(tokens)
        place = (tokens == self.end).int().argmax(1)
        pooled = self.projection(last[torch.arange(last.shape[0], device=last.device), place])
        states = torch.cat([first, second], 2)
        row = nn.functional.pad(pooled, [0, states.shape[2] - pooled.shape[1]])
        return torch.cat([states, row[:, None]], 1)


def token_content(token: Any) -> Any:
    """A token of a tokenizer's config: text, or a record with its content."""
    return token.get("content") if isinstance(token, dict) else token


def pad_token(folder: Folder, name: str) -> int:
    """The number that a tokenizer pads with; its vocabulary must be CLIP's, which the model file brings."""
    place = folder.root / name
    if not place.is_dir():
        return END
    config = read_json(place / "tokenizer_config.json") if (place / "tokenizer_config.json").exists() else {}
    kind = config.get("tokenizer_class", "CLIPTokenizer")
    if kind not in TOKENIZERS:
        raise ValueError(f"{place / 'tokenizer_config.json'} names the class {kind}: supported is {TOKENIZERS[0]}")
    special = read_json(place / "special_tokens_map.json") if (place / "special_tokens_map.json").exists() else {}
    pad = token_content(config.get("pad_token") or special.get("pad_token") or "<|endoftext|>")
    return {"!": 0, "<|endoftext|>": END, "<|startoftext|>": END - 1}.get(pad) or number_of(place, pad)


def number_of(place: Path, token: Any) -> int:
    """A token's number in the folder's vocabulary."""
    if token == "!":
        return 0
    vocabulary = json.loads((place / "vocab.json").read_text()) if (place / "vocab.json").exists() else {}
    if token not in vocabulary:
        raise ValueError(f"{place} pads with {token!r}, which its vocabulary lacks")
    return int(vocabulary[token])


def check_vocabulary(encoder: TextEncoder) -> TextEncoder:
    count = encoder.embeddings.token_embedding.num_embeddings
    if count <= END:
        raise ValueError(f"a vocabulary of {count} tokens is not CLIP's of {END + 1}, which the programs write")
    return encoder


def projection_of(state: StateDict) -> nn.Linear:
    """The linear layer that pools."""
    width, inputs = state.shape("weight", 2)
    with torch.device("meta"):
        linear = nn.Linear(inputs, width, bias=False)
    return load_strictly(linear, state)


def read_encoder(component: Component) -> tuple[TextEncoder, StateDict]:
    """An encoder, and its entries beside `text_model`."""
    with blamed(component.folder):
        return encoder_of(component)


def encoder_of(component: Component) -> tuple[TextEncoder, StateDict]:
    config, state = component.config, StateDict(component.weights())
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{component.folder}: hidden_act {activation!r} is not one of {', '.join(ACTIVATIONS)}")
    inner = state.under("text_model")
    if not inner:  # as transformers 5 names the entries
        rest = ("text_projection.", "text_model.")
        inner = StateDict({name: value for name, value in state.entries.items() if not name.startswith(rest)})
    width, heads = config.get("hidden_size", 512), config.get("num_attention_heads", 8)
    if width % heads:
        raise ValueError(f"{component.folder}: hidden_size {width} does not divide by num_attention_heads {heads}")
    encoder = build_text_encoder(inner, width // heads, activation, config.get("layer_norm_eps", 1e-5))
    if len(encoder.encoder.layers) != config.get("num_hidden_layers", 12):
        raise ValueError(
            f"{component.folder}: {len(encoder.encoder.layers)} layers in the weights, "
            f"{config.get('num_hidden_layers', 12)} in the config"
        )
    return check_vocabulary(encoder), state.under("text_projection")


def read_text(folder: Folder) -> tuple[nn.Module, dict[str, Any], list[Component]]:
    """The module from tokens to states, the fact `text`, and the components read."""
    first = folder.component("text_encoder")
    first.expect("CLIPTextModel", default="CLIPTextModel")
    encoder, _ = read_encoder(first)
    pad = pad_token(folder, "tokenizer")
    if not folder.has("text_encoder_2"):
        module: OneText | TwoTexts = OneText(encoder, pad)
        return module, module.fact(), [first]
    second = folder.component("text_encoder_2")
    second.expect("CLIPTextModelWithProjection")
    other, projection = read_encoder(second)
    end = second.config.get("eos_token_id", END)
    end, pads = END if end == LEGACY_END else end, [pad, pad_token(folder, "tokenizer_2")]
    module = TwoTexts([encoder, other], pads, projection_of(projection), end)
    fact = module.fact()
    if not folder.index.get("force_zeros_for_empty_prompt", True):
        del fact["unconditional"]
    return module, fact, [first, second]
