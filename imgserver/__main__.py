"""`python -m imgserver` and the console script."""

from imgserver.cli import main

if __name__ == "__main__":
    main()
