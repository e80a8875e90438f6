"""How well refusals with status 200 are told from answers that resemble them."""
