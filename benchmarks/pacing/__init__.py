"""How much of a rate limit the pacer uses, and what that costs in rejections."""
