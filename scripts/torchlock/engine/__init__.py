"""Docker: images loaded into it by digest, smoked in containers, and the evidence of that."""
