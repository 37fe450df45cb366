"""The text encoder of CLIP (Radford et al. 2021), with the parameter names of transformers' CLIPTextModel."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from state_dict import StateDict, load_strictly


class QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": QuickGelu, "gelu": nn.GELU}


class CausalAttention(nn.Module):
    """Self-attention of tokens [B, T, W] to themselves and to those before."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, [self.num_heads, x.shape[-1] // self.num_heads]).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(self.q_proj(x)), self.heads(self.k_proj(x)), self.heads(self.v_proj(x))
        return self.out_proj(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    def __init__(self, width: int, inner: int, num_heads: int, activation: str, eps: float):
        super().__init__()
        self.self_attn = CausalAttention(width, num_heads)
        self.layer_norm1 = nn.LayerNorm(width, eps)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, inner), "activation": ACTIVATIONS[activation](), "fc2": nn.Linear(inner, width)}
        )
        self.layer_norm2 = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        h = self.layer_norm2(x)
        for layer in self.mlp.values():
            h = layer(h)
        return x + h


class Embeddings(nn.Module):
    def __init__(self, vocabulary: int, tokens: int, width: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(tokens, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]


class Encoder(nn.Module):
    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    @torch.jit.export
    def last_two(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the last layer is given, and what it makes of it."""
        before = x
        for layer in self.layers:
            before, x = x, layer(x)
        return before, x


class TextEncoder(nn.Module):
    """Tokens int64 [B, T] to the last hidden states [B, T, W]."""

    def __init__(self, embeddings: Embeddings, layers: list[nn.Module], width: int, eps: float):
        super().__init__()
        self.embeddings = embeddings
        self.encoder = Encoder(layers)
        self.final_layer_norm = nn.LayerNorm(width, eps)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.final_layer_norm(self.encoder(self.embeddings(tokens)))

    @torch.jit.export
    def penultimate(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden states before the last layer, which Stable Diffusion XL reads, and the last ones."""
        before, last = self.encoder.last_two(self.embeddings(tokens))
        return before, self.final_layer_norm(last)


# The numbers 0 to 76, which older versions of the original saved as a buffer.
NOT_WEIGHTS = ("embeddings.position_ids",)


def build_text_encoder(
    state: StateDict, head_channels: int, activation: str = "quick_gelu", eps: float = 1e-5
) -> TextEncoder:
    """The text encoder that the entries below `text_model` describe, with its weights."""
    state = StateDict({name: value for name, value in state.entries.items() if name not in NOT_WEIGHTS}, state.path)
    vocabulary, width = state.shape("embeddings.token_embedding.weight", 2)
    tokens = state.shape("embeddings.position_embedding.weight", 2)[0]
    if width % head_channels != 0:
        raise ValueError(f"the text encoder's width {width} does not divide by --head_channels {head_channels}")
    layers = state.under("encoder.layers")
    with torch.device("meta"):
        blocks = [
            EncoderLayer(width, layers.shape(f"{i}.mlp.fc1.weight", 2)[0], width // head_channels, activation, eps)
            for i in range(layers.count())
        ]
        encoder = TextEncoder(Embeddings(vocabulary, tokens, width), blocks, width, eps)
    return load_strictly(encoder, state)
