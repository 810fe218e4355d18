#!/usr/bin/env python3
"""Trains the same GPT with PyTorch, eager and compiled, and with train_gpt, in turn; prints tokens a second.

usage: compare_pytorch.py [--bin build/bin] [--device cpu] [--torch-device cpu] [--precision f32] [--rounds 3] [--steps 12]
                          [--layers 6] [--dim 384] [--heads 6] [--seq 256] [--batch 8] [--json FILE]

Needs an interpreter that has torch. Machines are noisy: the sides take turns, each figure is the best round's median
step, and what counts are the ratios at the end.
"""
import argparse
import contextlib
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY = 256
SIZES = dict(layers=6, dim=384, heads=6, seq=256, batch=8)
SETTINGS = dict(lr=6e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
CLIP = 1.0
WARM_STEPS = 3


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.heads = size.heads
        self.ln_1, self.ln_2 = nn.LayerNorm(size.dim), nn.LayerNorm(size.dim)
        self.c_attn, self.c_proj = nn.Linear(size.dim, 3 * size.dim), nn.Linear(size.dim, size.dim)
        self.c_fc, self.c_out = nn.Linear(size.dim, 4 * size.dim), nn.Linear(4 * size.dim, size.dim)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, size.dim), nn.Embedding(size.seq, size.dim)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.ln_f = nn.LayerNorm(size.dim)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.ln_f(x) @ self.wte.weight.T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def median_rate(size, seconds):
    return size.batch * size.seq / statistics.median(seconds[WARM_STEPS:])


class PyTorchSide:
    def __init__(self, compiled, options):
        torch.manual_seed(1)
        self.size, self.device = options, options.torch_device
        low = options.precision == "bf16"
        self.cast = (lambda: torch.autocast(self.device, torch.bfloat16)) if low else contextlib.nullcontext
        self.model = GPT(options).to(self.device)
        decay = [p for p in self.model.parameters() if p.dim() >= 2]
        other = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [dict(params=decay), dict(params=other, weight_decay=0.0)]
        self.optimizer = torch.optim.AdamW(groups, fused=True, **SETTINGS)
        self.forward = torch.compile(self.model) if compiled else self.model

    def rate(self, steps):
        seconds = []
        for _ in range(steps + WARM_STEPS):
            text = torch.randint(0, VOCABULARY, (self.size.batch, self.size.seq + 1))
            start = time.perf_counter()
            text = text.to(self.device)
            self.optimizer.zero_grad(set_to_none=True)
            with self.cast():
                loss = self.forward(text[:, :-1], text[:, 1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            self.optimizer.step()
            loss.item()
            seconds.append(time.perf_counter() - start)
        return median_rate(self.size, seconds)


class BrimSide:
    def __init__(self, options, folder):
        self.size, self.folder = options, pathlib.Path(folder)
        text = self.folder / "text.txt"
        text.write_bytes(bytes(torch.randint(0, VOCABULARY, (1 << 20,)).tolist()))
        sizes = [word for name in SIZES for word in (f"--{name}", getattr(options, name))]
        self.command = [options.bin / "train_gpt", "--data", text, "--device", options.device, "--precision", options.precision,
                        "--sequential", *sizes]

    def rate(self, steps):
        out = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        command = [*self.command, "--out", out, "--steps", steps + WARM_STEPS]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        return median_rate(self.size, [line["seconds"] for line in lines if "seconds" in line])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/bin", type=pathlib.Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--torch-device", default="cpu")
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"], help="PyTorch: autocast")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--steps", default=12, type=int)
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", default=value, type=int)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sides = {"brim": BrimSide(options, folder),
                 "pytorch eager": PyTorchSide(False, options), "pytorch compiled": PyTorchSide(True, options)}
        best = dict.fromkeys(sides, 0.0)
        for r in range(options.rounds):
            for name, side in sides.items():
                rate = side.rate(options.steps)
                best[name] = max(best[name], rate)
                print(f"round {r + 1}  {name:17s} {rate:8.0f} tokens/s", file=sys.stderr)

    result = dict(torch=torch.__version__, torch_device=options.torch_device, precision=options.precision,
                  threads=torch.get_num_threads(), tokens_per_second=best,
                  ratio_eager=best["brim"] / best["pytorch eager"], ratio_compiled=best["brim"] / best["pytorch compiled"])
    for name, rate in best.items():
        print(f"{name:17s} {rate:8.0f} tokens/s")
    print(f"brim is {result['ratio_eager']:.2f} times eager and {result['ratio_compiled']:.2f} times compiled PyTorch {torch.__version__}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    assert all(math.isfinite(v) for v in best.values())


main()
