"""The same job done by several contestants, side by side: how much of the detector each of them uses, and at what cost."""
