"""`python -m gapless`: the command line."""

from gapless.cli import run

if __name__ == "__main__":
    run()
