"""Trained networks and genotypes in the forms of other programs, both ways."""
