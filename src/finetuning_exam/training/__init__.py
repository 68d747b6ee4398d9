"""Training with TRL's SFTTrainer on rows that are encoded in advance."""
