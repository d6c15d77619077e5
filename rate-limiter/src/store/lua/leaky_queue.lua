-- Leaky bucket as a queue: GCRA whose admitted requests wait for the work ahead of them.
-- Needs gcra.lua before it.
algorithms['leaky-queue'] = gcra
