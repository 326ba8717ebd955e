"""`python -m flaxft` is the program `flaxft`."""

from flaxft.main import console

if __name__ == "__main__":
    console()
