"""What searching and training share: epochs of steps, and exact resume."""
