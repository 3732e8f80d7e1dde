"""What the commands do, as functions for a notebook, and what they give back."""
