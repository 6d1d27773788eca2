"""Every test computes on one thread: results are a function of the number, and tests run side by side."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits

torch.set_num_threads(1)
threadpool_limits(1)
