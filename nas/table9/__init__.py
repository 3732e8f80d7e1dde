"""The paper's Table 9 as one command: jobs, where they run, what they say."""
