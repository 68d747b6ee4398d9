"""The base model, its device and adapter, the likelihood of text, and generation."""
