"""The explorer: one page that shows latent spaces, walks through them and is shared as one file."""
