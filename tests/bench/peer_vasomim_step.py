"""The step of vasomim_step.lua in PyTorch: same model, losses and optimizer, f32, CPU.
Usage: peer_vasomim_step.py MODEL BATCH THREADS. Prints one line that the Lua side reads."""
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

name, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)
DIM, DEPTH, HEADS = {"vit_tiny": (192, 12, 3), "vit_small": (384, 12, 6),
                     "vit_base": (768, 12, 12), "vit_large": (1024, 24, 16)}[name]
PATCH, SIDE = 16, 14
LENGTH = SIDE * SIDE


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        n, length, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(n, length, dim))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Mae(nn.Module):
    def __init__(self, dim, depth, heads, ddim=512, ddepth=8, dheads=16):
        super().__init__()
        self.embed = nn.Conv2d(3, dim, PATCH, PATCH)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("pos", torch.randn(1, LENGTH + 1, dim) * 0.5)
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.dembed = nn.Linear(dim, ddim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, ddim))
        self.register_buffer("dpos", torch.randn(1, LENGTH + 1, ddim) * 0.5)
        self.dblocks = nn.Sequential(*[Block(ddim, dheads) for _ in range(ddepth)])
        self.dnorm = nn.LayerNorm(ddim, eps=1e-6)
        self.pred = nn.Linear(ddim, PATCH * PATCH * 3)

    def forward(self, x, keep, restore):
        t = self.embed(x).flatten(2).transpose(1, 2) + self.pos[:, 1:]
        t = torch.gather(t, 1, keep[..., None].expand(-1, -1, t.shape[2]))
        c = (self.cls + self.pos[:, :1]).expand(x.shape[0], -1, -1)
        t = self.dembed(self.norm(self.blocks(torch.cat([c, t], 1))))
        m = self.mask_token.expand(x.shape[0], LENGTH + 1 - t.shape[1], -1)
        u = torch.cat([t[:, 1:], m], 1)
        u = torch.gather(u, 1, restore[..., None].expand(-1, -1, u.shape[2]))
        u = torch.cat([t[:, :1], u], 1) + self.dpos
        return self.pred(self.dnorm(self.dblocks(u)))[:, 1:]


class Shift(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dw = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)

    def shift(self, x, h, w, axis):
        n, _, c = x.shape
        m = F.pad(x.transpose(1, 2).reshape(n, c, h, w), (2, 2, 2, 2))
        m = torch.cat([torch.roll(p, s, axis) for p, s in zip(torch.chunk(m, 5, 1), range(-2, 3))], 1)
        return m[:, :, 2:2 + h, 2:2 + w].flatten(2).transpose(1, 2)

    def forward(self, x, h, w):
        y = self.fc1(self.shift(self.norm(x), h, w, 2))
        n, _, c = y.shape
        y = self.dw(y.transpose(1, 2).reshape(n, c, h, w)).flatten(2).transpose(1, 2)
        return x + self.fc2(self.shift(F.gelu(y), h, w, 3))


class Unext(nn.Module):
    def __init__(self):
        super().__init__()
        conv = lambda a, b: nn.Conv2d(a, b, 3, 1, 1)
        self.e = nn.ModuleList([conv(3, 8), conv(8, 16), conv(16, 32)])
        self.eb = nn.ModuleList([nn.BatchNorm2d(c) for c in (8, 16, 32)])
        self.p3, self.p4 = nn.Conv2d(32, 64, 3, 2, 1), nn.Conv2d(64, 128, 3, 2, 1)
        self.n3, self.n4, self.d3, self.d4 = (nn.LayerNorm(c) for c in (64, 128, 64, 32))
        self.pn3, self.pn4 = nn.LayerNorm(64), nn.LayerNorm(128)
        self.b1, self.b2, self.b3, self.b4 = Shift(64), Shift(128), Shift(64), Shift(32)
        self.d = nn.ModuleList([conv(128, 64), conv(64, 32), conv(32, 16), conv(16, 8), conv(8, 8)])
        self.db = nn.ModuleList([nn.BatchNorm2d(c) for c in (64, 32, 16, 8)] + [nn.Identity()])
        self.final = nn.Conv2d(8, 1, 1)

    @staticmethod
    def tokens(x, norm, block, final):
        n, c, h, w = x.shape
        t = x.flatten(2).transpose(1, 2)
        t = final(block(norm(t) if norm else t, h, w))
        return t.transpose(1, 2).reshape(n, c, h, w)

    def up(self, i, x):
        return F.relu(F.interpolate(self.db[i](self.d[i](x)), scale_factor=2, mode="bilinear"))

    def forward(self, x):
        skips = []
        for conv, norm in zip(self.e, self.eb):
            x = F.relu(F.max_pool2d(norm(conv(x)), 2))
            skips.append(x)
        t4 = self.tokens(self.p3(x), self.pn3, self.b1, self.n3)
        x = self.tokens(self.p4(t4), self.pn4, self.b2, self.n4)
        x = self.tokens(self.up(0, x) + t4, None, self.b3, self.d3)
        x = self.tokens(self.up(1, x) + skips[2], None, self.b4, self.d4)
        x = self.up(2, x) + skips[1]
        x = self.up(3, x) + skips[0]
        return self.final(self.up(4, x))


def patchify(x):
    n = x.shape[0]
    x = x.view(n, 3, SIDE, PATCH, SIDE, PATCH)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, LENGTH, -1)


def unpatchify(p):
    n = p.shape[0]
    return p.view(n, SIDE, SIDE, PATCH, PATCH, 3).permute(0, 5, 1, 3, 2, 4).reshape(n, 3, 224, 224)


model, segmentor = Mae(DIM, DEPTH, HEADS), Unext().eval().requires_grad_(False)
optimizer = torch.optim.AdamW(model.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.05)
image = torch.randn(batch, 3, 224, 224)


def step():
    with torch.no_grad():
        vessels = segmentor(image).sigmoid()
    order = torch.rand(batch, LENGTH).argsort(1)
    restore = order.argsort(1)
    keep = order[:, :LENGTH - LENGTH // 2]
    mask = (restore >= keep.shape[1]).float()
    pred = model(image, keep, restore)
    target = patchify(image)
    mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
    std = (var + 1e-6).sqrt()
    rec = ((((target - mean) / std - pred) ** 2).mean(-1) * mask).sum() / mask.sum()
    cons = F.binary_cross_entropy_with_logits(segmentor(unpatchify(pred * std + mean)), vessels)
    (rec + cons).backward()
    optimizer.step()
    optimizer.zero_grad()
    return (rec + cons).item()


for _ in range(3):
    loss = step()
best = 1e9
for _ in range(5):
    start = time.perf_counter()
    loss = step()
    best = min(best, time.perf_counter() - start)
assert loss == loss
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** 2
print(f"pytorch  {torch.__version__} {name} batch {batch}: {batch / best:.2f} images/s, peak {peak:.2f} GiB")
