"""What is wanted: profiles, read strictly, and the rules that they are held to."""
