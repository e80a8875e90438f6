"""How much of a rate limit the rate limiter uses, and what that costs in rejections."""
