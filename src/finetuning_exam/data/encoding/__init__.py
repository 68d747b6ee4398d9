"""From examples to ids and labels: the text a model sees, its tokens, and how long they are."""
