"""Training with TRL's SFTTrainer on rows that are already encoded."""
