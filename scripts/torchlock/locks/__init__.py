"""What was chosen: locks and what is rendered from them."""
