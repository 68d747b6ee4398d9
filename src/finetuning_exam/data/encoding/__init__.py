"""From examples to token ids and labels: the text a model sees, its tokens and its length."""
