"""conda channels: their snapshot, the solver that conda-lock calls, the locks and what is made from them."""
