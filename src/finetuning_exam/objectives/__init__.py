"""Training methods: what each trains on, and what it minimises."""
