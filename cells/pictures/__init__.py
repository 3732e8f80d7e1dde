"""A cell as a picture: diagrams, figures for papers, frames of an animation."""
