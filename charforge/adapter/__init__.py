"""LoRA on both experts: add, save, load, and prove that it acts."""
