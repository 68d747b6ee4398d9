"""Training methods: the rows each one trains on and the loss it minimises."""
