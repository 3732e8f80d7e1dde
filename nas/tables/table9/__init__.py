"""Table 9 of the sandglass paper: jobs, comparisons, results, their page."""
