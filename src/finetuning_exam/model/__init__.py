"""The base model, where it runs, its adapter, and the likelihood it gives to text."""
