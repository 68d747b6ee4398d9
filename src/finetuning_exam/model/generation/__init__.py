"""Generated answers: many prompts in one batch, base and tuned model side by side."""
