"""The pretrained net, and what made its file."""
