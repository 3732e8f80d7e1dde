"""The tables of papers, measured: jobs, where they run, what they say."""
