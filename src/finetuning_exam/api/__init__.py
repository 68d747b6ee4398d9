"""The public functions: plain, typed, and without printing; the command line calls them."""
