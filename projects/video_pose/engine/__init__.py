"""Set-up, optimizer, checkpoints, training loop and evaluation, on CPU and GPU alike."""
