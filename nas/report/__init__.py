"""A run folder, or a whole Table 9, as one HTML file."""
