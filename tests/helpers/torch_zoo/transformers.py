"""Transformers: PyTorch's own layers, GPT, BERT, DistilBERT, Llama, T5's decoder."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.recurrent import tokens
from helpers.torch_zoo.registry import model

TOKENS = ("cross_softmax", {"per_token": True})


class PositionalEncoding(nn.Module):
    """Sines in a buffer, as in PyTorch's tutorial, with the batch in front."""

    def __init__(self, dim, dropout=0.1, max_len=32):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        pe = torch.zeros(1, max_len, dim)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        x = x + self.pe[:, : x.size(1)]
        return self.dropout(x)


class EncoderClassifier(nn.Module):
    def __init__(self, vocabulary=40, dim=16, classes=4, norm_first=False):
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(vocabulary, dim)
        self.pos_encoder = PositionalEncoding(dim)
        layer = nn.TransformerEncoderLayer(
            dim, 4, 32, dropout=0.1, batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(
            layer, num_layers=2, enable_nested_tensor=False
        )
        self.fc = nn.Linear(dim, classes)

    def forward(self, src):
        x = self.embedding(src) * math.sqrt(self.dim)
        x = self.encoder(self.pos_encoder(x))
        return self.fc(x.mean(dim=1))


class CausalLanguageModel(nn.Module):
    """`nn.TransformerEncoder` under a square mask, as in PyTorch's tutorial."""

    def __init__(self, vocabulary=30, dim=16, steps=8):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.positions = nn.Embedding(steps, dim)
        layer = nn.TransformerEncoderLayer(
            dim,
            2,
            32,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, 1, norm=nn.LayerNorm(dim), enable_nested_tensor=False
        )
        self.register_buffer(
            "mask", nn.Transformer.generate_square_subsequent_mask(steps)
        )
        self.head = nn.Linear(dim, vocabulary)

    def forward(self, src):
        positions = torch.arange(src.size(1), device=src.device)
        x = self.embedding(src) + self.positions(positions)
        return self.head(self.encoder(x, mask=self.mask, is_causal=True))


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` by itself, with a residual and a norm."""

    def __init__(self, dim=16, heads=4, classes=5):
        super().__init__()
        self.proj = nn.Linear(6, dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.proj(x)
        out, _ = self.attention(x, x, x, need_weights=False)
        x = self.norm(x + out)
        return self.fc(x[:, -1])


class Translator(nn.Module):
    """An encoder and a decoder that attends to it: `nn.Transformer`'s parts."""

    def __init__(self, vocabulary=25, dim=16, steps=7):
        super().__init__()
        self.src = nn.Embedding(vocabulary, dim)
        self.tgt = nn.Embedding(vocabulary, dim)
        self.encoder = nn.TransformerEncoderLayer(
            dim, 2, 24, dropout=0.0, batch_first=True
        )
        self.decoder = nn.TransformerDecoderLayer(
            dim, 2, 24, dropout=0.0, batch_first=True
        )
        mask = nn.Transformer.generate_square_subsequent_mask(steps)
        self.register_buffer("tgt_mask", mask)
        self.generator = nn.Linear(dim, vocabulary)

    def forward(self, src, tgt):
        memory = self.encoder(self.src(src))
        out = self.decoder(
            self.tgt(tgt), memory, tgt_mask=self.tgt_mask, tgt_is_causal=True
        )
        return self.generator(out)


class CausalSelfAttention(nn.Module):
    """nanoGPT's: q, k and v in one linear layer, split along the width."""

    def __init__(self, dim, heads, flash, steps):
        super().__init__()
        self.c_attn = nn.Linear(dim, 3 * dim)
        self.c_proj = nn.Linear(dim, dim)
        self.attn_dropout = nn.Dropout(0.0)
        self.resid_dropout = nn.Dropout(0.1)
        self.n_head, self.n_embd, self.flash = heads, dim, flash
        if not flash:
            bias = torch.tril(torch.ones(steps, steps)).view(1, 1, steps, steps)
            self.register_buffer("bias", bias)

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        if self.flash:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            att = F.softmax(att, dim=-1)
            att = self.attn_dropout(att)
            y = att @ v
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class NewGELU(nn.Module):
    """GPT-2's, written out."""

    def forward(self, x):
        c = math.sqrt(2.0 / math.pi)
        return 0.5 * x * (1.0 + torch.tanh(c * (x + 0.044715 * torch.pow(x, 3.0))))


class GPTBlock(nn.Module):
    def __init__(self, dim, heads, flash, steps):
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.attn = CausalSelfAttention(dim, heads, flash, steps)
        self.ln_2 = nn.LayerNorm(dim)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(dim, 4 * dim),
                "c_proj": nn.Linear(4 * dim, dim),
                "act": nn.GELU(approximate="tanh") if flash else NewGELU(),
                "dropout": nn.Dropout(0.1),
            }
        )
        m = self.mlp
        self.mlpf = lambda x: m["dropout"](m["c_proj"](m["act"](m["c_fc"](x))))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlpf(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary=40, dim=24, heads=3, steps=8, flash=True):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocabulary, dim),
                "wpe": nn.Embedding(steps, dim),
                "drop": nn.Dropout(0.1),
                "h": nn.ModuleList(
                    [GPTBlock(dim, heads, flash, steps) for _ in range(2)]
                ),
                "ln_f": nn.LayerNorm(dim),
            }
        )
        self.lm_head = nn.Linear(dim, vocabulary, bias=False)
        self.transformer.wte.weight = self.lm_head.weight  # tied

    def forward(self, idx):
        _b, t = idx.size()
        pos = torch.arange(0, t, dtype=torch.long, device=idx.device).unsqueeze(0)
        tok_emb = self.transformer.wte(idx)
        pos_emb = self.transformer.wpe(pos)
        x = self.transformer.drop(tok_emb + pos_emb)
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))


class BertSelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.num_attention_heads, self.attention_head_size = heads, dim // heads
        self.all_head_size = dim
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.1)

    def transpose_for_scores(self, x):
        shape = (*x.size()[:-1], self.num_attention_heads, self.attention_head_size)
        return x.view(shape).permute(0, 2, 1, 3)

    def forward(self, hidden):
        key = self.transpose_for_scores(self.key(hidden))
        value = self.transpose_for_scores(self.value(hidden))
        query = self.transpose_for_scores(self.query(hidden))
        scores = torch.matmul(query, key.transpose(-1, -2))
        scores = scores / math.sqrt(self.attention_head_size)
        probs = self.dropout(nn.functional.softmax(scores, dim=-1))
        context = torch.matmul(probs, value)
        context = context.permute(0, 2, 1, 3).contiguous()
        return context.view((*context.size()[:-2], self.all_head_size))


class BertLayer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.self = BertSelfAttention(dim, heads)
        self.output = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-12)
        self.intermediate = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)
        self.output_norm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        x = self.attention_norm(self.dropout(self.output(self.self(x))) + x)
        y = self.down(F.gelu(self.intermediate(x)))
        return self.output_norm(self.dropout(y) + x)


class Bert(nn.Module):
    """Words, kinds of token and positions are embedded; a pooler reads the first."""

    def __init__(self, vocabulary=40, dim=16, heads=2, steps=12, classes=3):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.position_embeddings = nn.Embedding(steps, dim)
        self.token_type_embeddings = nn.Embedding(2, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("position_ids", torch.arange(steps).expand((1, -1)))
        self.layer = nn.ModuleList([BertLayer(dim, heads) for _ in range(2)])
        self.pooler = nn.Linear(dim, dim)
        self.classifier = nn.Linear(dim, classes)

    def forward(self, input_ids, token_type_ids):
        seq_length = input_ids.size(1)
        embeddings = self.word_embeddings(input_ids)
        embeddings = embeddings + self.token_type_embeddings(token_type_ids)
        position_ids = self.position_ids[:, :seq_length]
        embeddings += self.position_embeddings(position_ids)
        x = self.dropout(self.LayerNorm(embeddings))
        for layer in self.layer:
            x = layer(x)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return self.classifier(self.dropout(pooled))


class DistilBert(nn.Module):
    """Heads by views, `F.scaled_dot_product_attention`, a head for masked tokens."""

    def __init__(self, vocabulary=40, dim=16, heads=4, steps=10):
        super().__init__()
        self.heads = heads
        self.word_embeddings = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.position_embeddings = nn.Embedding(steps, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.q_lin, self.k_lin = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_lin, self.out_lin = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.sa_norm = nn.LayerNorm(dim, eps=1e-12)
        self.lin1, self.lin2 = nn.Linear(dim, 32), nn.Linear(32, dim)
        self.out_norm = nn.LayerNorm(dim, eps=1e-12)
        self.vocab_transform = nn.Linear(dim, dim)
        self.vocab_norm = nn.LayerNorm(dim, eps=1e-12)
        self.vocab_projector = nn.Linear(dim, vocabulary)
        self.vocab_projector.weight = self.word_embeddings.weight  # tied
        self.register_buffer("ids", torch.arange(steps).expand((1, -1)), False)

    def forward(self, input_ids):
        bs, steps = input_ids.shape
        x = self.word_embeddings(input_ids)
        x = self.norm(x + self.position_embeddings(self.ids[:, :steps]))
        dim_per_head = x.shape[-1] // self.heads

        def shape(y):
            return y.view(bs, -1, self.heads, dim_per_head).transpose(1, 2)

        q, k, v = shape(self.q_lin(x)), shape(self.k_lin(x)), shape(self.v_lin(x))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0, is_causal=False)
        y = y.transpose(1, 2).contiguous().view(bs, -1, self.heads * dim_per_head)
        x = self.sa_norm(self.out_lin(y) + x)
        x = self.out_norm(self.lin2(F.gelu(self.lin1(x))) + x)
        x = self.vocab_norm(F.gelu(self.vocab_transform(x)))
        return self.vocab_projector(x)


class LlamaRMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)


def rotate_half(x):
    x1 = x[..., : x.shape[-1] // 2]
    x2 = x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


def repeat_kv(hidden_states, n_rep):
    batch, heads, steps, head_dim = hidden_states.shape
    hidden_states = hidden_states[:, :, None, :, :].expand(
        batch, heads, n_rep, steps, head_dim
    )
    return hidden_states.reshape(batch, heads * n_rep, steps, head_dim)


class LlamaAttention(nn.Module):
    def __init__(self, dim, heads, kv_heads):
        super().__init__()
        self.head_dim = dim // heads
        self.groups = heads // kv_heads
        self.q_proj = nn.Linear(dim, heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(heads * self.head_dim, dim, bias=False)

    def forward(self, x, cos, sin):
        shape = (*x.shape[:-1], -1, self.head_dim)
        q = self.q_proj(x).view(shape).transpose(1, 2)
        k = self.k_proj(x).view(shape).transpose(1, 2)
        v = self.v_proj(x).view(shape).transpose(1, 2)
        q = (q * cos) + (rotate_half(q) * sin)
        k = (k * cos) + (rotate_half(k) * sin)
        k, v = repeat_kv(k, self.groups), repeat_kv(v, self.groups)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = out.transpose(1, 2).contiguous()
        return self.o_proj(out.reshape(*x.shape[:-1], -1))


class LlamaMLP(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    def __init__(self, dim, heads, kv_heads):
        super().__init__()
        self.input_layernorm = LlamaRMSNorm(dim)
        self.self_attn = LlamaAttention(dim, heads, kv_heads)
        self.post_attention_layernorm = LlamaRMSNorm(dim)
        self.mlp = LlamaMLP(dim, 40)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, vocabulary=40, dim=24, heads=4, kv_heads=2, steps=8):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, dim)
        self.layers = nn.ModuleList(
            [LlamaLayer(dim, heads, kv_heads) for _ in range(2)]
        )
        self.norm = LlamaRMSNorm(dim)
        self.lm_head = nn.Linear(dim, vocabulary, bias=False)
        head_dim = dim // heads
        inv_freq = 1.0 / (10000.0 ** (torch.arange(0, head_dim, 2) / head_dim))
        self.register_buffer("inv_freq", inv_freq, persistent=False)

    def forward(self, input_ids):
        x = self.embed_tokens(input_ids)
        position = torch.arange(input_ids.shape[1], device=x.device).float()
        freqs = torch.outer(position, self.inv_freq)
        emb = torch.cat((freqs, freqs), dim=-1)
        cos, sin = emb.cos()[None, None], emb.sin()[None, None]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.norm(x))


class RMSNormLM(nn.Module):
    """`nn.RMSNorm`, multi-query attention, a gated MLP with packed halves."""

    def __init__(self, vocabulary=30, dim=16, heads=4):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.embed = nn.Embedding(vocabulary, dim)
        self.norm1 = nn.RMSNorm(dim, eps=1e-5)
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, 2 * self.head_dim, bias=False)
        self.o = nn.Linear(dim, dim, bias=False)
        self.norm2 = nn.RMSNorm(dim, eps=1e-5)
        self.w12 = nn.Linear(dim, 2 * 24)
        self.w3 = nn.Linear(24, dim)
        self.norm = nn.RMSNorm(dim, eps=1e-5)

    def forward(self, ids):
        x = self.embed(ids)
        b, t, d = x.shape
        h = self.norm1(x)
        q = self.q(h).view(b, t, self.heads, self.head_dim).transpose(1, 2)
        k, v = self.kv(h).view(b, t, 1, 2 * self.head_dim).transpose(1, 2).chunk(2, -1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, d))
        x1, x2 = self.w12(self.norm2(x)).chunk(2, dim=-1)
        x = x + self.w3(F.silu(x1) * x2)
        return F.linear(self.norm(x), self.embed.weight)


class Perceiver(nn.Module):
    """Learned queries that attend to a sequence."""

    def __init__(self, features=6, dim=16, queries=4, classes=3):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(queries, dim) * 0.2)
        self.inputs = nn.Linear(features, dim)
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 32), nn.GELU(), nn.Linear(32, dim))
        self.fc = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.inputs(x)
        queries = self.latents.unsqueeze(0).expand(x.size(0), -1, -1)
        out = queries + self.attention(queries, x, x, need_weights=False)[0]
        out = out + self.mlp(self.norm(out))
        return self.fc(out.mean(1))


class RecommendByAttention(nn.Module):
    """SASRec: masked self-attention over what somebody has bought."""

    def __init__(self, items=30, dim=16, steps=7):
        super().__init__()
        self.item_emb = nn.Embedding(items, dim, padding_idx=0)
        self.pos_emb = nn.Parameter(torch.randn(steps, dim) * 0.1)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-8)
        self.attention = nn.MultiheadAttention(dim, 1, batch_first=True)
        self.conv1 = nn.Conv1d(dim, dim, kernel_size=1)
        self.conv2 = nn.Conv1d(dim, dim, kernel_size=1)
        self.last_norm = nn.LayerNorm(dim, eps=1e-8)
        mask = ~torch.tril(torch.ones((steps, steps), dtype=torch.bool))
        self.register_buffer("attention_mask", mask)

    def forward(self, log_seqs):
        seqs = self.item_emb(log_seqs)
        seqs *= self.item_emb.embedding_dim**0.5
        seqs += self.pos_emb
        q = self.attention_norm(seqs)
        out, _ = self.attention(q, seqs, seqs, attn_mask=self.attention_mask)
        seqs = q + out
        y = self.conv2(F.relu(self.conv1(seqs.transpose(-1, -2)))).transpose(-1, -2)
        seqs = self.last_norm(seqs + y)
        return seqs.matmul(self.item_emb.weight.t())


@model("transformer_encoder")
def transformer_encoder():
    return EncoderClassifier(), (tokens(3, 8, 40),), "cross_softmax"


@model("transformer_pre_norm")
def transformer_pre_norm():
    net = EncoderClassifier(norm_first=True)
    return net, (tokens(3, 8, 40),), "cross_softmax"


@model("transformer_causal")
def transformer_causal():
    return CausalLanguageModel(), (tokens(3, 8, 30),), TOKENS


@model("self_attention")
def self_attention():
    return SelfAttention(), (torch.randn(3, 7, 6),), "cross_softmax"


@model("transformer_decoder")
def transformer_decoder():
    return Translator(), (tokens(3, 9, 25), tokens(3, 7, 25)), TOKENS


@model("gpt")
def gpt():
    return GPT(), (tokens(3, 8, 40),), TOKENS


@model("gpt_written_out")
def gpt_written_out():
    return GPT(flash=False), (tokens(3, 8, 40),), TOKENS


@model("bert")
def bert():
    kinds = (torch.arange(10) > 5).long().expand(3, -1).contiguous()
    return Bert(), (tokens(3, 10, 40), kinds), "cross_softmax"


@model("distilbert")
def distilbert():
    return DistilBert(), (tokens(3, 10, 40),), TOKENS


@model("llama")
def llama():
    return Llama(), (tokens(3, 8, 40),), TOKENS


@model("rmsnorm_multi_query")
def rmsnorm_multi_query():
    return RMSNormLM(), (tokens(3, 8, 30),), TOKENS


@model("perceiver")
def perceiver():
    return Perceiver(), (torch.randn(3, 9, 6),), "cross_softmax"


@model("sasrec")
def sasrec():
    return RecommendByAttention(), (tokens(3, 7, 30),), TOKENS
