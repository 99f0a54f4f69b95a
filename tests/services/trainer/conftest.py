"""One thread: tiny networks gain nothing from more, and wait for each other on a busy machine."""

import torch

torch.set_num_threads(1)
