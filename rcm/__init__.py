"""rcm: what compressing an image classifier costs besides accuracy."""
