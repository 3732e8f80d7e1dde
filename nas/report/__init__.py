"""Pages, figures and curves of runs, made from what stands in their folders."""
