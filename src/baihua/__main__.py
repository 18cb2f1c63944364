"""`python -m baihua`."""

from baihua.cli.main import main

if __name__ == "__main__":
    main()
