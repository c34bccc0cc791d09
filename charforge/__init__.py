"""charforge: few-shot character customization of a unified multimodal model on one GPU."""

__version__ = "0.1.0"
