"""What a bundle becomes for others: a smaller bundle, a card, a folder for peft, whole weights, a repository."""
