-- Values over time. `progress` and `total` are in the same unit (epochs, steps); both may be
-- fractions. Pure functions, so that a resumed run sees the same values.
local schedule = {}

-- From start (at 0) to stop (at total) in a straight line.
-- -> number
--   > lumen.schedule.linear(0, 0.5, 200, 800)
--   0.125
function schedule.linear(start, stop, progress, total)
  return start + progress / total * (stop - start)
end

-- Linear warm-up from 0 to lr over `warmup`, then half a cosine down to min_lr (default 0).
-- -> number
--   > for _, step in ipairs { 0, 5, 10, 55, 100 } do
--   >   print(lumen.schedule.warmup_cosine(1e-3, step, 100, 10))
--   > end
--   0.0
--   0.0005
--   0.001
--   0.0005
--   0.0
function schedule.warmup_cosine(lr, progress, total, warmup, min_lr)
  warmup, min_lr = warmup or 0, min_lr or 0
  if progress < warmup then return lr * progress / warmup end
  local t = (progress - warmup) / math.max(total - warmup, 1e-12)
  return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * math.min(t, 1)))
end

-- lr * (1 - progress / total) ^ power; power is 0.9.
-- -> number
--   > lumen.schedule.poly(1e-3, 50, 100)
--   0.00053589
function schedule.poly(lr, progress, total, power)
  return lr * math.max(0, 1 - progress / total) ^ (power or 0.9)
end

return schedule
